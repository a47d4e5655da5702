"""Our GPT-2 and nanoGPT's: each reads what the other wrote, and they give the same logits and the same greedy text.

nanoGPT bends with GELU's exact form, so its own logits are near ours; with the tanh form put into it they are the same.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tests.networks import random_network
from torch import Tensor

from nudge.bench.training import nanogpt_module
from nudge.config import ModelConfig
from nudge.convert import import_export
from nudge.convert.formats import nanogpt
from nudge.data import tokenizer as tokenizers
from nudge.infer import engine
from nudge.model.gpt import GPT

LETTERS = tokenizers.chars(["abcdefghijklmnopqrstuvwxyz \n"])
CONFIG = ModelConfig(n_layer=2, n_head=4, n_embd=32, block_size=16, vocab_size=LETTERS.vocab_size)


@pytest.fixture(scope="module")
def their_module(peer: Callable[[str], Path]) -> ModuleType:
    return nanogpt_module(str(peer("nanoGPT")))


def load_as_they_do(module: ModuleType, path: Path) -> Any:
    content = torch.load(path, map_location="cpu")
    model = module.GPT(module.GPTConfig(**content["model_args"]))
    model.load_state_dict(content["model"])
    return model.eval()


def with_tanh(model: Any) -> Any:
    for block in model.transformer.h:
        block.mlp.gelu = torch.nn.GELU(approximate="tanh")
    return model


@torch.no_grad()
def difference(network: GPT, model: Any, tokens: Tensor) -> float:
    logits, _ = model(tokens, tokens)  # without targets it computes the last position only
    return (network(tokens) - logits).abs().max().item()


def tokens_for(config: ModelConfig) -> Tensor:
    return torch.randint(config.vocab_size, (3, config.block_size), generator=torch.Generator().manual_seed(4))


def test_logits_of_our_network_in_nanogpt(their_module: ModuleType, tmp_path: Path) -> None:
    network = random_network(CONFIG, spread=5.0)
    nanogpt.write(tmp_path, CONFIG, network.state_dict(), LETTERS, step=7)
    model = load_as_they_do(their_module, tmp_path / "ckpt.pt")
    assert 1e-5 < difference(network, model, tokens_for(CONFIG)) < 1e-2
    assert difference(network, with_tanh(model), tokens_for(CONFIG)) < 1e-5


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_logits_of_their_network_in_ours(their_module: ModuleType, bias: bool, prefix: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    args = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 16, "vocab_size": 61, "dropout": 0.1, "bias": bias}
    model = their_module.GPT(their_module.GPTConfig(**args)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.95), "cpu")
    _, loss = model(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.long))
    loss.backward()
    optimizer.step()
    content = {
        "model": {prefix + name: tensor for name, tensor in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "model_args": args,
        "iter_num": 1,
        "best_val_loss": torch.tensor(4.0),
        "config": {"dataset": "letters"},
    }
    torch.save(content, tmp_path / "ckpt.pt")
    config, state, notes = nanogpt.read(tmp_path / "ckpt.pt")
    network = GPT(config)
    network.load_state_dict(state)
    assert difference(network, with_tanh(model), tokens_for(config)) < 1e-5
    said = "\n".join(notes)
    assert "dropout 0.1" in said
    assert "after 1 updates" in said
    assert ("no biases" in said) is not bias


@pytest.mark.slow
def test_sample_and_train_of_nanogpt_take_an_export(peer: Callable[[str], Path], tmp_path: Path) -> None:
    home = tmp_path / "nanoGPT"
    home.mkdir()
    for name in ("model.py", "sample.py", "train.py", "configurator.py"):
        shutil.copy(peer("nanoGPT") / name, home)
    network = random_network(CONFIG, spread=5.0, positions=40.0)
    model = engine.LanguageModel(network.eval(), LETTERS, step=7)
    notes = import_export.export_model(model, home / "out", "nanogpt")
    assert any("copy meta.pkl to data/nudge/" in note for note in notes)
    data = home / "data" / nanogpt.DATASET
    data.mkdir(parents=True)
    shutil.copy(home / "out" / "meta.pkl", data)

    def run(*args: str) -> str:
        command = [sys.executable, *args, "--out_dir=out", "--device=cpu", "--dtype=float32", "--compile=False"]
        ended = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=300, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    said = run("sample.py", "--start=to be", "--top_k=1", "--num_samples=1", "--max_new_tokens=11")
    theirs = said.rpartition("to be")[2].removesuffix("\n---------------\n")
    stream = model.tokens(LETTERS.encode("to be"), max_tokens=11, temperature=0)
    assert theirs == LETTERS.decode(stream)
    assert len(set(theirs)) > 3, "a network that says one letter forever proves little"

    for name in ("train.bin", "val.bin"):
        np.random.default_rng(0).integers(CONFIG.vocab_size, size=400).astype(np.uint16).tofile(data / name)
    trained = run(
        "train.py",
        "--init_from=resume",
        f"--dataset={nanogpt.DATASET}",
        "--batch_size=2",
        "--block_size=16",
        "--gradient_accumulation_steps=1",
        "--eval_iters=1",
        "--eval_interval=1",
        "--max_iters=9",
    )
    assert "step 7: train loss" in trained
    imported = import_export.import_model(str(home / "out"), tmp_path / "back")
    assert any("optimizer's state after 9 updates" in note for note in imported.notes)
    assert imported.config.model == CONFIG
    moved = [name for name, tensor in imported.model.items() if not torch.equal(tensor, network.state_dict()[name])]
    assert len(moved) > 20
    assert engine.load(tmp_path / "back", device="cpu").tokenizer.sha256 == LETTERS.sha256
