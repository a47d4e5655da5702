"""Files that are huge, damaged, foreign or hostile, inspected."""

import dataclasses
import json
import math
import pickle
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.refusals import refused

from nudge.config import Config, ModelConfig, to_dict
from nudge.errors import CheckpointError
from nudge.look.inspection import weights
from nudge.model.gpt import GPT
from nudge.runs.checkpoint import FORMAT, VERSION

CONFIG = Config(model=ModelConfig(n_layer=1, n_head=1, n_embd=8, block_size=8, vocab_size=11))
GIGA = 2**30

GROWTH = """
    import resource, sys
    from nudge.look.inspection import weights

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    before = peak()
    found = weights(sys.argv[1])
    found.tree
    listed = peak()
    found.histogram("ln_f.bias")
    print(found.total, listed - before, peak() - before)
"""


def content(model: object, **changed: object) -> dict[str, object]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": model,
        "optimizer": None,
        "step": 1,
        "skipped_in_a_row": 0,
        "train_s": 0.0,
        "config": to_dict(CONFIG),
        "rng": None,
        "data_fingerprint": "",
        "tokenizer_sha256": "",
        **changed,
    }


def huge_safetensors(path: Path) -> None:
    """Eight gigabytes of which only the header is on disk: the rest is a hole."""
    end = 8 * GIGA
    header = json.dumps(
        {
            "wte.weight": {"dtype": "F32", "shape": [2 * GIGA], "data_offsets": [0, end]},
            "ln_f.bias": {"dtype": "F32", "shape": [4], "data_offsets": [end, end + 16]},
        }
    ).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + end + 16)


def huge_checkpoint(path: Path) -> None:
    """The same in a checkpoint, with as much again in the optimizer's state."""
    model = dataclasses.replace(CONFIG.model, vocab_size=GIGA // 8)
    tensors = {**GPT(CONFIG.model).state_dict(), "ln_f.bias": torch.zeros(8)}
    with torch.serialization.skip_data():  # room for the values, without writing any
        tensors["wte.weight"] = torch.empty(GIGA // 8, 8)
        moments = {"wte.weight": {"exp_avg": torch.empty(GIGA // 8, 8)}}
        torch.save(content(tensors, optimizer=moments, config=to_dict(Config(model=model))), path)


@pytest.mark.skipif(sys.platform == "win32", reason="files with holes and peak memory are told in another way there")
@pytest.mark.parametrize(("name", "make"), [("a.safetensors", huge_safetensors), ("a.pt", huge_checkpoint)])
def test_what_is_not_shown_is_not_read(tmp_path: Path, name: str, make) -> None:
    path = tmp_path / name
    make(path)
    assert path.stat().st_size > 8 * GIGA
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(GROWTH), str(path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    total, listing, one_tensor = map(int, result.stdout.split())
    assert total >= GIGA
    assert listing < 50e6
    assert one_tensor < 80e6


class Bomb:
    def __reduce__(self):
        return exec, ("open('executed', 'w')",)


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def make_bad(folder: Path, kind: str) -> Path:
    pt, st = folder / "ckpt.pt", folder / "model.safetensors"
    model = GPT(CONFIG.model).state_dict()
    for path in (pt, st):
        if kind == f"empty {path.name}":
            path.touch()
            return path
        if kind == f"text in {path.name}":
            path.write_text("To be, or not to be: that is the question.\n" * 9)
            return path
    if kind.startswith("cut .pt"):
        torch.save(content(model), pt)
        return cut(pt, float(kind.split()[-1]))
    if kind.startswith("cut .safetensors"):
        safetensors.torch.save_file({name: torch.zeros_like(t) for name, t in model.items()}, st)
        return cut(st, float(kind.split()[-1]))
    if kind == "code":
        torch.save(content({"wte.weight": Bomb()}), pt)
    elif kind == "an old pickle with code":
        pt.write_bytes(pickle.dumps(Bomb()))
    elif kind == "another program's":
        torch.save(model, pt)
    elif kind == "a tensor of nothing":
        torch.save(content({"wte.weight": torch.zeros(1).expand(10**9, 10**3)}), pt)
    elif kind == "sparse":
        torch.save(content({"wte.weight": torch.zeros(4, 4).to_sparse()}), pt)
    elif kind == "complex":
        torch.save(content({"wte.weight": torch.zeros(4, dtype=torch.complex64)}), pt)
    elif kind == "no tensors":
        torch.save(content({"wte.weight": "hello"}), pt)
    elif kind == "numbers for names":
        torch.save(content({1: torch.zeros(1)}), pt)
    elif kind == "a list":
        torch.save(content([torch.zeros(1)]), pt)
    elif kind == "a strange optimizer":
        torch.save(content(model, optimizer={"wte.weight": [1, 2]}), pt)
    elif kind == "a strange step":
        torch.save(content(model, step="<script>"), pt)
    elif kind == "an empty folder":
        return folder
    elif kind == "a folder of shards without shards":
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}')
        return folder
    elif kind == "a shard that is a pickle":
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "ckpt.pt"}}')
        torch.save(model, pt)
        return folder
    elif kind == "a list of shards that is none":
        (folder / "model.safetensors.index.json").write_text("[")
        return folder
    elif kind == "a folder called .safetensors":
        st.mkdir()
        return st
    elif kind == "missing":
        return st
    return pt


KINDS = [
    *(f"{what} {name}" for what in ("empty", "text in") for name in ("ckpt.pt", "model.safetensors")),
    *(f"cut {suffix} {share}" for suffix in (".pt", ".safetensors") for share in (0.001, 0.1, 0.5, 0.99)),
    "code",
    "an old pickle with code",
    "another program's",
    "a tensor of nothing",
    "sparse",
    "complex",
    "no tensors",
    "numbers for names",
    "a list",
    "a strange optimizer",
    "a strange step",
    "an empty folder",
    "a folder of shards without shards",
    "a shard that is a pickle",
    "a list of shards that is none",
    "a folder called .safetensors",
    "missing",
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_checkpoint_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    source = make_bad(tmp_path, kind)
    with pytest.raises(CheckpointError) as caught:
        weights(source)
    assert caught.value.message
    assert caught.value.hint
    assert not (tmp_path / "executed").exists()


def test_a_type_that_cannot_be_counted_is_listed_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(2, dtype=torch.complex64), "v": torch.zeros(2)}, path)
    found = weights(path)
    assert found.total == 4
    assert not math.isnan(found.histogram("v").mean)
    with refused("checkpoint.not_a_plain_tensor", file="a.safetensors", tensor="w"):
        found.histogram("w")


def test_a_file_that_is_gone_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(2)}, path)
    found = weights(path)
    path.unlink()
    with pytest.raises(CheckpointError):
        found.tensor("w")
