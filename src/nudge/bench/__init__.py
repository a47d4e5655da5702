"""Benchmarks of nudge and other programs: in turns, each in a separate process, and beside the machine's limits."""
