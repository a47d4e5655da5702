"""The parameters of a network as the kernels of nudge/fast/native/decode.c read them: float32, bfloat16 or int8.

A matrix is kept as rows of one output each, [n_out, n_in], because a thread then reads memory in one go. There is one
copy: the network's own parameters become views of it (transposed, so that their shape stays [n_in, n_out]) and the
network goes on working. int8 comes on top of bfloat16, which prompts are read with.
"""

import ctypes
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nudge.config import ModelConfig
from nudge.fast import DTYPES, native_loader
from nudge.fast.huge_pages import huge_pages
from nudge.fast.kernels import Kernels
from nudge.model.gpt import GPT

DType = Literal["float32", "bfloat16", "int8"]
GROUP = 64  # as in decode.c: activations that share a scale, and what rows of int8 are padded to


class CMatrix(ctypes.Structure):
    """decode.c's Matrix."""

    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("n_in", ctypes.c_int64),
        ("n_out", ctypes.c_int64),
    )


class CLayer(ctypes.Structure):
    """decode.c's Layer."""

    _fields_ = (
        *((f"{norm}_{what}", ctypes.c_void_p) for norm in ("ln_1", "ln_2") for what in ("weight", "bias")),
        *((name, CMatrix) for name in ("c_attn", "attn_proj", "c_fc", "mlp_proj")),
    )


class CModel(ctypes.Structure):
    """decode.c's Model."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("type", "n_layer", "n_head", "n_embd")),
        ("layers", ctypes.POINTER(CLayer)),
        ("ln_f_weight", ctypes.c_void_p),
        ("ln_f_bias", ctypes.c_void_p),
        ("head", CMatrix),
        ("wte", ctypes.c_void_p),
        ("wpe", ctypes.c_void_p),
    )


class CSequence(ctypes.Structure):
    """decode.c's Sequence."""

    _fields_ = (
        ("k", ctypes.c_void_p),
        ("v", ctypes.c_void_p),
        ("room", ctypes.c_int64),
        ("n_tokens", ctypes.c_int64),
    )


def supports(config: ModelConfig) -> str | None:
    """Why the kernels cannot compute this network, in a few words; None: they can."""
    return None if config.is_gpt2 else f"they know plain GPT-2 only, not {' and '.join(config.departures)}"


class Matrix:
    """A product y = x W^T + bias, ready for decode.c and, with the many tokens of a prompt, for PyTorch.

    `weight` [n_out, n_in] is float32 or bfloat16; `int8` are its rows as (128 + the number, scale of each row).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, int8: tuple[Tensor, Tensor] | None) -> None:
        self.weight, self.bias, self.int8 = weight, bias, int8
        self._low_bias = None if bias is None else bias.to(weight.dtype)

    def c(self) -> CMatrix:
        n_out, n_in = self.weight.shape
        weight, scale = self.int8 or (self.weight, None)
        return CMatrix(weight.data_ptr(), address(scale), address(self.bias), n_in, n_out)

    def of(self, x: Tensor, *, gelu: bool = False) -> Tensor:
        """x [M, n_in] -> [M, n_out], of the weight's type."""
        if not onednn_multiplies(x.dtype):
            y = F.linear(x, self.weight, self._low_bias)
            return F.gelu(y, approximate="tanh") if gelu else y
        # Not F.linear, which takes MKL for float32: on AMD's processors MKL leaves half of their speed unused.
        then, form = ("gelu", "tanh") if gelu else ("none", "")
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self._low_bias, then, [], form)


def onednn_multiplies(dtype: torch.dtype) -> bool:
    """Whether PyTorch's oneDNN product of a matrix with bias and GELU is here and at home on this processor."""
    ops = torch.ops.mkldnn
    if not (torch.backends.mkldnn.is_available() and hasattr(ops, "_linear_pointwise")):
        return False
    return dtype == torch.float32 or bool(ops._is_mkldnn_bf16_supported())


def address(tensor: Tensor | None) -> int | None:
    """Where a tensor's numbers are, for C."""
    return None if tensor is None else tensor.data_ptr()


class Layer:
    """The parameters of one block."""

    def __init__(self, norms: list[Tensor], matrices: list[Matrix]) -> None:
        self.ln_1, self.ln_2 = (norms[0], norms[1]), (norms[2], norms[3])
        self.c_attn, self.attn_proj, self.c_fc, self.mlp_proj = matrices

    def c(self) -> CLayer:
        matrices = (self.c_attn, self.attn_proj, self.c_fc, self.mlp_proj)
        return CLayer(*(t.data_ptr() for t in (*self.ln_1, *self.ln_2)), *(matrix.c() for matrix in matrices))


