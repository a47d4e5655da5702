"""What this machine is, what fits into it, and how fast an update is here."""
