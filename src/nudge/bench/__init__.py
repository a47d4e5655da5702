"""Measuring ourselves beside others: by turns, each in a process of its own, and against the machine's limits."""
