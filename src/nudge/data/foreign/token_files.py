"""Token files of other programs, read where they lie: nothing is copied, nothing beside them is written.

nanoGPT          train.bin, val.bin: uint16 tokens and nothing else; meta.pkl beside them names characters,
                 without it the tokens are GPT-2's. A document ends with the end-of-text token.
llm.c,           NAME_train_000001.bin, NAME_val_000000.bin: 256 int32 of header (magic, version, token count), then
modded-nanogpt   uint16 or uint32 tokens. A document starts with the end-of-text token.

Every token is looked at once: it must be in the vocabulary, and where documents end is noted. What that gave is a
prepared folder in the cache whose manifest names the files; from then on it is a dataset like any other.
Source: nanoGPT, data/*/prepare.py; llm.c, dev/data/data_common.py; modded-nanogpt, data/.
"""

import hashlib
import json
import re
import struct
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import filelock
import numpy as np
import numpy.typing as npt

from nudge.config import DataConfig
from nudge.data import corpus, vocabulary
from nudge.data import tokenizer as tokenizers
from nudge.data.foreign import meta_pkl
from nudge.data.shards import (
    HEADER_BYTES,
    MAGIC_VERSION,
    Dataset,
    Manifest,
    Place,
    Shard,
    Source,
    SplitManifest,
    SplitName,
    check_key,
    is_prepared,
    map_place,
    open_dataset,
    read_manifest,
    read_place,
    write_ends,
    writing_to,
)
from nudge.data.tokenizer import Tokenizer
from nudge.errors import DataError, TokenizerError
from nudge.events import Preparing
from nudge.util.files import cache_folder

_RAW_NAMES = ("train.bin", "val.bin")
_NAMES = re.compile(r"train\.bin|val\.bin|.+_(train|val)(_\d+)?\.bin")  # what a folder is searched for
_IS_VAL = re.compile(r"(.*_)?val[_.].*")
_BY_MAGIC = {magic: (number, n_bytes) for n_bytes, (magic, number) in MAGIC_VERSION.items()}
_SOON = 1 << 20  # tokens: as far as the end of a document is looked for
_AGAIN = "copy or make the file again"


@dataclass(frozen=True, slots=True)
class TokenFile:
    """The tokens of one file, or a stretch of them."""

    place: Place
    n_tokens: int

    @property
    def path(self) -> Path:
        return Path(self.place.path)

    def part(self, start: int, end: int) -> "TokenFile":
        """The tokens from `start` to before `end`."""
        first_byte = self.place.first_byte + start * self.place.bytes_per_token
        return TokenFile(replace(self.place, first_byte=first_byte), end - start)


def find(paths: Sequence[str]) -> list[Path]:
    """The token files of folders, files and globs, in order; none if those name text.

    Raises: DataError for a mixture.
    """
    named = {given: _named(given) for given in paths}
    text = next((given for given, found in named.items() if not found), None)
    files = list(dict.fromkeys(path.absolute() for found in named.values() for path in found))
    if files and text:
        raise DataError(f"{files[0]} holds tokens, {text} does not: they cannot be mixed", "give one of them")
    return files


def validation(paths: Sequence[Path]) -> list[TokenFile]:
    """Of token files those of validation, or all if none is called so.

    Raises: DataError for a file that is damaged or of another kind.
    """
    token_files = [inspect(path) for path in paths]
    return [file for file in token_files if _is_val(file)] or token_files


def _is_val(file: TokenFile) -> bool:
    return bool(_IS_VAL.fullmatch(file.path.name))


def _named(given: str) -> list[Path]:
    path = corpus.expand_user(given)
    if path.is_dir():
        return sorted(inner for inner in path.iterdir() if _NAMES.fullmatch(inner.name) and inner.is_file())
    found = [path] if path.exists() else corpus.matches(given)
    return found if all(path.suffix == ".bin" for path in found) else []


def prepare(config: DataConfig, paths: Sequence[Path], out: Path | None = None) -> Generator[Preparing, None, Dataset]:
    """Check token files, or open what was noted when they were checked; use with `yield from`.

    Raises: DataError for a file that is damaged, of another kind or for another vocabulary; TokenizerError,
    MachineError.
    """
    token_files = [inspect(path) for path in paths]
    work = _Check(
        config=config, files=token_files, is_raw=_is_raw(token_files), tokenizer=_tokenizer(config, token_files)
    )
    folder = out or cache_folder() / "datasets" / work.key[:16]
    with writing_to(folder), filelock.FileLock(folder / ".lock", thread_local=False):
        if (folder / "manifest.json").exists():
            check_key(folder, work.key)
        if not is_current(folder):
            yield from work.run(folder)
    return open_dataset(folder)


def is_current(folder: Path) -> bool:
    """Whether a prepared folder is there, and the files that its manifest names are as they were when checked."""
    if not (folder / "manifest.json").exists():
        return False
    manifest = read_manifest(folder)
    try:
        for shard in (*manifest.train.shards, *manifest.val.shards):
            if shard.place:
                map_place(shard.place, shard.n_tokens)
    except DataError:
        return False
    return True


