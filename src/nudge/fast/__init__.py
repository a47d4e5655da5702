"""The fast versions of code that is written plainly elsewhere: the update and the decoder for a CPU, with C kernels."""

DTYPES = ("float32", "bfloat16", "int8")  # of the decoder's weights, in decode.c's order
