"""Writing the job that trains on several processes or machines, for an engine that runs jobs already. No torch."""
