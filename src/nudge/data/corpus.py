"""The sources of text: files, folders and globs, or Python's standard library, read one document after another.

A .txt, .md or .py file is one document; each line of a .jsonl file is one; any of them may be compressed (.gz, .zst).
Each row of a .parquet file is one. At any time, memory holds only one document (.jsonl), some rows (.parquet) or one
whole file (all others).
"""

import glob
import gzip
import json
import os
import sysconfig
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from nudge.data import arrow
from nudge.errors import DataError, did_you_mean, first_line

SUFFIXES = (".txt", ".md", ".py", ".jsonl", ".parquet")
COMPRESSED = (".gz", ".zst")

_CHUNK_BYTES = 1 << 24

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


def documents(paths: Sequence[str], field: str = "text") -> Iterator[str]:
    """Yield all documents of `paths`. Raises: DataError for text that is missing, binary or unreadable."""
    for text, _ in read_all(find(paths), field):
        yield text


def read_all(files: Iterable[TextFile], field: str = "text") -> Iterator[tuple[str, int]]:
    """Yield each document of all files, and how many bytes of all files have been read so far."""
    before = 0
    for file in files:
        for text, position in read(file, field):
            yield text, before + position
        before += file.n_bytes


def read(file: TextFile, field: str = "text") -> Iterator[tuple[str, int]]:
    """Yield each nonempty document, and how many bytes of the file have been read so far.

    Bytes that are not UTF-8 become lone surrogates (`surrogateescape`). Raises: DataError.
    """
    try:
        with file.path.open("rb") as raw:
            if file.suffix == ".parquet":
                for text, share in arrow.parquet_texts(file.path, field):
                    yield text, int(share * file.n_bytes)
            elif file.suffix == ".jsonl":
                yield from _json_lines(file, raw, field)
            elif text := _read_whole(file, raw):
                yield text, file.n_bytes
    except (EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError("unreadable", path=file.path, error=error.strerror) from error
        raise DataError("incomplete", path=file.path, kind=file.compression, error=first_line(error)) from error


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
    if is_hub(given):
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
    raise DataError("missing", path=given, closest=_closest_name(path))


def _walk(root: Path, skipped: Collection[str] = ()) -> Iterator[Path]:
    """Yield the files below a folder in a fixed order, without hidden files and without following links to folders."""
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if name not in skipped and not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _closest_name(path: Path) -> str:
    """Return a hint with the names in the path's folder that are most like the path's."""
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, names) if 0 < len(names) <= 1000 else "check the path"


def _suffixes(path: Path) -> tuple[str, str]:
    """Return the suffix of the text and the suffix of its compression: (".txt", ".gz") for notes.txt.gz."""
    compression = path.suffix.lower() if path.suffix.lower() in COMPRESSED else ""
    return Path(path.stem if compression else path.name).suffix.lower(), compression


def _text_file(path: Path) -> TextFile:
    try:
        return TextFile(path, path.stat().st_size, *_suffixes(path))
    except OSError as error:
        raise DataError("unreadable", path=path, error=error.strerror) from error


def _decompress(file: TextFile, raw: IO[bytes]) -> IO[bytes]:
    if file.compression == ".zst":
        return arrow.zstd_reader(raw, file.path)
    return cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if file.compression else raw


def _read_whole(file: TextFile, raw: IO[bytes]) -> str:
    """Read a file as one text. Only files without a known suffix must be valid UTF-8. Raises: DataError."""
    data = _decompress(file, raw).read()
    if b"\0" in data:
        raise DataError("binary", path=file.path)
    try:
        return data.decode("utf-8", "surrogateescape" if file.suffix in SUFFIXES else "strict")
    except UnicodeDecodeError as error:
        raise DataError("not_utf8", path=file.path, at=error.start) from error


def _json_lines(file: TextFile, raw: IO[bytes], field: str) -> Iterator[tuple[str, int]]:
    """Yield the nonempty text of each JSON line, and how many bytes of the file have been read so far."""
    done = 0
    for number, line in enumerate(_decompress(file, raw), start=1):
        done = raw.tell() if file.compression else done + len(line)
        if line.isspace():
            continue
        try:
            value = json.loads(line.decode("utf-8", "surrogateescape"))
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise DataError("not_json", path=file.path, line=number, start=line[:40].decode("utf-8", "replace"))
        text = value.get(field)
        if not isinstance(text, str):
            raise DataError("no_field", place=f"{file.path}, line {number}", field=field, names=", ".join(value))
        if text:
            yield text, done
