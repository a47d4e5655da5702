import gzip
import json
import sysconfig
from pathlib import Path

import pytest

from nudge.data import sources
from nudge.errors import DataError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(gzip.compress(data) if path.endswith(".gz") else data)
    return path


def lines(*texts: str, field: str = "text") -> str:
    return "".join(json.dumps({field: text, "id": number}) + "\n" for number, text in enumerate(texts))


def read(*paths: str, field: str = "text") -> list[str]:
    return list(sources.documents(paths, field))


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.py", "A.TXT", "a.txt.gz", "a.md.gz", "a.rst", "LICENSE"])
def test_a_text_file_is_one_document(here: Path, name: str):
    assert read(write(name, "one\r\ntwo\n")) == ["one\r\ntwo\n"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_each_line_of_json_is_a_document(here: Path, name: str):
    assert read(write(name, lines("one", "", "two\nlines") + "\n")) == ["one", "two\nlines"]
    assert read(write(name, lines("one", field="body")), field="body") == ["one"]


def test_a_folder_is_searched_to_the_bottom_in_a_fixed_order(here: Path):
    for name in ("d/b.txt", "d/a.txt", "d/c/z.md", "d/c/a.py.gz", "d/.git/x.txt", "d/.hidden.txt", "d/x.png"):
        write(name, name)
    assert read("d") == ["d/a.txt", "d/b.txt", "d/c/a.py.gz", "d/c/z.md"]


def test_globs(here: Path):
    for name in ("d/b.txt", "d/a.txt", "d/a.md", "d/e/c.txt"):
        write(name, name)
    assert read("d/*.txt") == ["d/a.txt", "d/b.txt"]
    assert read("d/**/*.txt") == ["d/a.txt", "d/b.txt", "d/e/c.txt"]
    assert read(str(here / "d" / "?.md")) == ["d/a.md"]


def test_a_file_that_is_named_twice_is_read_once(here: Path):
    write("d/a.txt", "a")
    assert read("d/a.txt", "d", "d/*.txt") == ["a"]


def test_bytes_that_are_not_utf8_survive(here: Path):
    (text,) = read(write("a.txt", b"caf\xe9"))
    assert text.encode("utf-8", "surrogateescape") == b"caf\xe9"
    (text,) = read(write("a.jsonl", b'{"text": "caf\xe9"}\n'))
    assert text.encode("utf-8", "surrogateescape") == b"caf\xe9"


def test_positions_grow_to_the_size_of_the_files(here: Path):
    found = sources.find([write("a.txt", "abc"), write("b.jsonl", lines("x", "y")), write("c.jsonl.gz", lines("z"))])
    positions = [position for _, position in sources.read_all(found)]
    assert positions == sorted(positions)
    assert positions[-1] == sum(file.n_bytes for file in found)


def test_the_standard_library_is_text_without_tests():
    found = sources.find([])
    root = Path(sysconfig.get_path("stdlib"))
    names = {file.path.relative_to(root).as_posix() for file in found}
    assert {"argparse.py", "json/decoder.py"} <= names
    assert not [name for name in names if {"test", "tests", "idle_test", "site-packages"} & set(name.split("/"))]
    assert 5e6 < sum(file.n_bytes for file in found) < 20e6


def test_no_standard_library_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: "/usr/lib/python311.zip")
    with pytest.raises(DataError, match=r"standard library .*python311\.zip") as raised:
        sources.find([])
    assert "--data" in raised.value.hint


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"MZ\0\0", "a.txt is not text: it has NUL bytes"),
        ("a.bin", b"\xff\xfe", "a.bin is not text in UTF-8"),
        ("a.jsonl", '{"text": "x"}\n{"text": ', "a.jsonl, line 2 is not JSON"),
        ("a.jsonl", '{"text": "x"}\n["x"]\n', "a.jsonl, line 2 has no text"),
        ("a.jsonl", '{"text": 3, "n": 4}\n', "a.jsonl, line 1 has no text"),
    ],
)
def test_what_is_not_text_is_refused(here: Path, name: str, content: bytes, message: str):
    with pytest.raises(DataError, match=message):
        read(write(name, content))


def test_a_wrong_field_names_the_nearest(here: Path):
    with pytest.raises(DataError, match="no text in a field 'text'") as raised:
        read(write("a.jsonl", '{"texts": "x", "number": 3, "label": "y"}\n'))
    assert "--field" in raised.value.hint
    assert "'texts'" in raised.value.hint


@pytest.mark.parametrize("content", [b"not gzip", gzip.compress(b"whole" * 100)[:-9], b"\x1f\x8b\x08\0\0\0\0\0junk"])
def test_a_broken_gzip_file_is_refused(here: Path, content: bytes):
    Path("a.txt.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.txt\.gz is not a whole gzip file"):
        read("a.txt.gz")


def test_what_is_missing_names_its_neighbours(here: Path):
    write("corpus.txt", "x")
    with pytest.raises(DataError, match=r"there is no corpus\.tx") as raised:
        read("corpus.tx")
    assert raised.value.hint == "did you mean 'corpus.txt'?"
    with pytest.raises(DataError, match=r"there is no nowhere/\*\.txt"):
        read("nowhere/*.txt")


def test_a_folder_without_text_is_refused(here: Path):
    write("d/a.png", "x")
    with pytest.raises(DataError, match="no text in the folder d") as raised:
        read("d")
    assert ".jsonl" in raised.value.hint


def test_a_home_of_nobody_is_refused():
    with pytest.raises(DataError, match="no home folder for ~nobody-of-that-name") as raised:
        sources.find(["~nobody-of-that-name/x.txt"])
    assert "whole path" in raised.value.hint
