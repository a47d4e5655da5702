"""The parameters of a network as the kernels of nudge/fast/native/decode.c read them: float32, bfloat16 or int8.

A matrix is stored with one row for each output, [n_out, n_in], so that a thread reads memory front to back. There is
one copy: the network's own parameters become views of it (transposed, so that their shape stays [n_in, n_out]), and the
network still works. int8 weights are stored in addition to bfloat16 weights, which prompts use.
"""

import ctypes
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from nudge.config import ModelConfig
from nudge.fast import DTYPES, native_loader
from nudge.fast.huge_pages import huge_pages
from nudge.fast.kernels import Kernels
from nudge.model.gpt import GPT, Block, Linear
from nudge.model.sizes import parameter_counts

DType = Literal["float32", "bfloat16", "int8"]
Norm = tuple[Tensor, Tensor]  # weight and bias of a LayerNorm, float32 [C]
STORE, GELU = 0, 2  # as in decode.c: what a product does with its result
GROUP = 64  # as in dot.h: activations that share a scale; rows of int8 are padded to a multiple of this
CACHE_LINE = 64  # bytes
SMALL = 50_000_000  # parameters


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
        *((name, ctypes.c_void_p) for name in ("ln_1_weight", "ln_1_bias", "ln_2_weight", "ln_2_bias")),
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


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """The weights of a product y = x W^T + bias: for decode.c and, to read prompts, for oneDNN."""

    kernels: ctypes.CDLL
    dtype: DType
    weight: Tensor  # W [n_out, n_in], float32 or bfloat16
    bias: Tensor | None  # [n_out], float32
    rounded_bias: Tensor | None  # the bias in the dtype of W
    int8: tuple[Tensor, Tensor] | None  # `quantize(W)`

    def c_struct(self) -> CMatrix:
        """Return the struct for decode.c. It holds addresses only, so the tensors must outlive it."""
        n_out, n_in = self.weight.shape
        weight, scale = self.int8 or (self.weight, None)
        return CMatrix(weight.data_ptr(), _address(scale), _address(self.bias), n_in, n_out)

    def __call__(self, x: Tensor, *, gelu: bool = False) -> Tensor:
        """Return y [M, n_out], or gelu(y), for x [M, n_in], in the dtype of x: see `prompt_dtype`."""
        if not onednn_multiplies(self.weight.dtype):
            if self.dtype != "float32":
                return self._product(x, gelu=gelu)
            y = F.linear(x, self.weight, self.bias)
            return F.gelu(y, approximate="tanh") if gelu else y
        # F.linear would use MKL for float32, which reaches only half the speed on AMD processors.
        then, form = ("gelu", "tanh") if gelu else ("none", "")
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.rounded_bias, then, [], form)

    def _product(self, x: Tensor, *, gelu: bool) -> Tensor:
        """The same by decode.c, float32 [M, n_in] -> [M, n_out]."""
        x, (n_out, n_in) = x.contiguous(), self.weight.shape
        memory = torch.empty(self.kernels.nudge_product_workspace(n_in, len(x)))
        y = torch.empty(len(x), n_out)
        self.kernels.nudge_product(
            ctypes.byref(self.c_struct()),
            DTYPES.index(self.dtype),
            x.data_ptr(),
            len(x),
            memory.data_ptr(),
            y.data_ptr(),
            GELU if gelu else STORE,
            torch.get_num_threads(),
        )
        return y


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """The parameters of one block."""

    ln_1: Norm
    ln_2: Norm
    c_attn: Matrix
    attn_proj: Matrix
    c_fc: Matrix
    mlp_proj: Matrix

    def c_struct(self) -> CLayer:
        """Return the struct for decode.c, of addresses as in `Matrix.c_struct`."""
        norms = (vector.data_ptr() for vector in (*self.ln_1, *self.ln_2))
        matrices = (matrix.c_struct() for matrix in (self.c_attn, self.attn_proj, self.c_fc, self.mlp_proj))
        return CLayer(*norms, *matrices)


