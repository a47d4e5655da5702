"""Files of nanoGPT and llm.c that are damaged, hostile or of another network: one clear error, and nothing written."""

import dataclasses
import os
import pickle
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nudge.config import Config, ModelConfig
from nudge.convert import import_export
from nudge.data import tokenizer as tokenizers
from nudge.data.foreign import meta_pkl
from nudge.errors import FormatError, TokenizerError
from nudge.infer import engine
from nudge.model.gpt import GPT, init_weights
from nudge.runs import checkpoint
from nudge.runs.folder import RunFolder

BYTES = tokenizers.get("bytes")
CONFIG = ModelConfig(n_layer=2, n_head=2, n_embd=8, block_size=8, vocab_size=BYTES.vocab_size)


def model(**switches: bool) -> engine.LanguageModel:
    network = GPT(dataclasses.replace(CONFIG, **switches))
    init_weights(network, seed=0)
    return engine.LanguageModel(network, BYTES)


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    import_export.export_model(model(), tmp_path / "theirs", "nanogpt")
    return tmp_path / "theirs" / "ckpt.pt"


@pytest.fixture
def bin_file(tmp_path: Path) -> Path:
    import_export.export_model(model(), tmp_path / "theirs", "llmc")
    return tmp_path / "theirs" / "model.bin"


def refused(path: Path, match: str) -> str:
    """`nudge import` says so, in one line with a hint or none, and leaves no folder behind. Returns the hint."""
    with pytest.raises(FormatError, match=match) as caught:
        import_export.import_model(str(path), path.parent.parent / "out")
    assert "\n" not in caught.value.message
    assert sorted(found.name for found in path.parent.parent.iterdir()) == [path.parent.name]
    return caught.value.hint


def change(path: Path, how: Callable[[dict[str, Any]], Any]) -> None:
    content = torch.load(path)
    how(content)
    torch.save(content, path)


@pytest.mark.parametrize(
    ("how", "match"),
    [
        (lambda c: c.pop("model_args"), "holds no model_args"),
        (lambda c: c.pop("model"), "holds no model"),
        (lambda c: c.update(model=[1, 2]), "holds no model"),
        (lambda c: c["model_args"].pop("n_layer"), "n_layer is None"),
        (lambda c: c["model_args"].update(n_embd=8.0), "n_embd is 8.0"),
        (lambda c: c["model_args"].update(block_size=-1), "block_size is -1"),
        (lambda c: c["model_args"].update(vocab_size=None), "vocab_size is None"),
        (lambda c: c["model_args"].update(vocab_size=torch.ones(9, 9)), "vocab_size is a Tensor"),
        (lambda c: c["model_args"].update(n_embd=2**40, bias=False), r"has shape \[257, 8\]"),
        (lambda c: c["model_args"].update(n_head=3), "n_embd 8 is not divisible by n_head 3"),
        (lambda c: c["model_args"].update(n_layer=10**9), "n_layer 1000000000, the weights have 2 layers"),
        (lambda c: c["model_args"].update(vocab_size=10**12), r"has shape \[257, 8\]"),
        (lambda c: c["model"].pop("transformer.ln_f.bias"), "transformer.ln_f.bias is missing"),
        (lambda c: c["model"].pop("transformer.wpe.weight"), "transformer.wpe.weight is missing"),
        (lambda c: c["model"].update({"transformer.ln_f.bias": torch.ones(9)}), r"ln_f.bias has shape \[9\]"),
        (
            lambda c: c["model"].update({"transformer.h.0.mlp.c_fc.weight": torch.ones(8, 32)}),
            "mlp.c_fc.weight has shape",
        ),
        (lambda c: c["model"].update({"transformer.h.0.more": torch.ones(1)}), "tensors that GPT-2 does not have"),
        (lambda c: c["model"].update({"_orig_mod.lm_head.weight": torch.ones(1)}), "twice"),
        (lambda c: c["model"].update({"lm_head.weight": torch.ones(257, 8)}), "lm_head.weight differs"),
        (lambda c: c["model"].update({"lm_head.weight": torch.ones(257, 8).double()}), "lm_head.weight differs"),
        (lambda c: c["model"].update({"transformer.ln_f.bias": torch.ones(8).int()}), "plain tensors"),
        (lambda c: c["model"].update({"transformer.wpe.weight": torch.ones(1).expand(8, 8)}), "plain tensors"),
        (lambda c: c["model"].update({"transformer.wpe.weight": "none"}), "plain tensors"),
        (lambda c: c["model"].update({7: torch.ones(1)}), "plain tensors"),
    ],
)
def test_a_ckpt_of_another_network_or_damaged(ckpt: Path, how: Callable[[dict[str, Any]], Any], match: str) -> None:
    change(ckpt, how)
    refused(ckpt, match)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_ckpt_that_was_cut_short(ckpt: Path, share: float) -> None:
    data = ckpt.read_bytes()
    ckpt.write_bytes(data[: int(len(data) * share)])
    refused(ckpt, "cannot be read|begins with the bytes")