def inspect(path: Path) -> TokenFile:
    """What a file's header and size say. Raises: DataError for one that is damaged or of another kind."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
        stat = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "check the path and its permissions") from error
    if not header:
        raise DataError(f"{path} is empty", _AGAIN)
    magic, number, n_tokens = struct.unpack("<3i", header[:12].ljust(12, b"\0"))
    if magic in _BY_MAGIC:
        expected_number, bytes_per_token = _BY_MAGIC[magic]
        if number != expected_number:
            raise DataError(
                f"{path} has version {number}, expected {expected_number}",
                "only versions 1 (16-bit tokens) and 7 (32-bit) of llm.c's token files are known",
            )
        first_byte = HEADER_BYTES
    elif path.name in _RAW_NAMES:
        first_byte, bytes_per_token, n_tokens = 0, 2, stat.st_size // 2
    else:
        expected = " or ".join(f"{magic} ({8 * n_bytes}-bit tokens)" for magic, (_, n_bytes) in _BY_MAGIC.items())
        raise DataError(
            f"{path} holds no tokens of llm.c: it begins with the number {magic}, expected {expected}",
            "tokens without a header are read from files named train.bin and val.bin, as nanoGPT writes them",
        )
    if first_byte == 0 and stat.st_size % 2:
        raise DataError(
            f"{path} is cut or damaged: {stat.st_size:,} bytes are no whole number of 2-byte tokens", _AGAIN
        )
    if stat.st_size != (expected_bytes := first_byte + n_tokens * bytes_per_token):
        raise DataError(f"{path} is cut or damaged: {stat.st_size:,} bytes, expected {expected_bytes:,}", _AGAIN)
    if not n_tokens:
        raise DataError(f"{path} is a header without tokens", _AGAIN)
    place = Place(
        path=str(path.absolute()),  # not where a link leads: the name says which split it is
        first_byte=first_byte,
        bytes_per_token=bytes_per_token,
        file_bytes=stat.st_size,
        modified_ns=stat.st_mtime_ns,
    )
    return TokenFile(place, n_tokens)


def _is_raw(files: Sequence[TokenFile]) -> bool:
    """Whether they are nanoGPT's. Raises: DataError if only some are."""
    raw = [file for file in files if file.place.first_byte == 0]
    if raw and len(raw) < len(files):
        headed = next(file for file in files if file.place.first_byte)
        raise DataError(f"{raw[0].path} is nanoGPT's and {headed.path} is llm.c's", "give the files of one of them")
    return bool(raw)


def _tokenizer(config: DataConfig, files: Sequence[TokenFile]) -> Tokenizer:
    """What made the tokens: the files do not say it, but their neighbour, the config or their kind."""
    if beside := neighbour(files):
        return beside
    if not vocabulary.is_learned(config.tokenizer):
        return tokenizers.get(config.tokenizer)
    if any(file.place.bytes_per_token == 4 for file in files):
        raise TokenizerError(
            f"{files[0].path} has 32-bit tokens, and does not say of which vocabulary",
            f"name it: nudge data prepare {files[0].path.parent} --tokenizer cl100k, or a tokenizer.json of nudge",
        )
    return tokenizers.get("gpt2")


def neighbour(files: Sequence[TokenFile]) -> Tokenizer | None:
    """The vocabulary that stands beside the files: nanoGPT's meta.pkl, or the tokenizer.json of a prepared folder.

    Raises: DataError if it is not the same in all their folders; TokenizerError.
    """
    folders = dict.fromkeys(file.path.parent for file in files)
    (first, tokenizer), *others = ((folder, _vocabulary_in(folder)) for folder in folders)
    for folder, other in others:
        if (other and other.sha256) != (tokenizer and tokenizer.sha256):
            raise DataError(f"{first} and {folder} do not have the same vocabulary", "give the files of one of them")
    return tokenizer