class Weights:
    """What decoding reads. It takes the network's parameters over: they become views of this, of dtype `torch_dtype`.

    Raises: UnavailableError, before anything is changed, if the kernels cannot be had or know no such network.
    """

    def __init__(self, network: GPT, dtype: DType = "float32") -> None:
        self.kernels = kernels(network)
        self.config, self.dtype = network.config, dtype
        self.torch_dtype = torch.float32 if dtype == "float32" else torch.bfloat16
        self.prompt_kernels = Kernels(self.torch_dtype)
        sizes = [2 * p.numel() for p in network.parameters() if p.dim() == 2]
        place = _arena(sum(size * self.torch_dtype.itemsize // 2 + 64 for size in sizes))
        vectors = {name: p.detach().float().clone() for name, p in network.named_parameters() if p.dim() == 1}
        int8 = quantize if dtype == "int8" else lambda _: None

        def matrix(name: str) -> Matrix:
            parameter = network.get_parameter(f"{name}.weight")
            exact = parameter.detach().t()
            parameter.data = place(exact, self.torch_dtype).t()
            return Matrix(parameter.data.t(), vectors[f"{name}.bias"], int8(exact))

        self.layers = []
        for i in range(self.config.n_layer):
            block = f"blocks.{i}."
            norms = [vectors[f"{block}{norm}.{what}"] for norm in ("ln_1", "ln_2") for what in ("weight", "bias")]
            names = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
            self.layers.append(Layer(norms, [matrix(block + name) for name in names]))
        exact = network.wte.weight.detach()
        network.wte.weight.data = place(exact, self.torch_dtype)
        self.head = Matrix(network.wte.weight.data, None, int8(exact))
        self.wpe = network.wpe.weight.detach().float()
        self.ln_f = (vectors["ln_f.weight"], vectors["ln_f.bias"])
        network.to(self.torch_dtype)
        self._c_layers = (CLayer * self.config.n_layer)(*(layer.c() for layer in self.layers))
        self.c = CModel(
            DTYPES.index(dtype),
            self.config.n_layer,
            self.config.n_head,
            self.config.n_embd,
            self._c_layers,
            *(t.data_ptr() for t in self.ln_f),
            self.head.c(),
            self.head.weight.data_ptr(),
            self.wpe.data_ptr(),
        )


def take_over(network: GPT, dtype: DType) -> tuple[Weights | None, str | None]:
    """A network's weights for the fast decoder; or None, the network itself in `dtype`, and why, in one line."""
    try:
        return Weights(network, dtype), None
    except native_loader.UnavailableError as error:
        if dtype != "float32":
            network.to(torch.bfloat16)
        instead = " in bfloat16 instead of int8" if dtype == "int8" else ""
        return None, f"plain PyTorch decodes{instead}, not the compiled kernels: {error}"


def kernels(network: GPT) -> ctypes.CDLL:
    """The compiled kernels for a network. Raises: native_loader.UnavailableError with the reason in one line."""
    reason = supports(network.config)
    if network.wte.weight.device.type != "cpu":
        reason = f"the network is on {network.wte.weight.device.type}"
    if reason:
        raise native_loader.UnavailableError(reason)
    library = native_loader.load("decode")
    pointer, number, threads = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
    library.nudge_workspace.restype, library.nudge_workspace.argtypes = number, [pointer, number, number, threads]
    library.nudge_tokens.restype = None
    library.nudge_tokens.argtypes = [pointer, pointer, pointer, number, number, pointer, pointer, threads]
    return library


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight [n_out, n_in] -> 128 + round(weight / scale) as bytes [n_out, n_in padded to GROUP], scale [n_out].

    The largest of a row becomes 127 or -127. The 128 makes bytes unsigned, as the processor's int8 instruction wants.
    """
    scale = weight.abs().amax(1, keepdim=True).float() / 127
    n_padded = -(-weight.size(1) // GROUP) * GROUP
    rows = _arena(weight.size(0) * n_padded)(torch.empty(weight.size(0), n_padded, dtype=torch.uint8), torch.uint8)
    rows.fill_(128)
    rows[:, : weight.size(1)] = (weight / scale.clamp(min=torch.finfo(torch.float32).tiny)).round_().add_(128)
    return rows, scale[:, 0].contiguous()


def _arena(n_bytes: int) -> Callable[[Tensor, torch.dtype], Tensor]:
    """A function that copies a tensor to the next free place in memory of huge pages, rounded to a dtype."""
    everything = huge_pages(n_bytes)
    start = 0

    def place(tensor: Tensor, dtype: torch.dtype) -> Tensor:
        nonlocal start
        size = tensor.numel() * dtype.itemsize
        view = everything[start : start + size].view(dtype).view(tensor.shape)
        start += -(-size // 64) * 64
        return view.copy_(tensor)

    return place
