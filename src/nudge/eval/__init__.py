"""The quality of a model: the loss on held-out text, and scores on tasks."""
