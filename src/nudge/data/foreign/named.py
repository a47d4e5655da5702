"""The texts of the table in data/named_texts.py: fetched once, checked, and kept in the user's cache."""

import json
from collections.abc import Generator, Sequence
from pathlib import Path

from nudge.config import DataConfig
from nudge.data import named_texts
from nudge.data.foreign import hub
from nudge.data.manifest import key_of, writing_to
from nudge.data.named_texts import NamedText
from nudge.events import Preparing
from nudge.util import files
from nudge.util.download import RemoteFile, download
from nudge.util.locks import make_lock


def fetch(paths: Sequence[str], field: str) -> Generator[Preparing, None, tuple[tuple[str, ...], str]]:
    """Return the paths, each name of a text replaced by a local file or a data set of the Hub, and a note on them.

    `field`: of the .jsonl file that is made of a table. Raises: DataError, MachineError.
    """
    found, notes = [], []
    for path in paths:
        text = named_texts.find(path)
        if text is None:
            found.append(path)
            continue
        found.append(text.hub or str((yield from _keep(path, text, field))))
        notes.append(f"{path}: {text.title['en']}, {text.license}")
    return tuple(found), "; ".join(notes)


def is_here(name: str, text: NamedText) -> bool:
    """Return whether a text is in the cache, one of the Hub as it is fetched by default."""
    default = DataConfig()
    return hub.is_here(text.hub, default.field, default.hub_bytes) if text.hub else _path(name, text).is_file()


def _path(name: str, text: NamedText) -> Path:
    """Return the path in the cache. Another edition, which has another digest, has another path."""
    return files.cache_folder() / "texts" / f"{name}-{text.digest.partition(':')[2][:12]}.txt"


def _keep(name: str, text: NamedText, field: str) -> Generator[Preparing, None, Path]:
    """Return a local file with a text, downloaded if need be; a second process waits for the first."""
    path = _path(name, text)
    remote = RemoteFile(url=text.url, n_bytes=text.n_bytes, digest=text.digest)
    with writing_to(path.parent), make_lock(path.with_name(f".{path.name}.lock")):
        if not remote.is_at(path):
            for done in download(remote, path):
                yield Preparing(what="downloading", done=done, total=text.n_bytes)
        return _take_column(path, text.column, field) if text.column else path


def _take_column(path: Path, column: str, field: str) -> Path:
    """Write a column of a table as a .jsonl file beside it, a row a line, unless it is there; return the file's path.

    No value of the table has a tab or the end of a line in it.
    """
    lines = path.with_name(f"{path.stem}-{key_of([column, field])[:12]}.jsonl")
    if not lines.is_file():
        with path.open("rb") as table, files.atomic_writer(lines) as out:
            rows = (line.decode().rstrip("\n").split("\t") for line in table)
            at = next(rows).index(column)
            for row in rows:
                out.write(json.dumps({field: row[at]}, ensure_ascii=False).encode() + b"\n")
    return lines
