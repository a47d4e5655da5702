"""The C kernels for everything between GPT-2's matrix products, as functions of contiguous tensors.

`kernels.gelu(N, C, x, bias, y)` calls `gelu` of nudge/fast/native/layers.c with the arguments in the same order. See
there for what each kernel computes.
"""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from nudge.fast import native_loader


class Pointer:
    """A tensor as a ctypes argument: the address of its first number, or NULL for None (where the C code allows it)."""

    @classmethod
    def from_param(cls, tensor: Tensor | None) -> ctypes.c_void_p:
        """Convert an argument; ctypes calls this."""
        assert tensor is None or tensor.is_contiguous()
        return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


# The arguments of each function: i an integer, d a double, t a tensor.
SIGNATURES = {
    "use_threads": "i",
    "residual_norm": "iittttttttt",
    "norm_backward": "iittttttttttt",
    "split_heads": "iiiiittt",
    "merge_heads": "iiiiitttt",
    "softmax": "iiiidt",
    "softmax_backward": "iiiidtt",
    "gelu": "iittt",
    "gelu_backward": "iitttt",
    "cross_entropy": "iiittdt",
    "embedding_backward": "iitttt",
    "accumulate": "itt",
    "sum_of_squares": "itt",
    "adamw": "ittttttdddddddd",
    "momentum": "itttddt",
    "step": "itttdd",
}
ARGUMENTS = {"i": ctypes.c_int64, "d": ctypes.c_double, "t": Pointer}


class Kernels:
    """The kernels for products in float32 or bfloat16. Raises: UnavailableError if they cannot be compiled."""

    def __init__(self, compute_dtype: torch.dtype) -> None:
        library = native_loader.load("layers", *(["BF16"] if compute_dtype == torch.bfloat16 else []))
        self.is_serial = native_loader.is_serial(library)
        self._functions = {name: library[name] for name in SIGNATURES}
        for name, function in self._functions.items():
            function.argtypes = [ARGUMENTS[kind] for kind in SIGNATURES[name]]
            function.restype = ctypes.c_double if name == "sum_of_squares" else None

    def __getattr__(self, name: str) -> Callable[..., float]:
        return self._functions[name]
