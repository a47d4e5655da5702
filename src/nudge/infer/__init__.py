"""Using a trained model: sampling and the key-value cache."""
