"""How good a model is: the loss on held-out text, and tasks."""
