"""Benchmarks of nudge beside other programs: by turns, each in its own process, and against the machine's limits."""
