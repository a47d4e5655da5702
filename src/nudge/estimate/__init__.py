"""Estimates of a run's time on this machine, before it starts."""
