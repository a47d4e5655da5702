import gzip
import json
import os
import sys
import sysconfig
from pathlib import Path

import pytest

from nudge.data import corpus
from nudge.errors import DataError, MachineError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(
        zstd(data) if path.endswith(".zst") else gzip.compress(data) if path.endswith(".gz") else data
    )
    return path


def zstd(data: bytes) -> bytes:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    out = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(out, "zstd") as stream:
        stream.write(data)
    return out.getvalue().to_pybytes()


def write_parquet(path: str, **columns: object) -> str:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    import pyarrow

    parquet.write_table(pyarrow.table(columns), path, row_group_size=1000)
    return path


def lines(*texts: str, field: str = "text") -> str:
    return "".join(json.dumps({field: text, "id": number}) + "\n" for number, text in enumerate(texts))


def read(*paths: str, field: str = "text") -> list[str]:
    return list(corpus.documents(paths, field))


@pytest.mark.parametrize(
    "name", ["a.txt", "a.md", "a.py", "A.TXT", "a.txt.gz", "a.md.gz", "a.txt.zst", "a.rst", "LICENSE"]
)
def test_a_text_file_is_one_document(here: Path, name: str):
    assert read(write(name, "one\r\ntwo\n")) == ["one\r\ntwo\n"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_each_line_of_json_is_a_document(here: Path, name: str):
    assert read(write(name, lines("one", "", "two\nlines") + "\n")) == ["one", "two\nlines"]
    assert read(write(name, lines("one", field="body")), field="body") == ["one"]


def test_zst_may_be_several_frames(here: Path):
    Path("a.jsonl.zst").write_bytes(zstd(lines("one").encode()) + zstd(lines("two", "three").encode()))
    assert read("a.jsonl.zst") == ["one", "two", "three"]


def test_each_row_of_parquet_is_a_document(here: Path):
    texts = [f"text {number}" for number in range(5000)]
    write_parquet("a.parquet", text=[*texts, "", None], body=[*texts[::-1], "", None], n=range(5002))
    assert read("a.parquet") == texts
    assert read("a.parquet", field="body") == texts[::-1]


def test_a_large_parquet_file_is_never_held_whole(here: Path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    write_parquet("a.parquet", text=[os.urandom(2500).hex() for _ in range(10_000)])  # 50 MB in 10 row groups
    pool, before, peak = pyarrow.default_memory_pool(), pyarrow.default_memory_pool().bytes_allocated(), 0
    for _ in corpus.documents(["a.parquet"]):
        peak = max(peak, pool.bytes_allocated())
    assert peak - before < 25e6


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
    found = corpus.find(
        [
            write("a.txt", "abc"),
            write("b.jsonl", lines("x", "y")),
            write("c.jsonl.gz", lines("z")),
            write_parquet("d.parquet", text=["v", "w"]),
        ]
    )
    positions = [position for _, position in corpus.read_all(found)]
    assert positions == sorted(positions)
    assert positions[-1] == sum(file.n_bytes for file in found)


def test_the_standard_library_is_text_without_tests():
    found = corpus.find([])
    root = Path(sysconfig.get_path("stdlib"))
    names = {file.path.relative_to(root).as_posix() for file in found}
    assert {"argparse.py", "json/decoder.py"} <= names
    assert not [name for name in names if {"test", "tests", "idle_test", "site-packages"} & set(name.split("/"))]
    assert 5e6 < sum(file.n_bytes for file in found) < 20e6


def test_a_missing_standard_library_is_reported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: "/usr/lib/python311.zip")
    with pytest.raises(DataError) as raised:
        corpus.find([])
    assert raised.value.code == "data.no_standard_library"
    assert raised.value.values["folder"] == Path("/usr/lib/python311.zip")
    assert "--data" in raised.value.hint


@pytest.mark.parametrize(
    ("name", "content", "code", "place"),
    [
        ("a.txt", b"MZ\0\0", "data.binary", "a.txt"),
        ("a.bin", b"\xff\xfe", "data.not_utf8", "a.bin"),
        ("a.jsonl", '{"text": "x"}\n{"text": ', "data.not_json", "a.jsonl, line 2"),
        ("a.jsonl", '{"text": "x"}\n["x"]\n', "data.not_json", "a.jsonl, line 2"),
        ("a.jsonl", '{"text": 3, "n": 4}\n', "data.no_field", "a.jsonl, line 1"),
    ],
)
def test_what_is_not_text_is_refused(here: Path, name: str, content: bytes, code: str, place: str):
    with pytest.raises(DataError) as raised:
        read(write(name, content))
    assert raised.value.code == code
    assert place in raised.value.message


def test_a_wrong_field_names_those_there_are(here: Path):
    with pytest.raises(DataError) as raised:
        read(write("a.jsonl", '{"texts": "x", "number": 3, "label": "y"}\n'))
    assert raised.value.values == {"place": "a.jsonl, line 1", "field": "text", "names": "texts, number, label"}
    assert "--field" in raised.value.hint


def assert_incomplete(error: DataError, path: str, kind: str) -> None:
    assert error.code == "data.incomplete"
    assert (error.values["path"], error.values["kind"]) == (Path(path), kind)


@pytest.mark.parametrize(
    "content", [b"not gzip", gzip.compress(b"whole" * 100, mtime=0)[:-9], b"\x1f\x8b\x08\0\0\0\0\0junk"]
)
def test_a_broken_gzip_file_is_refused(here: Path, content: bytes):
    Path("a.txt.gz").write_bytes(content)
    with pytest.raises(DataError) as raised:
        read("a.txt.gz")
    assert_incomplete(raised.value, "a.txt.gz", ".gz")


@pytest.mark.parametrize(
    "change",
    [lambda data: b"not zst", lambda data: data[:-9], lambda data: data + b"more"],
    ids=["other", "cut", "more"],
)
@pytest.mark.parametrize("name", ["a.txt.zst", "a.jsonl.zst"])
def test_a_broken_zst_file_is_refused(here: Path, name: str, change):
    Path(name).write_bytes(change(zstd(lines(*map(str, range(3000))).encode())))
    with pytest.raises(DataError) as raised:
        read(name)
    assert_incomplete(raised.value, name, ".zst")


@pytest.mark.parametrize("change", [lambda data: b"", lambda data: b"text", lambda data: data[:-9]])
def test_a_broken_parquet_file_is_refused(here: Path, change):
    Path(write_parquet("a.parquet", text=["a"])).write_bytes(change(Path("a.parquet").read_bytes()))
    with pytest.raises(DataError) as raised:
        read("a.parquet")
    assert_incomplete(raised.value, "a.parquet", ".parquet")


def test_a_wrong_column_names_those_there_are(here: Path):
    write_parquet("a.parquet", texts=["x"], number=[3])
    for field in ("text", "number"):
        with pytest.raises(DataError) as raised:
            read("a.parquet", field=field)
        assert raised.value.code == "data.no_field"
        assert raised.value.values == {"place": "a.parquet", "field": field, "names": "texts, number"}


@pytest.mark.parametrize("name", ["a.parquet", "a.txt.zst"])
def test_without_pyarrow_it_says_what_to_install(here: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    Path(name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MachineError) as raised:
        read(name)
    assert raised.value.code == "machine.no_library"
    assert raised.value.values == {"what": name, "library": "pyarrow", "extra": "data"}
    assert raised.value.hint == "pip install 'nudge-lm[data]'"


def test_a_name_of_the_hub_is_no_file(here: Path):
    with pytest.raises(DataError) as raised:
        read("hf:owner/name")
    assert raised.value.code == "data.hub_path"


def test_what_is_missing_names_its_neighbours(here: Path):
    write("corpus.txt", "x")
    with pytest.raises(DataError) as raised:
        read("corpus.tx")
    assert raised.value.code == "data.missing"
    assert raised.value.hint == "did you mean 'corpus.txt'?"
    with pytest.raises(DataError) as raised:
        read("nowhere/*.txt")
    assert raised.value.values["path"] == "nowhere/*.txt"


def test_a_folder_without_text_is_refused(here: Path):
    write("d/a.png", "x")
    with pytest.raises(DataError) as raised:
        read("d")
    assert raised.value.code == "data.empty"
    assert raised.value.values["path"] == "d"
    assert ".jsonl" in raised.value.hint


def test_a_home_of_nobody_is_refused():
    with pytest.raises(DataError) as raised:
        corpus.find(["~nobody-of-that-name/x.txt"])
    assert raised.value.code == "data.no_home"
    assert raised.value.values["user"] == "~nobody-of-that-name"
