"""The C kernels between the products of GPT-2 (nudge/fast/native/layers.c) as functions of contiguous tensors.

What each one computes stands beside the C: `kernels.gelu(N, C, x, bias, y)` is its `gelu`, arguments in the same order.
"""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from nudge.fast import native_loader


class Pointer:
    """How ctypes passes a tensor: by the address of its first number. None where the C says that it may be missing."""

    @classmethod
    def from_param(cls, tensor: Tensor | None) -> ctypes.c_void_p:
        assert tensor is None or tensor.is_contiguous()
        return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


# Of each function: i a whole number, d a double, t a tensor.
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
    """The kernels for products in float32 or bfloat16. Raises: UnavailableError where they cannot be compiled."""

    def __init__(self, compute_dtype: torch.dtype) -> None:
        library = native_loader.load("layers", *(["BF16"] if compute_dtype == torch.bfloat16 else []))
        self._functions = {name: library[name] for name in SIGNATURES}
        for name, function in self._functions.items():
            function.argtypes = [ARGUMENTS[kind] for kind in SIGNATURES[name]]
            function.restype = ctypes.c_double if name == "sum_of_squares" else None

    def __getattr__(self, name: str) -> Callable[..., float]:
        return self._functions[name]
