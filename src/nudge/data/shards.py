"""Prepared text on disk: memory-mapped token shards in llm.c's format, and a manifest that describes them.

```
manifest.json          written last: a folder without it is not finished
tokenizer.json         the tokenizer that turned the text into these tokens
train_000000.bin ...   256 int32 of header (magic, version, token count), then uint16 or uint32 tokens
train_000000.ends.npy  the index after the last token of each document, counted from the start of the shard
val_000000.bin ...
```

Each document is the end-of-text token and then its text; or the tokens are records, which have a length instead of a
token that starts them (docs/decisions/0006-records.md). Source: llm.c, dev/data/data_common.py.

The tokens of another program stay in its files (data/foreign/token_files.py); the folder then holds the manifest, the
tokenizer and the ends of documents.
"""

import bisect
import contextlib
import functools
import hashlib
import json
import platform
import struct
import typing
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import filelock
import numpy as np
import numpy.typing as npt

from nudge.data import tokenizer as tokenizers
from nudge.data.tokenizer import Tokenizer
from nudge.errors import DataError, MachineError, first_line
from nudge.util import files

FORMAT = "nudge shards 1"
HEADER_BYTES = 256 * 4
_CHUNK_TOKENS = 1 << 20
MAGIC_VERSION = {2: (20240520, 1), 4: (20240801, 7)}  # by bytes per token, as in llm.c

