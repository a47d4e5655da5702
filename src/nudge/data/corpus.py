"""The sources of text: files, folders and globs, or Python's standard library, read one document after another.

A .txt, .md or .py file is one document; each line of a .jsonl file is one; any of them may be compressed (.gz, .zst).
Each row of a .parquet file is one. At any time, memory holds only one document (.jsonl), some rows (.parquet) or some
megabytes of a file (all others). A byte-order mark at the start of a document is no text.
"""

import contextlib
import glob
import gzip
import io
import json
import os
import sysconfig
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from nudge.data import arrow, named_texts
from nudge.data.charset import BOM, Decoder, decode_line
from nudge.data.text import LongText, Text
from nudge.errors import DataError, did_you_mean, first_line

SUFFIXES = (".txt", ".md", ".py", ".jsonl", ".parquet")
COMPRESSED = (".gz", ".zst")

LONG_BYTES = 1 << 26  # a file of more text is read piece by piece, several times
LINE_BYTES = 1 << 28  # of JSON; reading it takes a few times its size in memory
# Text is packed to a tenth, rarely to a fiftieth of its size. More is a line again and again, by mistake or on purpose.
MOST_PACKED = 200

_CHUNK_BYTES = 1 << 20
_BUFFER_BYTES = 1 << 17

# Not in the default text: tests, third-party packages, and tables in .py files (code pages, the help texts of pydoc).
_NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "pydoc_data"}


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of text."""

    path: Path
    n_bytes: int
    suffix: str  # without the compression's: ".txt" for notes.txt.gz
    compression: str  # ".gz", ".zst" or ""


def is_hub(path: str) -> bool:
    """Return whether a path names a data set of the Hugging Face Hub."""
    return path.startswith("hf:")


def find(paths: Sequence[str]) -> list[TextFile]:
    """Return the text files that the paths (files, folders, globs) name, in a fixed order.

    Without paths, return the files of Python's standard library.

    Folders are searched recursively, without hidden files. Raises: DataError for a path without text.
    """
    if not paths:
        return standard_library()
    found: dict[Path, TextFile] = {}  # a file that two paths name is read once
    for given in paths:
        for path in _expand(given):
            found.setdefault(path.resolve(), _text_file(path))
    return list(found.values())


def documents(paths: Sequence[str], field: str = "text") -> Iterator[Text]:
    """Yield all documents of `paths`. Raises: DataError for text that is missing, binary or unreadable."""
    for text, _ in read_all(find(paths), field):
        yield text


def read_all(
    files: Iterable[TextFile], field: str = "text", stray: Counter[Path] | None = None
) -> Iterator[tuple[Text, int]]:
    """Yield each document of all files, and how many bytes of all files have been read so far.

    `stray` counts the bytes of each file that are not UTF-8.
    """
    before = 0
    for file in files:
        for text, position in read(file, field, stray):
            yield text, before + position
        before += file.n_bytes


def read(file: TextFile, field: str = "text", stray: Counter[Path] | None = None) -> Iterator[tuple[Text, int]]:
    """Yield each nonempty document, and how many bytes of the file have been read so far.

    Bytes that are not UTF-8 become lone surrogates (`surrogateescape`). Raises: DataError.
    """
    stray = Counter() if stray is None else stray
    if file.suffix == ".parquet":
        found = _parquet_rows(file, field)
    elif file.suffix == ".jsonl":
        found = _json_lines(file, field, stray)
    else:
        found = iter([(_read_file(file, stray), file.n_bytes)])
    for text, position in found:
        if isinstance(text, str):
            text = text.removeprefix(BOM)
        if text:
            yield text, position


def chunks(file: TextFile) -> Iterator[bytes]:
    """Yield the raw bytes of a file chunk by chunk, without decompressing them. Raises: DataError."""
    try:
        with file.path.open("rb") as raw:
            while chunk := raw.read(_CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise DataError("unreadable", path=file.path, error=error.strerror) from error


def standard_library() -> list[TextFile]:
    """Return the .py files of the running interpreter's standard library, without tests and tables."""
    root = Path(sysconfig.get_path("stdlib"))
    found = [path for path in _walk(root, _NOT_LIBRARY) if path.suffix == ".py"]
    if not found:
        raise DataError("no_standard_library", folder=root)
    return [_text_file(path) for path in found]


def expand_user(given: str) -> Path:
    """Return the path with ~ expanded. Raises: DataError for an unknown user or an impossible path."""
    try:
        path = Path(given).expanduser()
        path.exists()
    except RuntimeError as error:
        raise DataError("no_home", user=Path(given).parts[0]) from error
    except (OSError, ValueError) as error:  # the name is too long, a folder is not readable, the path contains a NUL
        raise DataError("bad_path", path=given[:80], error=first_line(error)) from error
    return path


def matches(pattern: str) -> list[Path]:
    """Return the paths that a glob matches, sorted; an empty list if `pattern` is not a glob."""
    # not Path.glob, which takes no absolute pattern
    found = glob.glob(str(expand_user(pattern)), recursive=True) if glob.has_magic(pattern) else []  # noqa: PTH207
    return [Path(match) for match in sorted(found)]


def _expand(given: str) -> list[Path]:
    """Return the files that one path names. Raises: DataError if there are none."""
    if is_hub(given) or named_texts.find(given):
        raise DataError("hub_path", path=given)
    path = expand_user(given)
    if path.is_dir():
        found = [inner for inner in _walk(path) if _suffixes(inner)[0] in SUFFIXES]
        if not found:
            raise DataError("empty", path=given, suffixes=", ".join(SUFFIXES))
        return found
    if path.exists():
        return [path]
    if found := matches(given):
        return [path for match in found for path in _expand(str(match))]
    raise DataError("missing", path=given, closest=_closest_name(given, path))


