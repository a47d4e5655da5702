import gzip
import json
import os
import random
import re
import struct
import subprocess
import sys
import sysconfig
import zlib
from collections import Counter
from pathlib import Path

import pytest
from tests.refusals import refused

from nudge.data import arrow, corpus
from nudge.data.charset import BOM
from nudge.data.split import hash_number
from nudge.data.text import LongText, pieces
from nudge.data.tokenizer import to_bytes
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
        ("a.bin", b"caf\xe9", "data.not_utf8", "a.bin"),
        ("a.jsonl", '{"text": "x"}\n{"text": ', "data.not_json", "a.jsonl, line 2"),
        ("a.jsonl", '{"text": "x"}\n["x"]\n', "data.not_json", "a.jsonl, line 2"),
        ("a.jsonl", '{"text": 3, "n": 4}\n', "data.not_text", "a.jsonl, line 1"),
        ("a.jsonl", '{"text": "x"}\n\n{"text": ["x"]}\n', "data.not_text", "a.jsonl, line 3"),
        ("a.jsonl", '{"text": "x"}\n{"text": "x",}\n', "data.not_json", "a.jsonl, line 2"),
        ("a.jsonl", "[" * 100_000, "data.not_json", "a.jsonl, line 1"),
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
    with refused("data.no_field", place="a.parquet", field="text", names="texts, number"):
        read("a.parquet")


@pytest.mark.parametrize(
    ("values", "kind"), [([3], "int64"), ([b"x"], "binary"), ([{"s": "x"}], "struct<s: string>")], ids=str
)
def test_a_column_without_text_is_named_by_its_type(here: Path, values: list[object], kind: str):
    write_parquet("a.parquet", text=values)
    with refused("data.not_text", place="a.parquet, row 1", field="text", kind=kind):
        read("a.parquet")


