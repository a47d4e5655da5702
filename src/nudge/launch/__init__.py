"""Files that run a training on several processes or machines as a job of torchrun, Slurm or SkyPilot. No torch."""
