"""A log of finished shards that somebody else made names only what a preparation itself writes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nudge.data import resume_log
from nudge.data.manifest import Shard
from nudge.data.resume_log import ResumeLog
from nudge.data.shards import write_shard
from nudge.util import files

KEY, OTHER = "ours", "theirs"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder" / "below").mkdir(parents=True)
    for path in ("notes.txt", "train_000007.bin", "folder/notes.txt", "folder/manifest.json", "folder/below/a.bin"):
        (tmp_path / path).write_text("precious")
    return tmp_path / "folder"


def shard_in(folder: Path, file: str) -> dict[str, Any]:
    return asdict(write_shard(folder, file, np.arange(9, dtype=np.uint16), np.array([9], dtype=np.uint64), 5))


def write_log(folder: Path, key: str, *lines: object) -> None:
    (folder / resume_log.NAME).write_text("".join(json.dumps(line) + "\n" for line in ({"key": key}, *lines)))


def content(folder: Path) -> dict[Path, bytes]:
    found = folder.parent.rglob("*")
    return {path: path.read_bytes() for path in found if path.is_file() and path.name != resume_log.NAME}


@pytest.mark.parametrize("key", [KEY, OTHER])
@pytest.mark.parametrize(
    "file",
    [
        *(
            "{}/notes.txt",
            "{}/train_000007.bin",
            "../notes.txt",
            "../train_000007.bin",
            "below/a.bin",
            "below/../notes.txt",
        ),
        *(
            "notes.txt",
            "manifest.json",
            ".progress.jsonl",
            "..\\train_000007.bin",
            "C:train_000007.bin",
            "train_7.bin",
            "",
            ".",
        ),
        *("train_000007.bin\n", "train_000007.ends.npy", "val_000007.bin", "train_٠٠٠٠٠٠.bin"),
        *(None, 7, [], {}),
    ],
)
def test_a_log_that_names_another_file_touches_none(
    folder: Path, key: str, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(file, str):
        file = file.format(folder.parent)
    shard = {**shard_in(folder, "train_000000.bin"), "file": file}
    write_log(folder, key, {"split": "train", "groups": 1, "shard": shard})
    before = content(folder)
    read: list[Path] = []
    monkeypatch.setattr(files, "sha256", lambda path: read.append(path) or "")
    log = ResumeLog(folder, KEY)
    assert log.shards == {"train": [], "val": []}
    assert content(folder) == before
    assert read == []


@pytest.mark.parametrize(
    "change",
    [
        {"split": "test"},
        {"split": ["train"]},
        {"groups": "1"},
        {"shard": None},
        {"shard": {}},
        {"shard": {"file": "train_000000.bin"}},
        {"n_tokens": "9"},
        {"n_documents": None},
        {"text_bytes": [1]},
        {"place": {"path": "/etc/passwd", "first_byte": 0, "bytes_per_token": 2, "file_bytes": 1, "modified_ns": 1}},
    ],
)
def test_a_line_that_no_preparation_writes_does_not_count(folder: Path, change: dict[str, object]) -> None:
    shard = shard_in(folder, "train_000000.bin")
    line: dict[str, object] = {"split": "train", "groups": 1, "shard": shard}
    line |= change if change.keys() <= line.keys() else {"shard": {**shard, **change}}
    write_log(folder, KEY, line, {"split": "val", "groups": 1, "shard": shard_in(folder, "val_000000.bin")})
    before = content(folder)
    log = ResumeLog(folder, KEY)
    assert log.shards == {"train": [], "val": []}
    kept = {path: data for path, data in before.items() if not path.name.startswith("val_000000")}
    assert content(folder) == kept, "what follows such a line is made again"


def test_a_log_of_ours_counts_and_another_texts_shards_are_removed(folder: Path) -> None:
    shard = shard_in(folder, "train_000000.bin")
    before = content(folder)
    write_log(folder, KEY, {"split": "train", "groups": 1, "shard": shard})
    assert ResumeLog(folder, KEY).shards["train"] == [Shard(**shard)]
    assert content(folder) == before
    write_log(folder, OTHER, {"split": "train", "groups": 1, "shard": shard})
    assert ResumeLog(folder, KEY).shards["train"] == []
    assert content(folder) == {path: data for path, data in before.items() if not path.name.startswith("train_000000")}
