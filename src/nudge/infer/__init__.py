"""The use of a trained model: decoding, sampling, several texts at once."""
