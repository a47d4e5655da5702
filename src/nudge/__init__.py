"""nudge: train a GPT-2, watch it learn, look inside it, and use it."""

__version__ = "0.1.0"
