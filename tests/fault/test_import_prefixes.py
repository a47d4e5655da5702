"""Wrappers of torch rename parameters: the same network under other names is the same network."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.networks import random_network
from tests.refusals import refused
from torch import Tensor

from nudge.config import ModelConfig
from nudge.convert.formats import huggingface, nanogpt
from nudge.data import tokenizer as tokenizers

LETTERS = tokenizers.chars(["abcdefghij"])
CONFIG = ModelConfig(n_layer=2, n_head=2, n_embd=8, block_size=8, vocab_size=LETTERS.vocab_size)
WRAPPERS = ("module.", "_orig_mod.", "model.", "_fsdp_wrapped_module.")
PREFIXES = ["", *map("".join, itertools.chain.from_iterable(itertools.product(WRAPPERS, repeat=n) for n in (1, 2)))]
Rename = Callable[[str], str]
Write = Callable[[Path, Rename], Path]


def nanogpt_file(folder: Path, rename: Rename) -> Path:
    nanogpt.write(folder, CONFIG, random_network(CONFIG, spread=1.0).state_dict(), LETTERS, step=1)
    content = torch.load(folder / "ckpt.pt", weights_only=True)
    content["model"] = {rename(name): tensor for name, tensor in content["model"].items()}
    torch.save(content, folder / "ckpt.pt")
    return folder / "ckpt.pt"


def hf_folder(folder: Path, rename: Rename) -> Path:
    huggingface.write(folder, CONFIG, random_network(CONFIG, spread=1.0).state_dict(), LETTERS)
    path = folder / "model.safetensors"
    safetensors.torch.save_file({rename(k): v for k, v in safetensors.torch.load_file(path).items()}, path)
    return folder


def hf_bin(folder: Path, rename: Rename) -> Path:
    hf_folder(folder, rename)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({"state_dict": weights, "epoch": 3}, folder / "pytorch_model.bin")
    return folder


FORMATS: dict[str, tuple[Write, Callable[[Path], tuple[object, ...]]]] = {
    "nanoGPT": (nanogpt_file, nanogpt.read),
    "HF": (hf_folder, huggingface.read),
    "HF in state_dict": (hf_bin, huggingface.read),
}


def weights_of(kind: str, folder: Path, rename: Rename) -> dict[str, Tensor]:
    write, read = FORMATS[kind]
    _, weights, *_ = read(write(folder, rename))
    assert isinstance(weights, dict)
    return weights


def assert_unchanged(weights: dict[str, Tensor]) -> None:
    expected = random_network(CONFIG, spread=1.0).state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("holder", [True, False])
def test_wrappers_around_the_network(kind: str, prefix: str, holder: bool, tmp_path: Path) -> None:
    def rename(name: str) -> str:
        return prefix + (name if holder else name.removeprefix("transformer."))

    assert_unchanged(weights_of(kind, tmp_path, rename))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("wrapper", ["_orig_mod.", "module.", "_checkpoint_wrapped_module."])
def test_wrappers_around_each_block(kind: str, wrapper: str, tmp_path: Path) -> None:
    """torch.compile and the recomputation of activations are often applied block by block."""
    assert_unchanged(weights_of(kind, tmp_path, lambda name: name.replace(".ln_", f".{wrapper}ln_")))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("prefix", ["net.", "module.student.", "gpt._orig_mod."])
def test_a_prefix_that_is_not_known_is_named(kind: str, prefix: str, tmp_path: Path) -> None:
    """The weights are all there, so 'incomplete' would be wrong."""
    known = prefix.replace("module.", "").replace("_orig_mod.", "") + "transformer."
    with refused("format.unknown_prefix", prefix=known, tensor=f"{known}wte.weight"):
        weights_of(kind, tmp_path, lambda name: prefix + name)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_weight_that_is_not_there_is_still_missing(kind: str, tmp_path: Path) -> None:
    with refused("format.missing_tensor", tensor="transformer.h.1.ln_2.bias"):
        weights_of(kind, tmp_path, lambda name: name.replace("h.1.ln_2.bias", "h.1.ln_9.bias"))


def test_two_names_of_one_weight_are_refused(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path, lambda name: name)
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    safetensors.torch.save_file(weights | {"module.wpe.weight": torch.zeros(8, 8)}, path)
    with refused("format.duplicate_tensor"):
        huggingface.read(folder)
