"""The training loop, and how a run starts, stops and resumes."""
