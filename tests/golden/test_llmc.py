"""Our GPT-2 and llm.c's: its C program finds the same loss in what we write, and we read what its Python writes."""

import importlib.util
import re
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tests.networks import random_network
from torch import Tensor

from nudge.bench import llmc as bench
from nudge.bench.peers import NotHereError
from nudge.config import ModelConfig
from nudge.convert.formats import llmc
from nudge.data import tokenizer as tokenizers
from nudge.model.gpt import GPT

BATCH, CONTEXT, N_VAL = 2, 64, 5  # train_gpt2.c measures 5 batches, and writes samples of 64 tokens
CONFIG = ModelConfig(n_layer=2, n_head=4, n_embd=32, block_size=CONTEXT, vocab_size=61)


def tokens_of(path: Path) -> Tensor:
    return torch.frombuffer(bytearray(path.read_bytes()[1024:]), dtype=torch.uint16).long()


def test_the_c_program_finds_the_same_loss(peer: Callable[[str], Path], tmp_path: Path) -> None:
    home = tmp_path / "llm.c"
    try:
        bench.build(peer("llm.c"), home, batch=BATCH, context=CONTEXT)
    except NotHereError as error:
        pytest.skip(str(error))
    network = random_network(CONFIG, spread=20.0)
    llmc.write(home, CONFIG, network.state_dict(), tokenizers.chars(map(chr, range(48, 48 + 60))))
    (home / "model.bin").rename(home / "gpt2_124M.bin")
    data = home / "dev" / "data" / "tinyshakespeare"
    data.mkdir(parents=True)
    for name in ("train", "val"):
        bench.write_tokens(data / f"tiny_shakespeare_{name}.bin", CONFIG.vocab_size, 50 * BATCH * CONTEXT + 1)
    ran = subprocess.run(["./train_gpt2"], cwd=home, capture_output=True, text=True, timeout=120, check=True)
    theirs = float(re.findall(r"^val loss (\S+)$", ran.stdout, re.M)[0])

    tokens = tokens_of(data / "tiny_shakespeare_val.bin")[: N_VAL * BATCH * CONTEXT + 1]
    with torch.no_grad():
        ours = network.loss(tokens[:-1].view(-1, CONTEXT), tokens[1:].view(-1, CONTEXT)).item()
    assert abs(ours - theirs) < 1e-5, f"ours {ours:.6f}, theirs {theirs:.6f}"
    assert ours > 5, "a network that is nearly a fresh one proves little"
    generated = ran.stdout.split("generating:\n---\n")[1].split("\n---\n")[0]
    assert len(set(generated)) > 10, "its samples are written with the tokens' texts"


@pytest.fixture(scope="module")
def their_module(peer: Callable[[str], Path]) -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_gpt2", peer("llm.c") / "train_gpt2.py")
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # importing torch's distributed optimizers is one
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_their_python_writes_is_read(their_module: ModuleType, dtype: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    sizes = {
        "block_size": 12,
        "vocab_size": 50257,
        "n_layer": 2,
        "n_head": 2,
        "n_embd": 8,
    }  # its writer knows no other V
    theirs = their_module.GPT(their_module.GPTConfig(**sizes))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    their_module.write_model(theirs, tmp_path / "model.bin", dtype)
    config, state = llmc.read(tmp_path / "model.bin")
    assert config == ModelConfig(**sizes)
    network = GPT(config)
    network.load_state_dict(state)
    tokens = torch.randint(config.vocab_size, (3, config.block_size))
    with torch.no_grad():
        if dtype == "bfloat16":
            theirs.to(torch.bfloat16).to(torch.float32)  # its file holds these numbers
        their_logits, _ = theirs(tokens, tokens)  # without targets it computes the last position only
        assert (network(tokens) - their_logits).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_both_write_the_same_bytes(their_module: ModuleType, dtype: str, tmp_path: Path) -> None:
    sizes = {"block_size": 12, "vocab_size": 50257, "n_layer": 2, "n_head": 2, "n_embd": 8}
    their_module.write_model(their_module.GPT(their_module.GPTConfig(**sizes)), tmp_path / "theirs.bin", dtype)
    config, state = llmc.read(tmp_path / "theirs.bin")
    llmc.write_checkpoint(tmp_path / "ours.bin", config, state, dtype=dtype)
    assert (tmp_path / "ours.bin").read_bytes() == (tmp_path / "theirs.bin").read_bytes()


def test_both_write_the_same_tokenizer(their_module: ModuleType, tmp_path: Path) -> None:
    tokenizer = tokenizers.train_bpe(["to be or not to be, 한글"] * 9, 270)
    their_module.write_tokenizer(tokenizer._encoding, tmp_path / "theirs.bin")
    llmc.write(tmp_path, CONFIG, random_network(CONFIG, spread=1.0).state_dict(), tokenizer)
    assert (tmp_path / "gpt2_tokenizer.bin").read_bytes() == (tmp_path / "theirs.bin").read_bytes()
