"""Checkpoints of nanoGPT and llm.c of any sizes come back as they were; of any damage, one clear error comes."""

import contextlib
import struct
import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.networks import random_network

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


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 9), value=st.integers(-(2**31), 2**31 - 1))
def test_a_header_that_says_anything_else(at: int, value: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "model.bin")
        llmc.write_checkpoint(path, SMALL, random_network(SMALL, spread=1.0).state_dict())
        data = bytearray(path.read_bytes())
        struct.pack_into("<i", data, 4 * at, value)
        path.write_bytes(data)
        with contextlib.suppress(FormatError):
            config, state = llmc.read(path)  # such as fewer tokens in as many rows
            assert state["wte.weight"].shape == (config.vocab_size, config.n_embd)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_ckpt_with_a_flipped_byte_or_an_end_too_early(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        nanogpt.write(Path(name), SMALL, random_network(SMALL, spread=1.0).state_dict(), BYTES, step=0)
        path = Path(name, "ckpt.pt")
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[at] ^= data.draw(st.integers(1, 255))
        else:
            del content[at:]
        path.write_bytes(content)
        with contextlib.suppress(FormatError):
            config, state, _ = nanogpt.read(path)  # torch notices almost no flipped bit of a weight
            assert state["wte.weight"].shape == (config.vocab_size, config.n_embd)
