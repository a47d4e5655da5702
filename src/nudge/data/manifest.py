"""The manifest of a prepared folder: its content and its source.

The folder is named by a key, and locked while a process fills it.
"""

import contextlib
import hashlib
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from nudge.data.split import is_near
from nudge.data.tokenizer import Tokenizer
from nudge.errors import DataError, MachineError, RunError
from nudge.util import files, json_reader
from nudge.util.locks import make_lock

SplitName = Literal["train", "val"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The place of a shard's tokens in a file of another program, which nudge only reads. Raises: ValueError."""

    path: str
    first_byte: int
    bytes_per_token: int
    file_bytes: int
    modified_ns: int  # with file_bytes, shows whether the file has changed since it was checked

    def __post_init__(self) -> None:
        if "\0" in self.path:
            raise ValueError("a path has no zero byte")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A file of tokens, and the index of document ends beside it. Raises: ValueError if `file` leads elsewhere."""

    file: str  # with a `place` there is no such file, only its index
    n_tokens: int
    n_documents: int  # the documents that end in it
    text_bytes: int
    sha256: str
    ends_sha256: str
    place: Place | None = None  # None: in `file`

    def __post_init__(self) -> None:
        files.check_name(self.file)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitManifest:
    """The training or the validation split. `text_tokens` leaves out the token that starts each document."""

    n_tokens: int
    n_documents: int
    text_tokens: int
    text_bytes: int
    shards: tuple[Shard, ...]

    @classmethod
    def from_shards(cls, shards: Sequence[Shard]) -> "SplitManifest":
        """Build the manifest of a split from its shards, adding up their counts."""
        n_tokens, n_documents = sum(shard.n_tokens for shard in shards), sum(shard.n_documents for shard in shards)
        return cls(
            n_tokens=n_tokens,
            n_documents=n_documents,
            text_tokens=n_tokens - n_documents,  # one end-of-text token per document
            text_bytes=sum(shard.text_bytes for shard in shards),
            shards=tuple(shards),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The source of the text."""

    paths: tuple[str, ...]  # as the user typed them; empty: the standard library of Python
    n_files: int
    n_bytes: int
    sha256: str  # of the SHA-256 digests of all files, in order
    suffixes: tuple[str, ...]
    note: str | None = None  # for the user


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Examples of one length, one after another, instead of documents."""

    n_tokens: int
    n_given: int  # the first tokens: the question, which cannot be predicted, so they are not targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of manifest.json. Folders with the same `key` hold the same text, tokenizer, split and tokens.

    Raises: ValueError if its counts contradict each other.
    """

    format: Literal["nudge shards 1"]
    key: str
    tokenizer: str
    tokenizer_sha256: str
    vocab_size: int
    val_share: float
    source: Source
    train: SplitManifest
    val: SplitManifest
    versions: dict[str, str]
    records: Records | None = None  # None: documents
    cut_above: int | None = None  # the end of each document of more characters is validation text (data/split.py)

    def __post_init__(self) -> None:
        if not (_adds_up(self.train, self.records) and _adds_up(self.val, self.records)):
            raise ValueError("its counts contradict each other")

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what a user should know about the text, a line each."""
        notes = (self.source.note,) if self.source.note else ()
        foreign = any(shard.place for shard in self.val.shards)  # split by another program
        if foreign or self.records or is_near(self.val_share, self.val.text_bytes, self.train.text_bytes):
            return notes
        share = self.val.text_bytes / max(self.val.text_bytes + self.train.text_bytes, 1)
        return (*notes, f"validation is {share:.2%} of the text, where {self.val_share:.0%} was asked for")

    def save(self, path: Path) -> None:
        files.write_json(path, asdict(self, dict_factory=_drop_none))


def write_manifest(
    folder: Path,
    *,
    key: str,
    tokenizer: Tokenizer,
    val_share: float,
    source: Source,
    shards: dict[SplitName, list[Shard]],
    records: Records | None = None,
    cut_above: int | None = None,
) -> None:
    """Write the manifest of a folder. Call it last: a folder with a manifest is finished."""
    Manifest(
        format="nudge shards 1",
        key=key,
        tokenizer=tokenizer.name,
        tokenizer_sha256=tokenizer.sha256,
        vocab_size=tokenizer.vocab_size,
        val_share=val_share,
        source=source,
        train=SplitManifest.from_shards(shards["train"]),
        val=SplitManifest.from_shards(shards["val"]),
        versions={name: version(name) for name in ("nudge-lm", "tiktoken", "tokenizers")}
        | {"python": platform.python_version()},
        records=records,
        cut_above=cut_above,
    ).save(folder / "manifest.json")


def read_manifest(folder: Path) -> Manifest:
    """Read manifest.json. Raises: DataError if it is missing, not from nudge, or contradicts itself."""
    path = folder / "manifest.json"
    if not path.exists():
        raise DataError("not_prepared", folder=folder)
    try:
        return json_reader.read(path, Manifest)
    except RunError as error:
        raise DataError("bad_manifest", path=path, folder=folder, error=error.values["error"]) from error


def _adds_up(split: SplitManifest, records: Records | None) -> bool:
    """Return whether the counts of a split are the sums over its shards, and the split holds whole records."""
    if records and not (1 <= records.n_given < records.n_tokens and split.n_tokens % records.n_tokens == 0):
        return False
    return split.n_tokens >= 1 and split == SplitManifest.from_shards(split.shards)


def _drop_none(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in items if value is not None}


def key_of(values: Any) -> str:
    """Return the SHA-256 of JSON values: a name for the tokens that these values determine."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


@contextlib.contextmanager
def locked_folder(key: str, out: Path | None) -> Iterator[Path]:
    """Lock and yield the folder for the tokens of `key`: `out`, or one in the user's cache.

    The folder may be finished already: then it holds a manifest.json.
    Raises: DataError if it holds other tokens; MachineError if it cannot be written.
    """
    folder = out or files.cache_folder() / "datasets" / key[:16]
    with writing_to(folder), make_lock(folder / ".lock"):
        if (folder / "manifest.json").exists() and read_manifest(folder).key != key:
            raise DataError("other_tokens", folder=folder)
        yield folder


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Make a folder; while writing to it, turn a full disk or a missing permission into a MachineError."""
    with files.writing(folder, lambda error: MachineError("unwritable", folder=folder, error=error)):
        folder.mkdir(parents=True, exist_ok=True)
        yield