def _vocabulary_in(folder: Path) -> Tokenizer | None:
    if (folder / meta_pkl.NAME).exists():
        return meta_pkl.read(folder / meta_pkl.NAME)
    return tokenizers.load(folder / "tokenizer.json") if is_prepared(folder) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """What is to be looked at, and by which vocabulary."""

    RECIPE: ClassVar[int] = 1  # to be raised when the same files would be noted in another way

    config: DataConfig
    files: list[TokenFile]
    is_raw: bool
    tokenizer: Tokenizer

    @property
    def key(self) -> str:
        """Names the files, the vocabulary and the split. Not when the files changed: they are then checked anew."""
        decisive = {
            "token files": self.RECIPE,
            "files": [file.place.path for file in self.files],
            "tokenizer": self.tokenizer.sha256,
            "val_share": self.config.val_share,
        }
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()

    def run(self, folder: Path) -> Generator[Preparing, None, None]:
        train, val, note = self._split()
        self.tokenizer.save(folder / "tokenizer.json")
        n_bytes = sum(file.place.file_bytes for file in self.files)
        train_shards = yield from self._shards(folder, "train", train, done=0, total=n_bytes)
        n_train_bytes = sum(part.n_tokens * part.place.bytes_per_token for part in train)
        val_shards = yield from self._shards(folder, "val", val, done=n_train_bytes, total=n_bytes)
        digests = "\n".join(shard.sha256 for shard in (*train_shards, *val_shards))
        Manifest(
            key=self.key,
            tokenizer=self.tokenizer.name,
            tokenizer_sha256=self.tokenizer.sha256,
            vocab_size=self.tokenizer.vocab_size,
            val_share=self.config.val_share,
            source=Source(
                paths=self.config.paths,
                n_files=len(self.files),
                n_bytes=n_bytes,
                sha256=hashlib.sha256(digests.encode()).hexdigest(),
                suffixes=(".bin",),
                note=note,
            ),
            train=SplitManifest.of(train_shards),
            val=SplitManifest.of(val_shards),
            versions={"nudge-lm": version("nudge-lm")},
        ).save(folder / "manifest.json")

    def _split(self) -> tuple[list[TokenFile], list[TokenFile], str]:
        """Training files, validation files, and what there is to say of both."""
        train = [file for file in self.files if not _is_val(file)]
        val = [file for file in self.files if _is_val(file)]
        if not train:
            raise DataError(f"{val[0].path} is validation text, and there is none to train on", "add its train files")
        note = f"tokens of {'nanoGPT' if self.is_raw else 'llm.c'}, read where they lie"
        if val:
            return train, val, note
        return *self._hold_out(train), f"{note}; no val file: the last {self.config.val_share:.0%} are held out"

    def _hold_out(self, files: list[TokenFile]) -> tuple[list[TokenFile], list[TokenFile]]:
        """The last share of the tokens for validation, cut between two documents if one ends soon."""
        n_tokens = sum(file.n_tokens for file in files)
        if n_tokens < 2:
            raise DataError(f"{files[0].path} holds a single token: there is nothing to split", "add more files")
        at = min(max(1, int(n_tokens * (1 - self.config.val_share))), n_tokens - 1)
        number = 0
        while at >= files[number].n_tokens:
            at -= files[number].n_tokens
            number += 1
        file = files[number]
        soon = map_place(file.place, file.n_tokens)[at : at + _SOON]
        places = np.flatnonzero(soon == self.tokenizer.eot) + self.is_raw
        if len(places) and at + places[0] < file.n_tokens:
            at += int(places[0])
        before = [file.part(0, at)] if at else []
        return [*files[:number], *before], [file.part(at, file.n_tokens), *files[number + 1 :]]

    def _shards(
        self, folder: Path, split: SplitName, parts: list[TokenFile], *, done: int, total: int
    ) -> Generator[Preparing, None, list[Shard]]:
        """Look at every token of a split."""
        shards: list[Shard] = []
        begins_whole = False
        for number, part in enumerate(parts):
            looked = _Looked()
            for n_tokens in _look(part, self.tokenizer, looked):
                yield Preparing(what="checking", done=done + n_tokens * part.place.bytes_per_token, total=total)
            done += part.n_tokens * part.place.bytes_per_token
            ends = np.concatenate(looked.eots) + self.is_raw  # llm.c: a document ends where the next one starts
            if number == 0 and not self.is_raw and len(ends) and ends[0] == 0:
                begins_whole, ends = True, ends[1:]
            if number == len(parts) - 1 and begins_whole:
                ends = np.append(ends, part.n_tokens)
            file = f"{split}_{number:06d}.bin"
            shards.append(
                Shard(
                    file=file,
                    n_tokens=part.n_tokens,
                    n_documents=len(ends),
                    text_bytes=looked.text_bytes,
                    sha256=looked.sha256.hexdigest(),
                    ends_sha256=write_ends(folder, file, ends.astype(np.uint64)),
                    place=part.place,
                )
            )
        return shards


@dataclass(slots=True)
class _Looked:
    """What was seen of a file so far."""

    eots: list[npt.NDArray[np.int64]] = field(default_factory=list)
    text_bytes: int = 0
    sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)


def _look(part: TokenFile, tokenizer: Tokenizer, looked: _Looked) -> Iterator[int]:
    """Look at every token; yields how many were seen. Raises: DataError for one that is not in the vocabulary."""
    seen = 0
    for chunk in read_place(part.place, part.n_tokens):
        if (highest := int(chunk.max())) >= tokenizer.vocab_size:
            raise DataError(
                f"{part.path} has the token {highest:,}, the vocabulary {tokenizer.name} ends at "
                f"{tokenizer.vocab_size - 1:,}",
                "name the vocabulary that made it (--tokenizer NAME|FILE); if it was this one, the file is damaged",
            )
        looked.sha256.update(chunk.data)
        looked.text_bytes += int(tokenizer.n_bytes[chunk].sum())
        looked.eots.append(np.flatnonzero(chunk == tokenizer.eot) + seen)
        seen += len(chunk)
        yield seen
