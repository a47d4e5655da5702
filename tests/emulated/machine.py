"""The C kernels for another processor, run by an emulator: what test_kernels.py and test_decoder.py check, without it.

The emulated program has no PyTorch. It reads a call from its standard input and writes what the call computed.
"""

import shutil
import struct
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nudge.fast import DTYPES, native_loader
from nudge.fast.kernels import SIGNATURES
from nudge.fast.weights import Matrix, Weights

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
# The oldest 64-bit Arm, and one with the products of bytes, as every Apple and every newer server processor has them.
PROCESSORS = ("armv8-a", "armv8.2-a+dotprod")
HERE = Path(__file__).parent


def compile_for(processor: str, source: str, folder: Path, *defines: str) -> Path:
    """Return the program, compiled with nudge's own options for an Arm processor; skip the test without a compiler."""
    for program, package in ((COMPILER, "gcc-aarch64-linux-gnu"), (EMULATOR, "qemu-user")):
        if not shutil.which(program):
            pytest.skip(f"no {program} here (Debian: {package})")
    flags = [flag for flag in native_loader.FLAGS if not flag.startswith("-march")]
    flags += native_loader.FLAGS_OF.get(source, ())
    program = folder / source
    flags += ["-fopenmp", "-static", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", f"-I{native_loader.SOURCES}"]
    command = [COMPILER, f"-march={processor}", *flags, *(f"-D{define}" for define in defines)]
    subprocess.run([*command, "-o", program, HERE / f"{source}_main.c", "-lm"], check=True)
    return program


def run(program: Path, *arguments: str, read: Iterable[bytes]) -> bytes:
    """Run a program on the emulated processor; return its standard output."""
    command = [EMULATOR, str(program), *arguments]
    return subprocess.run(command, input=b"".join(read), stdout=subprocess.PIPE, check=True).stdout


class EmulatedKernels:
    """nudge.fast.kernels.Kernels on an emulated Arm processor: every call is a process."""

    def __init__(self, processor: str, compute_dtype: torch.dtype, folder: Path) -> None:
        calls = folder / "calls.h"
        calls.write_text("".join(f"{_call(name, kinds)}\n" for name, kinds in SIGNATURES.items()), encoding="utf-8")
        defines = ["BF16"] if compute_dtype == torch.bfloat16 else []
        self._program = compile_for(processor, "layers", folder, f'CALLS="{calls}"', *defines)
        self._threads = 1

    def use_threads(self, n: int) -> None:
        self._threads = n

    def __getattr__(self, name: str) -> Callable[..., float]:
        def call(*arguments: float | Tensor | None) -> float:
            kinds = SIGNATURES[name]
            read = [_as_bytes(kind, value) for kind, value in zip(kinds, arguments, strict=True)]
            answer = run(self._program, name, kinds, str(self._threads), read=read)
            for tensor in (argument for argument in arguments if isinstance(argument, Tensor)):
                n_bytes = tensor.numel() * tensor.itemsize
                tensor.copy_(torch.frombuffer(bytearray(answer[:n_bytes]), dtype=tensor.dtype).view(tensor.shape))
                answer = answer[n_bytes:]
            return float(struct.unpack("d", answer)[0])

        return call


def _call(name: str, kinds: str) -> str:
    macro = "CALL_FOR_NUMBER" if name == "sum_of_squares" else "CALL"
    return f"{macro}({', '.join([name, *(f'{kind.upper()}({i})' for i, kind in enumerate(kinds))])})"


def _as_bytes(kind: str, value: object) -> bytes:
    if kind == "t":
        return _tensor(value if isinstance(value, Tensor) else None)
    return struct.pack("q" if kind == "i" else "d", value)


def _tensor(tensor: Tensor | None) -> bytes:
    if tensor is None:
        return struct.pack("q", -1)
    content = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return struct.pack("q", len(content)) + content


def _matrix(matrix: Matrix) -> Iterable[bytes]:
    weight, scale = matrix.int8 or (matrix.weight, None)
    n_out, n_in = matrix.weight.shape
    return (_tensor(weight), _tensor(scale), _tensor(matrix.bias), struct.pack("qq", n_in, n_out))


def decode(program: Path, weights: Weights, tokens: Tensor, x: Tensor, *, threads: int) -> tuple[Tensor, Tensor]:
    """Read tokens [steps, n] of n texts; return their logits [steps, n, V], and c_fc with GELU of x [n, C]."""
    config = weights.config
    read = [struct.pack("4q", DTYPES.index(weights.dtype), config.n_layer, config.n_head, config.n_embd)]
    for layer in weights.layers:
        read += map(_tensor, (*layer.ln_1, *layer.ln_2))
        for matrix in (layer.c_attn, layer.attn_proj, layer.c_fc, layer.mlp_proj):
            read += _matrix(matrix)
    read += [*map(_tensor, weights.ln_f), *_matrix(weights.head), _tensor(weights.head.weight), _tensor(weights.wpe)]
    steps, n = tokens.shape
    read += [struct.pack("3q", steps, n, threads), _tensor(tokens), _tensor(x)]
    numbers = torch.frombuffer(bytearray(run(program, read=read)), dtype=torch.float32)
    logits, product = numbers.split([steps * n * config.vocab_size, n * 4 * config.n_embd])
    return logits.view(steps, n, -1), product.view(n, -1)