SplitName = Literal["train", "val"]
Tokens16or32 = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the tokens of a shard are in a file of another program, which is only ever read."""

    path: str
    first_byte: int
    bytes_per_token: int
    file_bytes: int
    modified_ns: int  # with the size, shows whether the file has changed since it was checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A file of tokens, and the index of document ends beside it."""

    file: str  # with a `place` there is no such file, only its index
    n_tokens: int
    n_documents: int  # that end in it
    text_bytes: int
    sha256: str
    ends_sha256: str
    place: Place | None = None  # None: in `file`


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitManifest:
    """The training or the validation split. `text_tokens` leaves out the token that starts each document."""

    n_tokens: int
    n_documents: int
    text_tokens: int
    text_bytes: int
    shards: tuple[Shard, ...]

    @classmethod
    def of(cls, shards: Sequence[Shard]) -> "SplitManifest":
        """Return the sums over shards."""
        n_tokens, n_documents = sum(shard.n_tokens for shard in shards), sum(shard.n_documents for shard in shards)
        return cls(
            n_tokens=n_tokens,
            n_documents=n_documents,
            text_tokens=n_tokens - n_documents,
            text_bytes=sum(shard.text_bytes for shard in shards),
            shards=tuple(shards),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the text came from."""

    paths: tuple[str, ...]  # as the user typed them; empty: the standard library of Python
    n_files: int
    n_bytes: int
    sha256: str  # over the SHA-256 of each file, in order
    suffixes: tuple[str, ...]
    note: str | None = None  # anything else worth knowing about it


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Examples of one length, one after another, in place of documents."""

    n_tokens: int
    n_given: int  # the first tokens: the question, which cannot be predicted, so these are no targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of manifest.json. `key` stands for text, tokenizer and split: the same key, the same tokens."""

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

    def save(self, path: Path) -> None:
        files.write_json(path, {"format": FORMAT, **asdict(self, dict_factory=_without_none)})


class Tokens:
    """The tokens of one split, memory-mapped over its shards and read as one circle."""

    def __init__(
        self,
        folder: Path,
        name: SplitName,
        manifest: SplitManifest,
        dtype: npt.DTypeLike,
        records: Records | None = None,
    ) -> None:
        self.folder = folder
        self.name = name
        self.manifest = manifest
        self.dtype = np.dtype(dtype)
        self.records = records
        self._shards = [_map(folder, shard, self.dtype) for shard in manifest.shards]
        self._starts = [0, *np.cumsum([shard.n_tokens for shard in manifest.shards]).tolist()]

    def __len__(self) -> int:
        return self.manifest.n_tokens

    @property
    def n_documents(self) -> int:
        return self.manifest.n_documents

    def read(self, start: int, count: int) -> Tokens16or32:
        """Return a copy of `count` tokens from `start` on; the first token follows the last."""
        out = np.empty(count, dtype=self.dtype)
        filled, at = 0, start % len(self)
        while filled < count:
            shard = bisect.bisect_right(self._starts, at) - 1
            taken = min(count - filled, self._starts[shard + 1] - at)
            offset = at - self._starts[shard]
            out[filled : filled + taken] = self._shards[shard][offset : offset + taken]
            filled, at = filled + taken, (at + taken) % len(self)
        return out

    @functools.cached_property
    def ends(self) -> npt.NDArray[np.uint64]:
        """Return the index after the last token of each document. Shape: [documents]."""
        parts = [
            np.load(self.folder / ends_name(shard.file)) + np.uint64(start)
            for shard, start in zip(self.manifest.shards, self._starts, strict=False)
        ]
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class Dataset:
    """An open prepared folder."""

    dir: Path
    manifest: Manifest
    tokenizer: Tokenizer
    train: Tokens
    val: Tokens

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 over the tokenizer and every shard: the same for the same tokens, wherever they are."""
        parts = [self.manifest.tokenizer_sha256]
        if records := self.manifest.records:  # the same tokens, cut elsewhere, are other data
            parts.append(f"records {records.n_tokens} {records.n_given}")
        for split in (self.manifest.train, self.manifest.val):
            parts += ["split", *(shard.sha256 for shard in split.shards)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def is_python(self) -> bool:
        """Return whether all of the text is Python code."""
        return self.manifest.source.suffixes == (".py",)

    def verify(self) -> None:
        """Read every byte. Raises: DataError for a shard whose SHA-256 is not the one in the manifest."""
        for shard in (*self.manifest.train.shards, *self.manifest.val.shards):
            if not is_intact(self.dir, shard):
                path = shard.place.path if shard.place else self.dir / shard.file
                raise DataError("damaged", path=path, folder=self.dir)


def open_dataset(folder: Path) -> Dataset:
    """Open a folder that `nudge data prepare` made, checking sizes and headers; `Dataset.verify` checks every byte.

    Raises: DataError for a folder that is missing, unfinished, cut or made by something else; TokenizerError.
    """
    manifest = read_manifest(folder)
    tokenizer = tokenizers.load(folder / "tokenizer.json")
    if tokenizer.sha256 != manifest.tokenizer_sha256:
        raise DataError("other_tokenizer", folder=folder)
    dtype = token_dtype(manifest.vocab_size)
    return Dataset(
        dir=folder,
        manifest=manifest,
        tokenizer=tokenizer,
        train=Tokens(folder, "train", manifest.train, dtype, manifest.records),
        val=Tokens(folder, "val", manifest.val, dtype, manifest.records),
    )


def is_prepared(folder: Path) -> bool:
    """Return whether a folder holds a manifest of nudge: other programs have files of that name, too."""
    try:
        with (folder / "manifest.json").open("rb") as file:
            return b"nudge shards" in file.read(100)
    except OSError:
        return False


def read_manifest(folder: Path) -> Manifest:
    """Read manifest.json. Raises: DataError if it is missing, not one of nudge or contradicts itself."""
    path = folder / "manifest.json"
    if not path.exists():
        raise DataError("not_prepared", folder=folder)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.pop("format") != FORMAT:
            raise ValueError(f"its format is not '{FORMAT}'")
        manifest = _from_json(value)
        if not (_adds_up(manifest.train, manifest.records) and _adds_up(manifest.val, manifest.records)):
            raise ValueError("its counts contradict each other")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError("bad_manifest", path=path, folder=folder, error=first_line(error)) from error
    return manifest


def _from_json(value: dict[str, Any]) -> Manifest:
    """Build the manifest from plain JSON values. Raises: KeyError or TypeError if they do not fit."""
    for name in ("train", "val"):
        shards = []
        for shard in value[name]["shards"]:
            place = Place(**shard["place"]) if shard.get("place") else None
            shards.append(Shard(**{**shard, "place": place}))
        value[name] = SplitManifest(**{**value[name], "shards": tuple(shards)})
    source = value["source"]
    value["source"] = Source(**{**source, "paths": tuple(source["paths"]), "suffixes": tuple(source["suffixes"])})
    if value.get("records") is not None:
        value["records"] = Records(**value["records"])
    return Manifest(**value)


def _adds_up(split: SplitManifest, records: Records | None) -> bool:
    """Return whether the counts of a split are the sums over its shards, and it holds whole records."""
    if records and not (1 <= records.n_given < records.n_tokens and split.n_tokens % records.n_tokens == 0):
        return False
    return split.n_tokens >= 1 and split == SplitManifest.of(split.shards)


def _without_none(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in items if value is not None}


def key_of(decisive: Any) -> str:
    """Return the SHA-256 of JSON values: a name for the tokens that these values decide."""
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


@contextlib.contextmanager
def locked_folder(key: str, out: Path | None) -> Iterator[Path]:
    """Yield the folder for the tokens of `key`, locked for this process: `out`, or one in the user's cache.

    It may be finished already: then it holds a manifest.json.
    Raises: DataError if it holds other tokens; MachineError if it cannot be written.
    """
    folder = out or files.cache_folder() / "datasets" / key[:16]
    with writing_to(folder), filelock.FileLock(folder / ".lock", thread_local=False):
        if (folder / "manifest.json").exists() and read_manifest(folder).key != key:
            raise DataError("other_tokens", folder=folder)
        yield folder


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Make a folder, and turn a full disk or a missing permission into a MachineError that names it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise MachineError("unwritable", folder=folder, error=error.strerror) from error


def write_manifest(
    folder: Path,
    *,
    key: str,
    tokenizer: Tokenizer,
    val_share: float,
    source: Source,
    shards: dict[SplitName, list[Shard]],
    records: Records | None = None,
) -> None:
    """Write the manifest of a folder that has all its other files, which finishes it."""
    Manifest(
        key=key,
        tokenizer=tokenizer.name,
        tokenizer_sha256=tokenizer.sha256,
        vocab_size=tokenizer.vocab_size,
        val_share=val_share,
        source=source,
        train=SplitManifest.of(shards["train"]),
        val=SplitManifest.of(shards["val"]),
        versions={name: version(name) for name in ("nudge-lm", "tiktoken", "tokenizers")}
        | {"python": platform.python_version()},
        records=records,
    ).save(folder / "manifest.json")


def token_dtype(vocab_size: int) -> npt.DTypeLike:
    """Return uint16 if it holds every id, else uint32."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


def ends_name(file: str) -> str:
    """Return the name of the index beside a shard."""
    return file.removesuffix(".bin") + ".ends.npy"


def write_shard(folder: Path, file: str, tokens: Tokens16or32, ends: npt.NDArray[np.uint64], text_bytes: int) -> Shard:
    """Write one shard and its index, each atomically, and return their description."""
    magic, number = MAGIC_VERSION[tokens.itemsize]
    header = np.zeros(256, dtype="<i4")
    header[:3] = magic, number, len(tokens)
    with files.atomic_writer(folder / file) as out:
        out.write(header.tobytes())
        out.write(tokens.tobytes())
    return Shard(
        file=file,
        n_tokens=len(tokens),
        n_documents=len(ends),
        text_bytes=text_bytes,
        sha256=out.sha256.hexdigest(),
        ends_sha256=write_ends(folder, file, ends),
    )


def write_ends(folder: Path, file: str, ends: npt.NDArray[np.uint64]) -> str:
    """Write the index of a shard atomically, and return its SHA-256."""
    with files.atomic_writer(folder / ends_name(file)) as index:
        np.lib.format.write_array(typing.cast(Any, index), ends, allow_pickle=False)
    return index.sha256.hexdigest()


def is_intact(folder: Path, shard: Shard) -> bool:
    """Return whether a shard and its index have the SHA-256 they were written with."""
    path, index = folder / shard.file, folder / ends_name(shard.file)
    if not index.is_file() or files.sha256(index) != shard.ends_sha256:
        return False
    if not shard.place:
        return path.is_file() and files.sha256(path) == shard.sha256
    digest = hashlib.sha256()
    for chunk in read_place(shard.place, shard.n_tokens):
        digest.update(chunk.data)
    return digest.hexdigest() == shard.sha256


def read_header(path: Path) -> tuple[int, int, int]:
    """Return magic, version and token count of a file in llm.c's format; zeros if it is too short. Raises: OSError."""
    with path.open("rb") as file:
        magic, number, n_tokens = struct.unpack("<3i", file.read(12).ljust(12, b"\0"))
        return magic, number, n_tokens


def map_place(place: Place, n_tokens: int) -> Tokens16or32:
    """Map tokens in a file of another program. Raises: DataError if it is gone or has changed since it was checked."""
    path = Path(place.path)
    try:
        now = path.stat()
    except OSError as error:
        raise DataError("unreadable", path=path, error=error.strerror) from error
    if (now.st_size, now.st_mtime_ns) != (place.file_bytes, place.modified_ns):
        raise DataError("changed", path=path, folder=path.parent)
    dtype = np.dtype(f"<u{place.bytes_per_token}")
    return np.memmap(path, dtype=dtype, mode="r", offset=place.first_byte, shape=(n_tokens,))


def read_place(place: Place, n_tokens: int) -> Iterator[Tokens16or32]:
    """Yield all of these tokens in order, some at a time: a mapped file would fill the memory page by page."""
    with Path(place.path).open("rb") as file:
        file.seek(place.first_byte)
        for start in range(0, n_tokens, _CHUNK_TOKENS):
            count = min(_CHUNK_TOKENS, n_tokens - start)
            yield np.fromfile(file, dtype=f"<u{place.bytes_per_token}", count=count)


def _map(folder: Path, shard: Shard, dtype: np.dtype[Any]) -> Tokens16or32:
    if shard.place:
        return map_place(shard.place, shard.n_tokens)
    path = folder / shard.file
    try:
        *magic_version, n_tokens = read_header(path)
        n_bytes = path.stat().st_size
    except OSError as error:
        raise DataError("unreadable_shard", path=path, folder=folder, error=error.strerror) from error
    if tuple(magic_version) != MAGIC_VERSION[dtype.itemsize]:
        raise DataError("not_shard", path=path, folder=folder, bits=8 * dtype.itemsize)
    expected = HEADER_BYTES + shard.n_tokens * dtype.itemsize
    if (n_bytes, n_tokens) != (expected, shard.n_tokens):
        raise DataError(
            "shard_size",
            path=path,
            folder=folder,
            n_bytes=n_bytes,
            n_tokens=n_tokens,
            expected_bytes=expected,
            expected_tokens=shard.n_tokens,
        )
    return np.memmap(path, dtype=dtype, mode="r", offset=HEADER_BYTES, shape=(shard.n_tokens,))
