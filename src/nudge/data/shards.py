"""Prepared text on disk: memory-mapped token shards, as llm.c writes them, and a manifest that says what they are.

```
manifest.json          written last: a folder without it is not finished
tokenizer.json         what turned the text into these tokens
train_000000.bin ...   256 int32 of header (magic, version, token count), then uint16 or uint32 tokens
train_000000.ends.npy  where documents end, counted from the start of the shard
val_000000.bin ...
```

Each document is the end-of-text token and then its text; or the tokens are records, which have a length instead of a
token that starts them (docs/decisions/0006-records.md). Source: llm.c, dev/data/data_common.py.

The tokens of another program stay in its files (data/foreign/token_files.py); beside the manifest then lie only the
tokenizer and where documents end.
"""

import bisect
import contextlib
import functools
import hashlib
import typing
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nudge.data import tokenizer as tokenizers
from nudge.data.tokenizer import Tokenizer
from nudge.errors import DataError, MachineError, TokenizerError
from nudge.util import files

FORMAT = "nudge shards 1"
HEADER_BYTES = 256 * 4
_CHUNK_TOKENS = 1 << 20
SMALL_VOCAB = 65_536  # up to here two bytes hold a token
MAGIC_VERSION = {2: (20240520, 1), 4: (20240801, 7)}  # by bytes per token, as in llm.c

