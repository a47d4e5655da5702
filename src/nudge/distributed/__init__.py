"""A run in several processes: rendezvous, shared work, failures, sharded weights."""
