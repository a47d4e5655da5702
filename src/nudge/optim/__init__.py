"""How a gradient becomes a step: AdamW, Muon, and the learning rate along a run."""
