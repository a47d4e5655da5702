"""Run folders: their files, their checkpoints, and a summary of their events."""