SplitName = Literal["train", "val"]
Tokens16or32 = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the tokens of a shard lie in a file of another program, which is read as it is and never written."""

    path: str
    first_byte: int
    bytes_per_token: int
    file_bytes: int
    modified_ns: int  # with the size, tells a file that has changed since it was checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file of tokens, and the index beside it."""

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
        """The sums over shards."""
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

    paths: tuple[str, ...]  # as they were given; empty: the standard library of Python
    n_files: int
    n_bytes: int
    sha256: str  # over the SHA-256 of each file, in order
    suffixes: tuple[str, ...]
    note: str | None = None  # what else there is to say of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Tokens that are examples of one length, one after another. The first `n_given` are the question: nobody could
    predict them, so they are no targets."""

    n_tokens: int
    n_given: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What manifest.json says. `key` names text, tokenizer and split: the same key, the same tokens."""

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
        files.write_json(path, {"format": FORMAT, **asdict(self, dict_factory=_said)})


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
        """`count` tokens from `start` on; after the last one comes the first again. A copy."""
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
        """Where each document ends: the index after its last token. Shape: [documents]."""
        parts = [
            np.load(self.folder / ends_name(shard.file)) + np.uint64(start)
            for shard, start in zip(self.manifest.shards, self._starts, strict=False)
        ]
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A prepared folder, opened."""

    dir: Path
    manifest: Manifest
    tokenizer: Tokenizer
    train: Tokens
    val: Tokens

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the tokenizer and every shard: the same tokens, wherever they lie and however they were made."""
        parts = [self.manifest.tokenizer_sha256]
        if records := self.manifest.records:  # the same tokens, cut elsewhere, are other data
            parts.append(f"records {records.n_tokens} {records.n_given}")
        for split in (self.manifest.train, self.manifest.val):
            parts += ["split", *(shard.sha256 for shard in split.shards)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def is_python(self) -> bool:
        """Whether all of the text is Python code."""
        return self.manifest.source.suffixes == (".py",)

    def verify(self) -> None:
        """Read every byte. Raises: DataError for a shard whose SHA-256 is not the one of the manifest."""
        for split in (self.manifest.train, self.manifest.val):
            for shard in split.shards:
                if not is_intact(self.dir, shard):
                    raise DataError(
                        f"{_path(self.dir, shard)} is damaged: its SHA-256 is not the manifest's", _again(self.dir)
                    )


def open_dataset(folder: Path) -> Dataset:
    """A folder that `nudge data prepare` made. Checks sizes and headers, not every byte: see `Dataset.verify`.

    Raises: DataError for a folder that is missing, unfinished, cut or made by something else.
    """
    manifest = read_manifest(folder)
    try:
        tokenizer = tokenizers.load(folder / "tokenizer.json")
    except TokenizerError as error:
        raise DataError(error.message, _again(folder)) from error
    if tokenizer.sha256 != manifest.tokenizer_sha256:
        raise DataError(f"the tokenizer.json in {folder} is not the one that made its tokens", _again(folder))
    dtype = token_dtype(manifest.vocab_size)
    return Dataset(
        dir=folder,
        manifest=manifest,
        tokenizer=tokenizer,
        train=Tokens(folder, "train", manifest.train, dtype, manifest.records),
        val=Tokens(folder, "val", manifest.val, dtype, manifest.records),
    )


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds a manifest of ours: other programs have files of that name too."""
    try:
        with (folder / "manifest.json").open("rb") as file:
            return b"nudge shards" in file.read(100)
    except OSError:
        return False


def read_manifest(folder: Path) -> Manifest:
    """What manifest.json says. Raises: DataError if it is missing, not ours or contradicts itself."""
    path = folder / "manifest.json"
    if not path.exists():
        what = "is not there" if not folder.exists() else "has no manifest.json: it is not prepared, or not to the end"
        raise DataError(f"the folder {folder} {what}", f"nudge data prepare TEXT --out {folder}")
    value = files.read_json(path, DataError, _again(folder))
    try:
        if value.pop("format") != FORMAT:
            raise ValueError("of another format")
        manifest: Manifest = _from_json(Manifest, value)
        for split in (manifest.train, manifest.val):
            if split != SplitManifest.of(split.shards) or split.n_tokens < 1 or not _whole(split, manifest.records):
                raise ValueError("its counts contradict each other")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a manifest of nudge or is damaged ({error})", _again(folder)) from error
    return manifest


def check_key(folder: Path, key: str) -> None:
    """Raises: DataError if a prepared folder was made from something else."""
    if read_manifest(folder).key != key:
        raise DataError(
            f"{folder} already holds tokens of other text or of another tokenizer",
            "choose another folder with --out, or remove this one",
        )


def token_dtype(vocab_size: int) -> npt.DTypeLike:
    """uint16 where it holds every id, else uint32."""
    return np.uint16 if vocab_size <= SMALL_VOCAB else np.uint32


def ends_name(file: str) -> str:
    """The index beside a shard."""
    return file.removesuffix(".bin") + ".ends.npy"


def write_shard(folder: Path, file: str, tokens: Tokens16or32, ends: npt.NDArray[np.uint64], text_bytes: int) -> Shard:
    """Write one shard and its index, each atomically, and describe them."""
    magic, version = MAGIC_VERSION[tokens.itemsize]
    header = np.zeros(256, dtype="<i4")
    header[:3] = magic, version, len(tokens)
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
    """Write the index of a shard atomically; its SHA-256."""
    with files.atomic_writer(folder / ends_name(file)) as index:
        np.lib.format.write_array(typing.cast(Any, index), ends, allow_pickle=False)
    return index.sha256.hexdigest()


def is_intact(folder: Path, shard: Shard) -> bool:
    """Whether a shard and its index have the SHA-256 they were written with."""
    index = folder / ends_name(shard.file)
    if not index.is_file() or files.sha256(index) != shard.ends_sha256:
        return False
    if shard.place:
        digest = hashlib.sha256()
        for chunk in read_place(shard.place, shard.n_tokens):
            digest.update(chunk.data)
        return digest.hexdigest() == shard.sha256
    path = folder / shard.file
    return path.is_file() and files.sha256(path) == shard.sha256


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into a MachineError that says where and what to do."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise MachineError(
            f"cannot write to {folder}: {error.strerror}",
            "make room, or choose another folder: --out DIR, or the variable NUDGE_CACHE for the cache",
        ) from error


def _whole(split: SplitManifest, records: Records | None) -> bool:
    return not records or (1 <= records.n_given < records.n_tokens and split.n_tokens % records.n_tokens == 0)


def map_place(place: Place, n_tokens: int) -> Tokens16or32:
    """Tokens in a file of another program. Raises: DataError if it is gone or has changed since it was checked."""
    path = Path(place.path)
    try:
        now = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "bring it back, or give other data") from error
    if (now.st_size, now.st_mtime_ns) != (place.file_bytes, place.modified_ns):
        raise DataError(
            f"{path} has changed since its tokens were checked",
            f"check them again: nudge data prepare {path.parent}, with its --tokenizer if one was given",
        )
    dtype = np.dtype(f"<u{place.bytes_per_token}")
    return np.memmap(path, dtype=dtype, mode="r", offset=place.first_byte, shape=(n_tokens,))


def read_place(place: Place, n_tokens: int) -> Iterator[Tokens16or32]:
    """All of these tokens in order, some at a time: what is mapped instead would fill the memory page by page."""
    with Path(place.path).open("rb") as file:
        file.seek(place.first_byte)
        for start in range(0, n_tokens, _CHUNK_TOKENS):
            count = min(_CHUNK_TOKENS, n_tokens - start)
            yield np.fromfile(file, dtype=f"<u{place.bytes_per_token}", count=count)


def _path(folder: Path, shard: Shard) -> Path:
    return Path(shard.place.path) if shard.place else folder / shard.file


def _map(folder: Path, shard: Shard, dtype: np.dtype[Any]) -> Tokens16or32:
    if shard.place:
        return map_place(shard.place, shard.n_tokens)
    path, n_tokens = folder / shard.file, shard.n_tokens
    try:
        with path.open("rb") as file:
            header = np.frombuffer(file.read(HEADER_BYTES), dtype="<i4")
        n_bytes = path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot read the shard {path}: {error.strerror}", _again(path.parent)) from error
    if len(header) < 3 or tuple(header[:2]) != MAGIC_VERSION[dtype.itemsize]:
        raise DataError(f"{path} is not a shard of {8 * dtype.itemsize}-bit tokens", _again(path.parent))
    expected = HEADER_BYTES + n_tokens * dtype.itemsize
    if n_bytes != expected:
        raise DataError(f"{path} is cut: {n_bytes:,} bytes, expected {expected:,}", _again(path.parent))
    if header[2] != n_tokens:
        raise DataError(f"{path} says {header[2]:,} tokens, the manifest {n_tokens:,}", _again(path.parent))
    return np.memmap(path, dtype=dtype, mode="r", offset=HEADER_BYTES, shape=(n_tokens,))


def _again(folder: Path) -> str:
    return f"restore {folder} from a copy, or remove it and prepare the text again"


def _said(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """What stands in a manifest: None means that there is nothing to say."""
    return {name: value for name, value in items if value is not None}


def _from_json(kind: Any, value: Any) -> Any:
    """A dataclass (and those inside it) from plain JSON values. Raises: KeyError or TypeError if they do not fit."""
    hints = typing.get_type_hints(kind)
    value = {field.name: field.default for field in fields(kind) if field.default is not MISSING} | value
    if set(value) != set(hints):
        raise ValueError(f"expected {', '.join(hints)}")
    converted: dict[str, Any] = {}
    for name, hint in hints.items():
        inner = value[name]
        optional = next((part for part in typing.get_args(hint) if part in (Records, Place)), None)
        if typing.get_origin(hint) is tuple:
            element = typing.get_args(hint)[0]
            converted[name] = tuple(_from_json(element, item) if element is Shard else element(item) for item in inner)
        elif hint in (Source, SplitManifest):
            converted[name] = _from_json(hint, inner)
        elif optional and inner is not None:
            converted[name] = _from_json(optional, inner)
        else:
            converted[name] = inner
    return kind(**converted)
