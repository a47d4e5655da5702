"""A byte-order mark at the start of a file that a person writes is no part of it; for text see test_corpus."""

import io
import json
import sys
from pathlib import Path

import pytest

from nudge import config
from nudge.cli.prompts import read_prompt
from nudge.data import tokenizer as tokenizers
from nudge.eval import tasks
from nudge.sheet import catalog
from nudge.util import json_reader

MARK = b"\xef\xbb\xbf"


def test_files_of_settings_vocabularies_tasks_and_sheets(tmp_path: Path):
    path = tmp_path / "file.md"
    path.write_bytes(MARK + b"[train]\nlr = 1\n")
    assert config.read_toml(path) == {"train": {"lr": 1}}
    path.write_bytes(MARK + b'{"a": 1}')
    assert json_reader.read(path, dict[str, int]) == {"a": 1}
    path.write_bytes(MARK + "# 제목\n".encode())
    assert catalog.text_of(str(path)) == "# 제목\n"
    tokenizers.chars(["abc"]).save(path)
    path.write_bytes(MARK + path.read_bytes())
    assert tokenizers.load(path).sha256 == tokenizers.chars(["abc"]).sha256
    path.write_bytes(MARK + json.dumps({"text": "A long way from here to there."}).encode() + b"\n")
    assert [example.pairs for example in tasks.read(tasks.TASKS["lambada"], path)] == [
        (("A long way from here to", " there."),)
    ]


def test_a_published_vocabulary(tmp_path: Path, shared_data: Path):
    for name in ("vocab.bpe", "gpt2.tiktoken"):
        (tmp_path / name).write_bytes(MARK + (shared_data / name).read_bytes())
        assert tokenizers.load(tmp_path / name).encode("y is ?") == [88, 318, 5633]


def test_standard_input(monkeypatch: pytest.MonkeyPatch, nudge):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(MARK + b"a prompt \xff\r\n")))
    assert read_prompt("-") == "a prompt \udcff"
    assert nudge("tokenizer", "decode", "--tokenizer", "bytes", input=MARK + b"104 105", text=False).stdout == b"hi"
