"""Checkpoints of nanoGPT and llm.c of any sizes come back as they were; what is damaged never comes back as another."""

import dataclasses
import functools
import struct
import tempfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.networks import random_network
from torch import Tensor

from nudge.config import ModelConfig
from nudge.convert.formats import llmc, nanogpt
from nudge.data import tokenizer as tokenizers
from nudge.errors import FormatError

BYTES = tokenizers.get("bytes")
SIZES = st.builds(
    lambda n_layer, n_head, head_size, block_size, vocab_size: ModelConfig(
        n_layer=n_layer, n_head=n_head, n_embd=n_head * head_size, block_size=block_size, vocab_size=vocab_size
    ),
    *(st.integers(1, most) for most in (3, 3, 5, 9, 300)),
)
SMALL = ModelConfig(n_layer=1, n_head=1, n_embd=2, block_size=2, vocab_size=3)
ROWS = 128  # of SMALL's wte in a file of llm.c


@functools.cache
def weights() -> dict[str, Tensor]:
    return random_network(SMALL, spread=1.0).state_dict()


@settings(max_examples=30, deadline=None)
@given(config=SIZES)
def test_any_sizes_come_back(config: ModelConfig) -> None:
    state = random_network(config, spread=10.0).state_dict()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        llmc.write(folder, config, state, BYTES)
        nanogpt.write(folder, config, state, BYTES, step=0)
        for found, tensors, *_ in (llmc.read(folder / "model.bin"), nanogpt.read(folder / "ckpt.pt")):
            assert found == config
            assert tensors.keys() == state.keys()
            assert all(torch.equal(tensors[name], tensor) for name, tensor in state.items())


@functools.cache
def model_bin() -> bytes:
    """SMALL as llm.c keeps it."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "model.bin")
        llmc.write_checkpoint(path, SMALL, weights())
        return path.read_bytes()


def read_llmc(content: bytes) -> tuple[ModelConfig, dict[str, Tensor]]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "model.bin")
        path.write_bytes(content)
        return llmc.read(path)


FIELDS = ("magic", "version", "block_size", "vocab_size", "n_layer", "n_head", "n_embd", "rows", "unused", "unused")
# What else may stand there: fewer or more tokens in as many rows, and heads that share the channels otherwise. Any
# other size would need a file of another length.
MAY_BE = {"vocab_size": range(1, ROWS + 1), "n_head": (1, 2), "unused": range(-(2**31), 2**31)}


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(FIELDS) - 1), value=st.one_of(st.integers(-2, ROWS + 2), st.integers(-(2**31), 2**31 - 1)))
@example(at=1, value=5)  # bfloat16, which would be half as long
@example(at=3, value=1)
@example(at=3, value=ROWS)
@example(at=3, value=ROWS + 1)
@example(at=5, value=2)
@example(at=5, value=0)
@example(at=8, value=-1)
def test_a_header_that_says_anything_else(at: int, value: int) -> None:
    content, field = bytearray(model_bin()), FIELDS[at]
    (before,) = struct.unpack_from("<i", content, 4 * at)
    struct.pack_into("<i", content, 4 * at, value)
    if value != before and value not in MAY_BE.get(field, ()):
        with pytest.raises(FormatError, match=r"model\.bin"):
            read_llmc(content)
        return
    config, state = read_llmc(content)
    assert config == (
        SMALL if field in ("magic", "version", "rows", "unused") else dataclasses.replace(SMALL, **{field: value})
    )
    wte = F.pad(weights()["wte.weight"], (0, 0, 0, ROWS - SMALL.vocab_size))[: config.vocab_size]
    expected = {**weights(), "wte.weight": wte}
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


@settings(deadline=None)
@given(n_bytes=st.integers(0, len(model_bin()) + 8).filter(lambda n: n != len(model_bin())))
@example(n_bytes=len(model_bin()) - 1)
@example(n_bytes=len(model_bin()) + 1)
def test_a_file_of_llmc_of_another_length(n_bytes: int) -> None:
    with pytest.raises(FormatError, match=r"model\.bin"):
        read_llmc((model_bin() + bytes(8))[:n_bytes])


@functools.cache
def ckpt() -> bytes:
    """SMALL as nanoGPT keeps it."""
    with tempfile.TemporaryDirectory() as name:
        nanogpt.write(Path(name), SMALL, weights(), BYTES, step=0)
        return Path(name, "ckpt.pt").read_bytes()


def read_ckpt(content: bytes) -> tuple[ModelConfig, dict[str, Tensor]] | FormatError:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "ckpt.pt")
        path.write_bytes(content)
        try:
            config, state, _ = nanogpt.read(path)
        except FormatError as error:
            return error
        return config, {name: tensor.clone() for name, tensor in state.items()}  # the file that they lie in goes


def flipped(content: bytes, at: int, bits: int) -> bytes:
    return content[:at] + bytes([content[at] ^ bits]) + content[at + 1 :]


def differing(state: dict[str, Tensor]) -> dict[str, int]:
    """How many numbers of which tensors are others than they were."""
    assert state.keys() == weights().keys()
    found = {name: int((state[name].view(torch.int32) != t.view(torch.int32)).sum()) for name, t in weights().items()}
    return {name: n for name, n in found.items() if n}


BITS = st.integers(1, 255)
NUMBERS = weights()["wte.weight"].numpy().tobytes()


@settings(max_examples=50, deadline=None)
@given(at=st.integers(0, len(NUMBERS) - 1), bits=BITS)
def test_a_ckpt_with_a_flipped_byte_of_a_number(at: int, bits: int) -> None:
    """torch checks no sums, so that number is another one; but no more than that."""
    found = read_ckpt(flipped(ckpt(), ckpt().index(NUMBERS) + at, bits))
    assert not isinstance(found, FormatError)
    assert found[0] == SMALL
    assert differing(found[1]) == {"wte.weight": 1}


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(ckpt()) - 1), bits=BITS)
@example(at=ckpt().index(b"K", ckpt().index(b"n_head")) + 1, bits=3)
def test_a_ckpt_with_a_flipped_byte(at: int, bits: int) -> None:
    """Refused, or read as it was but for what may lie elsewhere now: the numbers of one tensor."""
    found = read_ckpt(flipped(ckpt(), at, bits))
    if isinstance(found, FormatError):
        assert str(found.values["path"]).endswith("ckpt.pt")
        assert "\n" not in found.message
    else:
        assert dataclasses.replace(found[0], n_head=1) == SMALL  # two heads may share the two channels just as well
        assert len(differing(found[1])) <= 1


@settings(deadline=None)
@given(n_bytes=st.integers(0, len(ckpt()) - 1))
@example(n_bytes=len(ckpt()) - 1)
def test_a_ckpt_that_ends_too_early(n_bytes: int) -> None:
    found = read_ckpt(ckpt()[:n_bytes])
    assert isinstance(found, FormatError)
    assert "ckpt.pt" in found.message
