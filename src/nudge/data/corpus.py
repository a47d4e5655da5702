"""Where text comes from: files, folders and globs, or Python's own standard library; one document after another.

A .txt, .md or .py file is one document; each line of a .jsonl file is one; any of them may be compressed (.gz, .zst).
Each row of a .parquet file is one. Nothing but one document (of a .jsonl file), some rows (of a .parquet file) or one
file is held in memory.
"""

import glob
import gzip
import json
import os
import sysconfig
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from nudge.data import arrow
from nudge.errors import DataError, first_line, nearest

SUFFIXES = (".txt", ".md", ".py", ".jsonl", ".parquet")
COMPRESSED = (".gz", ".zst")

_CHUNK_BYTES = 1 << 24

# Not in the default text: tests, other people's packages, and tables that are Python only by name (code pages, the
# help texts of pydoc).
_NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "pydoc_data"}


@dataclass(frozen=True, slots=True)
class TextFile:
    """One file of text. `suffix` is what remains when that of its compression is taken off."""

    path: Path
    n_bytes: int
    suffix: str
    compression: str  # ".gz", ".zst" or none


def find(paths: Sequence[str]) -> list[TextFile]:
    """The text files of files, folders and globs, in a fixed order; without paths, Python's standard library.

    Folders are searched to the bottom, hidden ones passed over. Raises: DataError for a path without text.
    """
    if not paths:
        return standard_library()
    found: dict[Path, TextFile] = {}  # a file that two paths name is read once
    for given in paths:
        for path in _expand(given):
            found.setdefault(path.resolve(), _text_file(path))
    return list(found.values())


def documents(paths: Sequence[str], field: str = "text") -> Iterator[str]:
    """All documents of `paths`. Raises: DataError for text that is missing, binary or unreadable."""
    for text, _ in read_all(find(paths), field):
        yield text


def read_all(files: Iterable[TextFile], field: str = "text") -> Iterator[tuple[str, int]]:
    """Each document of all files, and the bytes of all files that are read by then."""
    before = 0
    for file in files:
        for text, position in read(file, field):
            yield text, before + position
        before += file.n_bytes


def read(file: TextFile, field: str = "text") -> Iterator[tuple[str, int]]:
    """Each document that is not empty, and the bytes of the file that are read by then.

    Bytes that are not UTF-8 stay, as `surrogateescape` writes them. Raises: DataError.
    """
    try:
        with file.path.open("rb") as raw:
            if file.suffix == ".parquet":
                for text, share in arrow.parquet_texts(file.path, field):
                    yield text, int(share * file.n_bytes)
            elif file.suffix == ".jsonl":
                yield from _json_lines(file, raw, field)
            elif text := _whole(file, raw):
                yield text, file.n_bytes
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{file.path} is not a whole gzip file: {error}", "compress or download it again") from error
    except OSError as error:
        if error.errno is None and file.compression == ".zst":
            raise DataError(f"{file.path} is not a whole zst file: {error}", "compress or download it again") from error
        raise DataError(f"cannot read {file.path}: {error.strerror}", "check the path and its permissions") from error


