"""How long a run will take on this machine, before it starts."""