def _walk(root: Path, skipped: Collection[str] = ()) -> Iterator[Path]:
    """Yield the files below a folder in a fixed order, without hidden files and without following links to folders."""
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if name not in skipped and not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _closest_name(given: str, path: Path) -> str:
    """Return a hint with the names that are most like the path's: in its folder, and of texts that have a name."""
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    known = [*(names if len(names) <= 1000 else ()), *(named_texts.table() if path.name == given else ())]
    return did_you_mean(path.name, known) if known else "check the path"


def _suffixes(path: Path) -> tuple[str, str]:
    """Return the suffix of the text and the suffix of its compression: (".txt", ".gz") for notes.txt.gz."""
    compression = path.suffix.lower() if path.suffix.lower() in COMPRESSED else ""
    return Path(path.stem if compression else path.name).suffix.lower(), compression


def _text_file(path: Path) -> TextFile:
    try:
        return TextFile(path, path.stat().st_size, *_suffixes(path))
    except OSError as error:
        raise DataError("unreadable", path=path, error=error.strerror) from error


class _Unpacked(io.RawIOBase):
    """A packed file as it is read. Raises: DataError when it gives more than any text would."""

    def __init__(self, packed: IO[bytes], file: TextFile) -> None:
        self._packed = cast(io.BufferedIOBase, packed)
        self._file = file
        self._n_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        n = self._packed.readinto(buffer)
        self._n_bytes += n
        _check_size(self._file, self._n_bytes)
        return n


def _check_size(file: TextFile, n_bytes: int) -> None:
    """Check how much text a packed file has given. Raises: DataError."""
    if n_bytes > LONG_BYTES and n_bytes > MOST_PACKED * file.n_bytes:
        raise DataError("packed_too_well", path=file.path, n_bytes=n_bytes, packed=file.n_bytes)


@contextlib.contextmanager
def _opened(file: TextFile) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Open a file; yield it as it is, and unpacked. Raises: DataError when it cannot be read to its end."""
    try:
        with file.path.open("rb") as raw:
            if not file.compression:
                yield raw, raw
            else:
                packed = arrow.zstd_reader(raw, file.path) if file.compression == ".zst" else gzip.GzipFile(fileobj=raw)
                yield (
                    raw,
                    io.BufferedReader(cast(io.RawIOBase, _Unpacked(cast(IO[bytes], packed), file)), _BUFFER_BYTES),
                )
    except (EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError("unreadable", path=file.path, error=error.strerror) from error
        if arrow.needs_long_window(error):
            raise DataError("long_window", path=file.path, unpacked=file.path.with_suffix("")) from error
        raise DataError("incomplete", path=file.path, kind=file.compression, error=first_line(error)) from error


def _pieces(file: TextFile, decoder: Decoder) -> Iterator[str]:
    """Yield the text of a file piece by piece. Raises: DataError."""
    with _opened(file) as (_, reader):
        while data := reader.read(_CHUNK_BYTES):
            yield decoder.decode(data)
    yield decoder.decode(b"", final=True)


def _read_file(file: TextFile, stray: Counter[Path]) -> Text:
    """Return a file as one document: a string, or if it is long what was learned by reading all of it: its length."""
    decoder = _decoder(file)
    held: list[str] = []
    n_chars = 0
    for piece in _pieces(file, decoder):
        n_chars += len(piece)
        held = [*held, piece] if decoder.n_bytes <= LONG_BYTES else []
    stray[file.path] += decoder.n_stray
    if decoder.n_bytes <= LONG_BYTES:
        return "".join(held)
    return LongText(lambda: _pieces(file, _decoder(file)), 0, n_chars)


def _decoder(file: TextFile) -> Decoder:
    return Decoder(file.path, strict=file.suffix not in SUFFIXES)


def _parquet_rows(file: TextFile, field: str) -> Iterator[tuple[Text, int]]:
    n_chars = 0
    for text, share in arrow.parquet_texts(file.path, field):
        n_chars += len(text)
        _check_size(file, n_chars)
        yield text, int(share * file.n_bytes)


def _json_lines(file: TextFile, field: str, stray: Counter[Path]) -> Iterator[tuple[Text, int]]:
    """Yield the text of each JSON line, and how many bytes of the file have been read so far."""
    done = number = 0
    with _opened(file) as (raw, reader):
        while line := reader.readline(LINE_BYTES + 1):
            number += 1
            done = raw.tell() if file.compression else done + len(line)
            if len(line) > LINE_BYTES:
                raise DataError("line_too_long", path=file.path, line=number, limit=LINE_BYTES)
            if not line.isspace():
                decoded, n_stray = decode_line(file.path, line)
                if n_stray:
                    stray[file.path] += n_stray
                yield _text_of_line(decoded, file.path, number, field), done


def _text_of_line(line: str, path: Path, number: int, field: str) -> str:
    """Return the text in a line of JSON; null is none. Raises: DataError."""
    try:
        value = json.loads(line.removeprefix(BOM))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DataError("not_json", path=path, line=number, start=line[:40])
    text = value.get(field)
    if isinstance(text, str):
        return text
    place = f"{path}, line {number}"
    if field not in value:
        raise DataError("no_field", place=place, field=field, names=", ".join(value))
    if text is not None:
        raise DataError("not_text", place=place, field=field, kind=type(text).__name__)
    return ""
