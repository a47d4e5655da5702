"""Opening the network."""