def test_a_null_is_no_document_in_any_format(here: Path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    values = ["a", None, "", "b"]
    write("a.jsonl", "".join(json.dumps({"text": value}) + "\n" for value in values))
    assert read("a.jsonl") == ["a", "b"]
    for kind in (pyarrow.string(), pyarrow.large_string(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string())):
        write_parquet("a.parquet", text=pyarrow.array(values, kind))
        assert read("a.parquet") == ["a", "b"]
    write_parquet("a.parquet", text=[None, None])
    write("a.jsonl", '{"text": null}\n' * 2)
    assert read("a.parquet") == read("a.jsonl") == []


@pytest.mark.parametrize("name", ["a.txt", "a.md.gz", "a.txt.zst", "a.rst"])
def test_a_byte_order_mark_is_no_text(here: Path, name: str):
    assert read(write(name, "\ufeffone \ufeff two")) == ["one \ufeff two"]
    assert read(write(name, "\ufeff")) == []


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_a_byte_order_mark_is_no_json(here: Path, name: str):
    assert read(write(name, "\ufeff" + lines("one", "\ufefftwo"))) == ["one", "two"]


def test_a_byte_order_mark_is_no_text_in_a_column(here: Path):
    write_parquet("a.parquet", text=["\ufeffone", "\ufeff", "two"])
    assert read("a.parquet") == ["one", "two"]


KOREAN = "안녕하세요. 오늘은 날씨가 좋습니다.\r\n" * 50


@pytest.mark.parametrize("encoding", ["cp949", "euc-kr", "utf-16", "utf-32", "utf-16-be-mark"])
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.rst"])
def test_another_encoding_is_named_with_its_cure(here: Path, name: str, encoding: str):
    text = json.dumps({"text": KOREAN}, ensure_ascii=False) if ".jsonl" in name else KOREAN
    data = b"\xfe\xff" + text.encode("utf-16-be") if encoding == "utf-16-be-mark" else text.encode(encoding)
    with refused("data.other_encoding", path=Path(name)) as error:
        read(write(name, data))
    (command,) = re.findall(r"iconv .*", error.value.hint)
    if name.endswith(".gz"):
        Path("a.txt").write_bytes(data)
    subprocess.run(command, shell=True, check=True)
    converted = error.value.values["converted"]
    assert read(str(converted)) == [KOREAN]


@pytest.mark.parametrize(
    "data",
    [
        "déjà vu, été, où, naïve, çà et là, forêt, hôtel, fenêtre, élève, Noël ".encode("latin-1") * 20,
        "今天天气很好，我们去公园散步，然后一起吃午饭。".encode("gbk") * 20,
        "今日は天気がいいので、公園へ散歩に行きます。カメラ".encode("shift-jis") * 20,
        "今日は天気がいいので、公園へ散歩に行きます。カメラ".encode("euc-jp") * 20,
        KOREAN.encode() + "가나다".encode("cp949") + KOREAN.encode(),
        bytes(range(1, 256)) * 20,
    ],
    ids=["latin-1", "gbk", "shift-jis", "euc-jp", "a few in UTF-8", "every byte"],
)
def test_other_bytes_are_kept_and_counted(here: Path, data: bytes):
    stray: Counter[Path] = Counter()
    ((text, _),) = corpus.read_all(corpus.find([write("a.txt", data)]), stray=stray)
    assert isinstance(text, str)
    assert text.encode("utf-8", "surrogateescape") == data
    assert stray[Path("a.txt")] == len(data) - len(data.decode("utf-8", "ignore").encode()) > 0


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("seed", range(3))
def test_a_long_file_is_the_same_text_in_pieces(here: Path, monkeypatch: pytest.MonkeyPatch, packed: str, seed: int):
    draw = random.Random(seed)
    data = BOM.encode() + b"".join(draw.choices([b"a", "é".encode(), "가".encode(), b"\xff", b"\n"], k=3000))
    whole = read(write("a.txt" + packed, data))[0]
    monkeypatch.setattr(corpus, "LONG_BYTES", 1000)
    monkeypatch.setattr(corpus, "_CHUNK_BYTES", draw.choice([1, 7, 640]))
    stray: Counter[Path] = Counter()
    ((text, position),) = corpus.read_all(corpus.find(["a.txt" + packed]), stray=stray)
    assert isinstance(text, LongText)
    assert position == Path("a.txt" + packed).stat().st_size
    assert (len(text), "".join(pieces(text)), hash_number(text)) == (len(whole), whole, hash_number(whole))
    start, end = sorted(draw.choices(range(len(whole)), k=2))
    assert "".join(pieces(text[start:][: end - start])) == whole[start:end]
    assert stray.total() == data.count(b"\xff")
    with refused("data.not_utf8", at=data.index(b"\xff")):
        Path("a.txt").write_bytes(data)
        read(str(Path("a.txt").rename("a.rst")))


@pytest.mark.parametrize("name", ["a.txt.gz", "a.jsonl.gz", "a.txt.zst", "a.parquet"])
def test_what_no_text_is_packed_to_is_refused_on_the_way(here: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr(corpus, "LONG_BYTES", 1 << 16)
    monkeypatch.setattr(corpus, "_CHUNK_BYTES", 1 << 16)
    if name == "a.parquet":
        write_parquet(name, text=["the same line " * 1000] * 1000)
    else:
        write(name, "the same line " * 500_000)
    with refused("data.packed_too_well", path=Path(name), packed=Path(name).stat().st_size) as error:
        read(name)
    assert error.value.values["n_bytes"] < 6_000_000


def test_a_text_that_is_packed_well_is_read(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpus, "LONG_BYTES", 1 << 16)
    text = "".join(f"line {number}: the same words\n" for number in range(20_000))
    data = gzip.compress(text.encode())
    Path("a.txt.gz").write_bytes(data)
    assert len(text) > 8 * len(data)
    assert "".join(piece for document in corpus.documents(["a.txt.gz"]) for piece in pieces(document)) == text


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst"])
def test_a_line_of_json_has_a_limit(here: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr(corpus, "LINE_BYTES", len(lines("x" * 1000)))
    assert read(write(name, lines("x" * 1000))) == ["x" * 1000]
    with refused("data.line_too_long", path=Path(name), line=2):
        read(write(name, lines("one", "x" * 1001)))


def test_a_repeated_text_in_a_column_is_not_held_many_times(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(arrow, "_BATCH_BYTES", 1 << 24)
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    text = "".join(random.Random(0).choices("abcdefgh", k=1_000_000))
    write_parquet("a.parquet", text=pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1000), [text]))
    pool, before, peak = pyarrow.default_memory_pool(), pyarrow.default_memory_pool().bytes_allocated(), 0
    for document, _ in zip(corpus.documents(["a.parquet"]), range(100), strict=False):
        assert document == text
        peak = max(peak, pool.bytes_allocated())
    assert peak - before < 100e6


def test_lines_end_only_at_a_newline(here: Path):
    text = '{"text":"first\u0085x\u2028y\u2029z"}\n\n   \n{"text":"second"}'
    assert read(write("a.jsonl", text)) == ["first\u0085x\u2028y\u2029z", "second"]
    with refused("data.not_json", line=3):
        read(write("a.jsonl", '{"text":"ok\u2028"}\n\n{"text":oops}\n'))


def test_half_a_surrogate_pair_in_json_is_a_character_or_a_byte(here: Path):
    text = '{"text":"A\\ud83d\\udc4dB"}\n{"text":"A\\udbc0B"}\n{"text":"A\\udcb2B"}\n'
    found = [to_bytes(document) for document in read(write("a.jsonl", text))]
    assert found == ["A👍B".encode(), "A\ufffdB".encode(), b"A\xb2B"]


def test_gzip_may_be_several_members_and_padded(here: Path):
    two = gzip.compress(b"a" * 10) + gzip.compress(b"") + gzip.compress(b"b" * 10)
    for data in (two, two + bytes(512), bgzip(b"a" * 10) + bgzip(b"b" * 10) + bgzip(b"")):
        Path("a.txt.gz").write_bytes(data)
        assert read("a.txt.gz") == ["a" * 10 + "b" * 10]
    Path("a.txt.gz").write_bytes(two + b"more")
    with refused("data.incomplete", path=Path("a.txt.gz")):
        read("a.txt.gz")


def bgzip(data: bytes) -> bytes:
    """A block of a BGZF file: a gzip member with its own size in an extra field. Source: the SAM specification, 4.1."""
    packer = zlib.compressobj(wbits=-15)
    body = packer.compress(data) + packer.flush()
    head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + struct.pack("<H2sHH", 6, b"BC", 2, len(body) + 25)
    return head + body + struct.pack("<II", zlib.crc32(data), len(data))


SKIPPED_FRAME = struct.pack("<II", 0x184D2A50, 4) + b"note"


def zstd_frame(data: bytes, window: int) -> bytes:
    """A frame with one raw block and a window of 2**`window` bytes. Source: RFC 8878, 3.1.1."""
    return b"\x28\xb5\x2f\xfd" + bytes([0, (window - 10) << 3]) + struct.pack("<I", len(data) << 3 | 1)[:3] + data


def test_zst_may_be_any_sequence_of_frames(here: Path):
    data = lines("one", "two", "three").encode()
    for frames in (
        [SKIPPED_FRAME, zstd(data), SKIPPED_FRAME],
        [zstd(data[:20]), zstd(b""), SKIPPED_FRAME, zstd(data[20:]), zstd(b"")],
        [SKIPPED_FRAME, zstd_frame(data[:9], 10), SKIPPED_FRAME, zstd_frame(data[9:], 27)],
    ):
        Path("a.jsonl.zst").write_bytes(b"".join(frames))
        assert read("a.jsonl.zst") == ["one", "two", "three"]


@pytest.mark.parametrize("window", [28, 31])
def test_a_sound_zst_file_with_a_long_window_is_not_called_damaged(here: Path, window: int):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    for frames in (zstd_frame(b"text", window), zstd(b"text") + zstd_frame(b"text", window)):
        Path("a.txt.zst").write_bytes(frames)
        with refused("data.long_window", path=Path("a.txt.zst"), unpacked=Path("a.txt")) as error:
            read("a.txt.zst")
        assert "zstd -d --long=31 a.txt.zst" in error.value.hint


@pytest.mark.parametrize("name", ["a.parquet", "a.txt.zst"])
def test_without_pyarrow_it_says_what_to_install(here: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    Path(name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MachineError) as raised:
        read(name)
    assert raised.value.code == "machine.no_library"
    assert raised.value.values == {"what": name, "library": "pyarrow", "extra": "data"}
    assert raised.value.hint.endswith('pip install -e ".[data]"')


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