def chunks(file: TextFile) -> Iterator[bytes]:
    """The bytes of a file as they lie on the disk, to be hashed. Raises: DataError."""
    try:
        with file.path.open("rb") as raw:
            while chunk := raw.read(_CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise DataError(f"cannot read {file.path}: {error.strerror}", "check the path and its permissions") from error


def standard_library() -> list[TextFile]:
    """The .py files of the running interpreter's standard library, without tests and tables: real text that is here."""
    root = Path(sysconfig.get_path("stdlib"))
    found = [path for path in _walk(root, _NOT_LIBRARY) if path.suffix == ".py"] if root.is_dir() else []
    if not found:
        raise DataError(
            f"Python's standard library is not there as text (looked for .py files in {root})",
            "name your own text: --data FILE or FOLDER",
        )
    return [_text_file(path) for path in found]


def expand_user(given: str) -> Path:
    """The path, with the home folder for its ~. Raises: DataError for nobody's home, or what can be no path."""
    try:
        path = Path(given).expanduser()
        path.exists()
    except RuntimeError as error:
        raise DataError(f"there is no home folder for {Path(given).parts[0]}", "type the whole path") from error
    except (OSError, ValueError) as error:  # longer than names can be, behind a closed folder, with a NUL in it
        raise DataError(f"cannot look for {given[:80]!r}: {first_line(error)}", "give a file or a folder") from error
    return path


def _expand(given: str) -> list[Path]:
    if given.startswith("hf:"):
        raise DataError(f"{given} is fetched by nudge train and nudge data prepare only", "give files or folders here")
    path = expand_user(given)
    if path.is_dir():
        found = [inner for inner in _walk(path) if _suffix(inner)[0] in SUFFIXES]
        if not found:
            raise DataError(
                f"no text in the folder {given}",
                f"it is searched for {', '.join(SUFFIXES)} (text also as {' and '.join(COMPRESSED)})",
            )
        return found
    if path.exists():
        return [path]
    if found := matches(given):
        return [path for match in found for path in _expand(str(match))]
    raise DataError(f"there is no {given}", _neighbours(path))


def matches(pattern: str) -> list[Path]:
    """What a glob matches, in order; nothing if it is none."""
    # not Path.glob: that takes no absolute pattern
    found = glob.glob(str(expand_user(pattern)), recursive=True) if glob.has_magic(pattern) else []  # noqa: PTH207
    return [Path(match) for match in sorted(found)]


def _walk(root: Path, passed_over: Iterable[str] = ()) -> Iterator[Path]:
    """The files below a folder in a fixed order, hidden ones and links to folders passed over."""
    skipped = set(passed_over)
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if name not in skipped and not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _neighbours(path: Path) -> str:
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    return nearest(path.name, names) if 0 < len(names) <= 1000 else "check the path"


def _suffix(path: Path) -> tuple[str, str]:
    """Of the text, and of its compression."""
    compression = path.suffix.lower() if path.suffix.lower() in COMPRESSED else ""
    return Path(path.stem if compression else path.name).suffix.lower(), compression


def _text_file(path: Path) -> TextFile:
    suffix, compression = _suffix(path)
    try:
        return TextFile(path, path.stat().st_size, suffix, compression)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "check the path and its permissions") from error


def _decompressed(file: TextFile, raw: IO[bytes]) -> IO[bytes]:
    if file.compression == ".zst":
        return arrow.zstd_reader(raw, file.path)
    return cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if file.compression else raw


def _whole(file: TextFile, raw: IO[bytes]) -> str:
    data = _decompressed(file, raw).read()
    if b"\0" in data:
        raise DataError(
            f"{file.path} is not text: it has NUL bytes", "if it is text in UTF-16, save it as UTF-8; else leave it out"
        )
    try:
        return data.decode("utf-8", "surrogateescape" if file.suffix in SUFFIXES else "strict")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file.path} is not text in UTF-8 (byte {error.start})", "save it as UTF-8, or give it the suffix .txt"
        ) from error


def _json_lines(file: TextFile, raw: IO[bytes], field: str) -> Iterator[tuple[str, int]]:
    done = 0
    for number, line in enumerate(_decompressed(file, raw), start=1):
        done = raw.tell() if file.compression else done + len(line)
        if line.isspace():
            continue
        try:
            value = json.loads(line.decode("utf-8", "surrogateescape"))
        except ValueError as error:
            raise DataError(
                f"{file.path}, line {number} is not JSON: {error}", 'each line is an object such as {"text": "..."}'
            ) from error
        text = value.get(field) if isinstance(value, dict) else None
        if not isinstance(text, str):
            names = [name for name, inner in value.items() if isinstance(inner, str)] if isinstance(value, dict) else []
            hint = f"name the field of the text with --field: {nearest(field, names)}" if names else "it needs a text"
            raise DataError(f"{file.path}, line {number} has no text in a field '{field}'", hint)
        if text:
            yield text, done
