"""This machine: its speed and memory, and what fits into it."""
