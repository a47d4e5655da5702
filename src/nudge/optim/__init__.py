"""The optimizers: AdamW, Muon, and the learning rate of each update."""