class Hostile:
    """What a pickle can do to who loads it: this one would make a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_a_ckpt_that_wants_to_run_code(ckpt: Path) -> None:
    ran = ckpt.parent / "ran"
    change(ckpt, lambda content: content.update(config=Hostile(ran)))
    refused(ckpt, "could run code when loaded")
    ckpt.write_bytes(pickle.dumps({"model_args": {}, "model": Hostile(ran)}))
    refused(ckpt, "could run code when loaded|cannot be read")
    assert not ran.exists()


def test_a_meta_that_wants_to_run_code(tmp_path: Path) -> None:
    path, ran = tmp_path / "meta.pkl", tmp_path / "ran"
    path.write_bytes(pickle.dumps({"stoi": Hostile(ran), "itos": {}}))
    with pytest.raises(TokenizerError, match="could run code when loaded"):
        meta_pkl.read(path)
    assert not ran.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1, 2]),
        pickle.dumps({"stoi": {"a": 0}}),
        pickle.dumps({"stoi": {"a": 0}, "itos": {1: "a"}}),
        pickle.dumps({"stoi": {"a": 0}, "itos": {0: "b"}}),
        pickle.dumps({"stoi": {"ab": 0}, "itos": {0: "ab"}}),
        pickle.dumps({"stoi": {"b": 0, "a": 1}, "itos": {0: "b", 1: "a"}}),
        pickle.dumps({"stoi": {1: 0}, "itos": {0: 1}}),
        pickle.dumps({"stoi": {}, "itos": {}}),
        pickle.dumps({"stoi": {"a": 0}, "itos": "a"})[:-4],
        bytes((1 << 25) + 1),
    ],
)
def test_a_meta_that_holds_no_characters(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "meta.pkl").write_bytes(content)
    with pytest.raises(TokenizerError, match=r"meta\.pkl"):
        meta_pkl.read(tmp_path / "meta.pkl")


def test_a_meta_that_is_not_there(ckpt: Path) -> None:
    with pytest.raises(TokenizerError, match=r"cannot read data/meta\.pkl"):
        import_export.import_model(str(ckpt), ckpt.parent.parent / "out", tokenizer="data/meta.pkl")
    assert not (ckpt.parent.parent / "out").exists()


def test_nudges_own_checkpoint_is_not_imported(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    checkpoint.save(run, checkpoint.Checkpoint(step=1, config=Config(), model={}))
    assert "it is nudge's own" in refused(run.ckpt, "holds no model_args")


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (0, 20240327, "begins with the bytes"),
        (1, 1, "version 1, expected 3"),
        (1, 4, "version 4, expected 3"),
        (1, 5, "bytes, its sizes ask for"),
        (2, 9, "bytes, its sizes ask for"),
        (2, 0, "block_size is 0"),
        (3, -5, "vocab_size is -5"),
        (4, 2**31 - 1, "bytes, its sizes ask for"),
        (5, 3, "not divisible"),
        (6, 2**31 - 2, "bytes, its sizes ask for"),
        (7, 128, "has 128 rows of tokens, its vocabulary is 257"),
        (7, 2**31 - 1, "bytes, its sizes ask for"),
    ],
)
def test_a_header_of_llmc_that_cannot_be(bin_file: Path, at: int, value: int, match: str) -> None:
    data = bytearray(bin_file.read_bytes())
    struct.pack_into("<i", data, 4 * at, value)
    bin_file.write_bytes(data)
    refused(bin_file, match)


@pytest.mark.parametrize("n_bytes", [0, 3, 4, 1023, 1024, 5000, -1])
def test_an_llmc_file_that_was_cut_short(bin_file: Path, n_bytes: int) -> None:
    bin_file.write_bytes(bin_file.read_bytes()[:n_bytes])
    refused(bin_file, "begins with the bytes|has .* bytes")


def test_an_llmc_file_with_more_behind_it(bin_file: Path) -> None:
    bin_file.write_bytes(bin_file.read_bytes() + b"\0\0\0\0")
    refused(bin_file, "bytes, its sizes ask for")


def test_several_checkpoints_in_one_folder(bin_file: Path) -> None:
    (bin_file.parent / "model_2.bin").write_bytes(bin_file.read_bytes())
    with pytest.raises(FormatError, match="holds 2 checkpoints of llm") as caught:
        import_export.import_model(str(bin_file.parent), bin_file.parent.parent / "out")
    assert "model_2.bin" in caught.value.hint


@pytest.mark.parametrize("kind", ["nanogpt", "llmc"])
@pytest.mark.parametrize("switch", ["rotary", "untied"])
def test_only_a_gpt2_is_exported(kind: str, switch: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=f"no GPT-2, its config has {switch}"):
        import_export.export_model(model(**{switch: True}), tmp_path / "out", kind)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out/ckpt.pt", "model.bin"])
def test_a_file_that_is_not_there_is_not_looked_for_on_the_hub(name: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no such file"):
        import_export.import_model(name, tmp_path / "out")


FULL_DISK = """
    import resource, sys
    from pathlib import Path
    from nudge.errors import MachineError
    from nudge.convert import import_export
    from tests.fault.test_import_neighbours import model

    exported = model()
    # No file of this process grows beyond the limit: to a program this is what a full disk is.
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, resource.RLIM_INFINITY))
    try:
        import_export.export_model(exported, Path(sys.argv[2]), sys.argv[1])
    except MachineError as error:
        print(error.message, error.hint, sep="\\n")
"""


@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes are POSIX")
@pytest.mark.parametrize("kind", ["nanogpt", "llmc"])
def test_a_full_disk_leaves_no_half_export(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(FULL_DISK), kind, str(tmp_path / "out")]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    message, hint = ended.stdout.splitlines()
    assert "could not write" in message
    assert "make room on the disk" in hint
    assert list(tmp_path.iterdir()) == []
