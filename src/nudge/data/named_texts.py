"""Texts to start from: a small table of well-known free texts, each with a name that --data takes."""

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

from nudge.util import files

TABLE = Path(__file__).with_name("named_texts.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedText:
    """An entry of the table, whose fields are described at its top: either `hub`, or `url`, `n_bytes` and `digest`."""

    title: dict[str, str]  # by language
    language: str
    license: str
    hub: str = ""
    url: str = ""
    n_bytes: int = 0
    digest: str = ""
    column: str = ""


def table(language: str = "en") -> dict[str, NamedText]:
    """Return the texts by their names, those in `language` first."""
    return dict(sorted(_read(TABLE).items(), key=lambda item: item[1].language != language))


def find(given: str) -> NamedText | None:
    """Return the text of that name; None if there is none, or if a file or folder here has that name."""
    text = _read(TABLE).get(given)
    return None if text is None or files.exists(Path(given)) else text


def is_hidden(given: str) -> bool:
    """Return whether a file or folder here has the name of a text, and so takes its place."""
    return given in _read(TABLE) and find(given) is None


@functools.cache
def _read(path: Path) -> dict[str, NamedText]:
    entries = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: NamedText(**fields) for name, fields in entries.items()}
