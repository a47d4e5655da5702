"""Prepared text on disk: memory-mapped token shards in llm.c's format, and a manifest that describes them.

```
manifest.json          written last: a folder without it is not finished
tokenizer.json         the tokenizer that turned the text into these tokens
train_000000.bin ...   a header of 256 int32 (magic, version, token count), then uint16 or uint32 tokens
train_000000.ends.npy  the index after the last token of each document, counted from the start of the shard
val_000000.bin ...
```

Each document is the end-of-text token, then its text. Or the tokens are records, which have a fixed length and no token
between them (docs/decisions/0006-records.md). Source: llm.c, dev/data/data_common.py.

The tokens of another program stay in its files (data/foreign/token_files.py); the folder then holds the manifest, the
tokenizer and the ends of documents.
"""

import bisect
import functools
import hashlib
import struct
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nudge.data import tokenizer as tokenizers
from nudge.data.manifest import Manifest, Place, Records, Shard, SplitManifest, SplitName, read_manifest
from nudge.data.tokenizer import Tokenizer
from nudge.errors import DataError
from nudge.util import files

HEADER_BYTES = 256 * 4
_CHUNK_TOKENS = 1 << 20
MAGIC_VERSION = {2: (20240520, 1), 4: (20240801, 7)}  # by bytes per token, as in llm.c

Tokens16or32 = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


class Tokens:
    """The memory-mapped tokens of one split. Reading past the end continues at the start."""

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
        """Return a copy of `count` tokens from index `start` on; the first token follows the last."""
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
        """Return the SHA-256 over the tokenizer and every shard. It does not depend on the folder."""
        parts = [self.manifest.tokenizer_sha256]
        if records := self.manifest.records:  # the same tokens in records of another length are other data
            parts.append(f"records {records.n_tokens} {records.n_given}")
        for split in (self.manifest.train, self.manifest.val):
            parts += ["split", *(shard.sha256 for shard in split.shards)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def is_python(self) -> bool:
        """Return whether all of the text is Python code (.py files)."""
        return self.manifest.source.suffixes == (".py",)

    def verify(self) -> None:
        """Check every byte. Raises: DataError for a shard whose SHA-256 differs from the manifest."""
        for shard in (*self.manifest.train.shards, *self.manifest.val.shards):
            if not is_intact(self.dir, shard):
                path = shard.place.path if shard.place else self.dir / shard.file
                raise DataError("damaged", path=path, folder=self.dir)


def open_dataset(folder: Path) -> Dataset:
    """Open a prepared folder and check sizes and headers; `Dataset.verify` checks every byte.

    Raises: DataError for a folder that is missing, unfinished, cut off, not from nudge or with links; TokenizerError.
    """
    _check_regular(folder)
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
    """Return whether a folder holds nudge's manifest.json; other programs use that file name, too."""
    try:
        path = folder / "manifest.json"
        if not path.is_file():  # to open a pipe may wait forever
            return False
        with path.open("rb") as file:
            return b"nudge shards" in file.read(100)
    except (OSError, ValueError):  # a name that no file can have
        return False


def token_dtype(vocab_size: int) -> npt.DTypeLike:
    """Return uint16 if it can hold every id, else uint32."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


def ends_name(file: str) -> str:
    """Return the file name of a shard's index of document ends."""
    return file.removesuffix(".bin") + ".ends.npy"


def write_shard(folder: Path, file: str, tokens: Tokens16or32, ends: npt.NDArray[np.uint64], text_bytes: int) -> Shard:
    """Write a shard and its index of document ends, each atomically, and return the manifest's entry."""
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
    """Write a shard's index of document ends atomically, and return its SHA-256."""
    with files.atomic_writer(folder / ends_name(file)) as index:
        np.lib.format.write_array(typing.cast(Any, index), ends, allow_pickle=False)
    return index.sha256.hexdigest()


def is_intact(folder: Path, shard: Shard) -> bool:
    """Return whether a shard and its index still have the SHA-256 digests in the manifest."""
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
    """Read the magic number, version and token count of a file in llm.c's format; zeros if the file is too short.

    Raises: OSError.
    """
    with path.open("rb") as file:
        magic, number, n_tokens = struct.unpack("<3i", file.read(12).ljust(12, b"\0"))
        return magic, number, n_tokens


def map_place(place: Place, n_tokens: int) -> Tokens16or32:
    """Memory-map tokens in a file of another program.

    Raises: DataError if the file is gone or has changed since it was checked.
    """
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
    """Yield the tokens in order, chunk by chunk. Reading a mapped file instead would fill the memory page by page."""
    with Path(place.path).open("rb") as file:
        file.seek(place.first_byte)
        for start in range(0, n_tokens, _CHUNK_TOKENS):
            count = min(_CHUNK_TOKENS, n_tokens - start)
            yield np.fromfile(file, dtype=f"<u{place.bytes_per_token}", count=count)


def _check_regular(folder: Path) -> None:
    """Check that no file of prepared text is a link, a pipe or a device.

    The folder may come from a stranger. A link can lead to any file of the person who opens it, whose bytes would then
    be "tokens" in a model or in a copy of the folder, and a pipe never ends. We write only regular files. (A Hugging
    Face folder may have links, because the cache of the Hub consists of them. What they lead to must be weights.)

    Raises: DataError.
    """
    for path in sorted(folder.glob("*")):
        if path.suffix in (".json", ".bin", ".npy") and not files.is_regular(path):
            raise DataError("not_regular", path=path, folder=folder)


def _map(folder: Path, shard: Shard, dtype: np.dtype[Any]) -> Tokens16or32:
    """Memory-map a shard after checking its header and size. Raises: DataError."""
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
