"""A hostile header of a .safetensors file: a length, offsets, shapes and types that do not fit what follows."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nudge.convert import import_export
from nudge.data import tokenizer as tokenizers
from nudge.errors import NudgeError
from nudge.infer import engine
from nudge.look.inspection import weights
from nudge.model.gpt import GPT, ModelConfig, init_weights

BYTES = tokenizers.get("bytes")
NAME = "transformer.wte.weight"
Header = dict[str, Any]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as Hugging Face writes it."""
    network = GPT(ModelConfig(n_layer=1, n_head=1, n_embd=8, block_size=8, vocab_size=BYTES.vocab_size))
    init_weights(network, seed=0)
    folder = tmp_path_factory.mktemp("exported") / "hf"
    import_export.export_model(engine.LanguageModel(network, BYTES), folder, "hf")
    return folder


def write(path: Path, header: Header | bytes, data: bytes, *, length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def changed(**values: Any) -> Callable[[Header], Header]:
    return lambda header: header | {NAME: header[NAME] | values}


def offsets(start: int, end: int) -> Callable[[Header], Header]:
    return changed(data_offsets=[start, end])


CHANGES: dict[str, Callable[[Header], Header | bytes]] = {
    "offsets beyond the end": offsets(0, 1 << 40),
    "offsets beyond 64 bits": offsets(0, 1 << 64),
    "negative offsets": offsets(-8, 0),
    "offsets in the wrong order": offsets(8, 0),
    "offsets that overlap": lambda header: header | {NAME: header[NAME] | {"data_offsets": [4, 36]}},
    "a shape that does not fit": changed(shape=[1, 1]),
    "a negative shape": changed(shape=[-1, 8]),
    "a shape whose product overflows": changed(shape=[1 << 33, 1 << 33]),
    "a dtype that does not exist": changed(dtype="F31"),
    "a dtype of another size": changed(dtype="F64"),
    "no offsets": lambda header: header | {NAME: {"dtype": "F32", "shape": [1]}},
    "a list": lambda header: json.dumps([header]).encode(),
    "a number": lambda header: b"1",
    "nesting": lambda header: b"[" * 100_000,
    "no JSON": lambda header: b"{" + b"\xff" * 100,
    "twice the same name": lambda header: (json.dumps(header)[:-1] + ", " + json.dumps(header)[1:]).encode(),
}


@pytest.mark.parametrize("length", [0, 1, 7, 1 << 30, 1 << 62, (1 << 64) - 1])
def test_a_length_that_is_not_the_headers(exported: Path, tmp_path: Path, length: int) -> None:
    header, data = parts(exported)
    check_refused(exported, tmp_path, lambda path: write(path, header, data, length=length))


@pytest.mark.parametrize("kind", CHANGES)
def test_a_header_that_does_not_fit(exported: Path, tmp_path: Path, kind: str) -> None:
    header, data = parts(exported)
    check_refused(exported, tmp_path, lambda path: write(path, CHANGES[kind](header), data))


def parts(folder: Path) -> tuple[Header, bytes]:
    content = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def check_refused(exported: Path, folder: Path, damage: Callable[[Path], None]) -> None:
    """Looking and importing end with an error in one line, and nothing is left behind."""
    theirs = folder / "theirs"
    theirs.mkdir()
    for file in exported.iterdir():
        (theirs / file.name).write_bytes(file.read_bytes())
    damage(theirs / "model.safetensors")
    for read in (lambda: weights(theirs), lambda: import_export.import_model(str(theirs), folder / "out")):
        with pytest.raises(NudgeError) as refused:
            read()
        assert "\n" not in refused.value.message
        assert refused.value.hint
    assert [path.name for path in folder.iterdir()] == ["theirs"]


def test_the_file_that_the_others_are_changed_from_is_read(exported: Path, tmp_path: Path) -> None:
    header, data = parts(exported)
    write(exported / "model.safetensors", header, data)
    assert torch.isfinite(weights(exported).tensor("wte.weight")).all()
    import_export.import_model(str(exported), tmp_path / "out")