@dataclass(frozen=True, eq=False)
class Weights:
    """The parameters of a network as decoding reads them, and the compiled code that reads them."""

    config: ModelConfig
    dtype: DType
    layers: list[Layer]
    ln_f: Norm
    head: Matrix  # its rows are also the embeddings of the tokens
    wpe: Tensor  # [block_size, C], float32
    kernels: ctypes.CDLL
    prompt_kernels: Kernels

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of keys and values: for int8 weights, bfloat16."""
        return self.head.weight.dtype

    @property
    def prompt_dtype(self) -> torch.dtype:
        """The dtype of the products of a prompt."""
        return prompt_dtype(self.dtype)

    @functools.cached_property
    def c_struct(self) -> CModel:
        """The struct for decode.c."""
        return CModel(
            DTYPES.index(self.dtype),
            self.config.n_layer,
            self.config.n_head,
            self.config.n_embd,
            (CLayer * self.config.n_layer)(*(layer.c_struct() for layer in self.layers)),
            *(vector.data_ptr() for vector in self.ln_f),
            self.head.c_struct(),
            self.head.weight.data_ptr(),
            self.wpe.data_ptr(),
        )


def take_over(network: GPT, dtype: DType) -> tuple[Weights | None, str | None]:
    """Return (weights for the fast decoder, None); or (None, the reason in one line) if its kernels are unavailable.

    With kernels for one thread, return the weights and a line that says so.

    Either way the network is converted to `dtype` (for int8: to bfloat16), as `pack_weights` describes.
    """
    try:
        weights = pack_weights(network, dtype)
        serial = torch.get_num_threads() > 1 and native_loader.is_serial(weights.kernels)
        return weights, "one thread decodes: the kernels were compiled without OpenMP" if serial else None
    except native_loader.UnavailableError as error:
        if dtype != "float32":
            network.to(torch.bfloat16)
        instead = " in bfloat16 instead of int8" if dtype == "int8" else ""
        return None, f"plain PyTorch decodes{instead}, not the compiled kernels: {error}"


def fastest_dtype(network: GPT) -> DType:
    """Return the fastest type that keeps a network's quality here: bfloat16 on a GPU and with compiled kernels.

    int8 is faster still, but its loss was measured for a few networks only (docs/decoding.md). A small network stays
    exact: it writes a token in a few milliseconds anyway. Plain PyTorch on a CPU may emulate bfloat16.
    """
    if parameter_counts(network.config).total < SMALL:
        return "float32"
    if network.wte.weight.device.type == "cuda":
        return "bfloat16"
    try:
        load_kernels(network)
    except native_loader.UnavailableError:
        return "float32"
    return "bfloat16"


def pack_weights(network: GPT, dtype: DType = "float32") -> Weights:
    """Move a network's weights to memory laid out for decode.c; the network's own parameters become views of it.

    Matrices move one by one, so that memory never holds two copies of all of them. Afterwards the network is in
    float32 or, for bfloat16 and int8, in bfloat16.

    Raises: UnavailableError, before anything has changed, if the kernels do not support the network or cannot be
    compiled.
    """
    kernels = load_kernels(network)
    torch_dtype = torch.float32 if dtype == "float32" else torch.bfloat16
    prompt_kernels = Kernels(prompt_dtype(dtype))
    arena = Arena(torch_dtype, (p for p in network.parameters() if p.dim() == 2))
    pack = Packer(kernels, dtype, arena)
    layers = [pack.block(cast(Block, block)) for block in network.blocks]
    head = pack.rows(network.wte.weight.detach(), None)
    network.wte.weight.data = head.weight
    ln_f, wpe = _pack_norm(network.ln_f), network.wpe.weight.detach().float().contiguous()
    network.to(torch_dtype)
    return Weights(network.config, dtype, layers, ln_f, head, wpe, kernels, prompt_kernels)


def load_kernels(network: GPT) -> ctypes.CDLL:
    """Return the compiled decode.c.

    Raises: UnavailableError if it cannot be compiled or does not support the network, with the reason in one line.
    """
    config, device = network.config, network.wte.weight.device.type
    if device != "cpu":
        raise native_loader.UnavailableError(f"the network is on {device}")
    if not config.is_gpt2:
        raise native_loader.UnavailableError(f"they support plain GPT-2 only, not {' and '.join(config.departures)}")
    library = native_loader.load("decode")
    pointer, number, threads = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
    library.nudge_workspace.argtypes = [pointer, number, number, threads]
    library.nudge_workspace.restype = number
    library.nudge_tokens.argtypes = [pointer, pointer, pointer, number, number, pointer, pointer, threads]
    library.nudge_tokens.restype = None
    library.nudge_product_workspace.argtypes = [number, number]
    library.nudge_product_workspace.restype = number
    library.nudge_product.argtypes = [pointer, number, pointer, number, pointer, pointer, threads, threads]
    library.nudge_product.restype = None
    return library


class Arena:
    """Memory in huge pages with room for some tensors; each tensor starts on a cache line."""

    def __init__(self, dtype: torch.dtype, tensors: Iterable[Tensor]) -> None:
        self.dtype = dtype
        self.memory = huge_pages(sum(_round_up(t.numel() * dtype.itemsize, CACHE_LINE) for t in tensors))
        self.used = 0

    def copy(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to the next free place and return the copy."""
        n_bytes = tensor.numel() * self.dtype.itemsize
        copy = self.memory[self.used : self.used + n_bytes].view(self.dtype).view(tensor.shape)
        self.used += _round_up(n_bytes, CACHE_LINE)
        return copy.copy_(tensor)


