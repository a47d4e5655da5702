"""From gradients to a step: AdamW, Muon, and the learning rate of each update."""
