"""Run folders: where everything is, checkpoints, and what a run's events say."""