@dataclass(frozen=True, slots=True, eq=False)
class Packer:
    """Moves the matrices of a network to an arena."""

    kernels: ctypes.CDLL
    dtype: DType
    arena: Arena

    def block(self, block: Block) -> Layer:
        return Layer(
            ln_1=_pack_norm(block.ln_1),
            ln_2=_pack_norm(block.ln_2),
            c_attn=self.linear(block.attn.c_attn),
            attn_proj=self.linear(block.attn.c_proj),
            c_fc=self.linear(block.mlp.c_fc),
            mlp_proj=self.linear(block.mlp.c_proj),
        )

    def linear(self, linear: Linear) -> Matrix:
        """Move a linear layer's weight to the arena; the layer's own weight becomes a view of it."""
        matrix = self.rows(linear.weight.detach().t(), _copy_float32(linear.bias))
        linear.weight.data = matrix.weight.t()
        return matrix

    def rows(self, rows: Tensor, bias: Tensor | None) -> Matrix:
        """Copy W [n_out, n_in] to the arena."""
        rounded_bias = None if bias is None else bias.to(self.arena.dtype)
        int8 = quantize(rows) if self.dtype == "int8" else None
        return Matrix(self.kernels, self.dtype, self.arena.copy(rows), bias, rounded_bias, int8)


def _pack_norm(norm: nn.LayerNorm) -> Norm:
    return _copy_float32(norm.weight), _copy_float32(norm.bias)


def _copy_float32(parameter: Tensor) -> Tensor:
    return parameter.detach().float().clone()


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round weight [n_out, n_in] to bytes [n_out, n_in padded to GROUP], with one scale [n_out] for each row.

    A byte is 128 + round(weight / scale), where the largest weight of a row rounds to 127 or -127. The 128 makes bytes
    unsigned, which the processor's int8 instruction requires.
    """
    n_out, n_in = weight.shape
    scale = weight.abs().amax(1, keepdim=True).float() / 127
    n_padded = _round_up(n_in, GROUP)
    rows = huge_pages(n_out * n_padded).view(n_out, n_padded).fill_(128)
    rows[:, :n_in] = (weight / scale.clamp(min=torch.finfo(torch.float32).tiny)).round_().add_(128)
    return rows, scale[:, 0].contiguous()


def onednn_multiplies(dtype: torch.dtype) -> bool:
    """Return whether PyTorch has oneDNN's product with bias and GELU, and it supports `dtype` on this processor."""
    ops = torch.ops.mkldnn
    if not (torch.backends.mkldnn.is_available() and hasattr(ops, "_linear_pointwise")):
        return False
    return dtype == torch.float32 or bool(ops._is_mkldnn_bf16_supported())


def prompt_dtype(dtype: DType) -> torch.dtype:
    """Return the dtype of a prompt's products: bfloat16 only where the processor multiplies it.

    PyTorch would otherwise emulate it, a hundred times as slowly; decode.c takes float32 for all types of weights.
    """
    return torch.bfloat16 if dtype != "float32" and onednn_multiplies(torch.bfloat16) else torch.float32


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
