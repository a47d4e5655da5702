"""Measuring ourselves beside others: every contender in a process of its own, by turns, against the machine's limits."""
