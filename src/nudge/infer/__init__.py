"""Using a trained model: sampling, the key-value cache, the fast decoder of a CPU."""

DTYPES = ("float32", "bfloat16", "int8")  # what weights can be kept in; in decode.c's order
