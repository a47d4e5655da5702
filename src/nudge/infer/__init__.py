"""Using a trained model: one token after another, sampling, several texts at once."""
