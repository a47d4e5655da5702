"""How long a run will take here, before it is made."""
