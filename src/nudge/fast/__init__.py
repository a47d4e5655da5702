"""The fast twin of everything that is written plainly elsewhere: the update and the decoder of a CPU, in C kernels."""

DTYPES = ("float32", "bfloat16", "int8")  # what the decoder can keep weights in; in decode.c's order
