"""Token files of other programs, used in place: nothing is copied, and nothing is written to their folder.

nanoGPT          train.bin, val.bin: uint16 tokens and nothing else. A meta.pkl in the same folder lists characters;
                 without it the tokens are GPT-2's. A document ends with the end-of-text token.
llm.c,           NAME_train_000001.bin, NAME_val_000000.bin: a header of 256 int32 (magic, version, token count), then
modded-nanogpt   uint16 or uint32 tokens. A document starts with the end-of-text token.

Every token is checked once to be in the vocabulary, and the ends of documents are recorded. The result is a prepared
folder in the cache whose manifest names the files; from then on it is a dataset like any other.
Source: nanoGPT, data/*/prepare.py; llm.c, dev/data/data_common.py; modded-nanogpt, data/.
"""

import hashlib
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nudge.config import DataConfig
from nudge.data import corpus
from nudge.data import tokenizer as tokenizers
from nudge.data.foreign import meta_pkl
from nudge.data.manifest import (
    Place,
    Shard,
    Source,
    SplitName,
    key_of,
    locked_folder,
    read_manifest,
    write_manifest,
)
from nudge.data.shards import (
    HEADER_BYTES,
    MAGIC_VERSION,
    Dataset,
    is_prepared,
    map_place,
    open_dataset,
    read_header,
    read_place,
    write_ends,
)
from nudge.data.tokenizer import Tokenizer
from nudge.errors import DataError, TokenizerError
from nudge.events import Preparing

# Part of every key: raise it when the same files would give another prepared folder.
RECIPE = 1

_RAW_NAMES = ("train.bin", "val.bin")
_NAMES = re.compile(r"train\.bin|val\.bin|.+_(train|val)(_\d+)?\.bin")  # the token files in a folder
_IS_VAL = re.compile(r"(.*_)?val[_.].*")
_BY_MAGIC = {magic: (number, n_bytes) for n_bytes, (magic, number) in MAGIC_VERSION.items()}
_LOOKAHEAD_TOKENS = 1 << 20  # how far to look for a place between two documents


@dataclass(frozen=True, slots=True)
class TokenFile:
    """The tokens of one file, or a range of them."""

    place: Place
    n_tokens: int
    is_raw: bool  # nanoGPT's, without a header

    @property
    def path(self) -> Path:
        return Path(self.place.path)

    @property
    def is_val(self) -> bool:
        return bool(_IS_VAL.fullmatch(self.path.name))

    @property
    def n_bytes(self) -> int:
        return self.n_tokens * self.place.bytes_per_token

    def part(self, start: int, end: int) -> "TokenFile":
        """Return the tokens from `start` to before `end`."""
        first_byte = self.place.first_byte + start * self.place.bytes_per_token
        return replace(self, place=replace(self.place, first_byte=first_byte), n_tokens=end - start)


def find(paths: Sequence[str]) -> list[Path]:
    """Return the token files that the paths (folders, files, globs) name, in order; none if they name text.

    Raises: DataError for a mixture of tokens and text.
    """
    named = {given: _find_in(given) for given in paths}
    text = next((given for given, found in named.items() if not found), None)
    files = list(dict.fromkeys(path.absolute() for found in named.values() for path in found))
    if files and text:
        raise DataError("tokens_and_text", tokens=files[0], text=text)
    return files


def _find_in(given: str) -> list[Path]:
    """Return the token files that one path names; none if it names anything else."""
    path = corpus.expand_user(given)
    if path.is_dir():
        return sorted(inner for inner in path.iterdir() if _NAMES.fullmatch(inner.name) and inner.is_file())
    found = [path] if path.exists() else corpus.matches(given)
    return found if all(path.suffix == ".bin" for path in found) else []


def validation_files(paths: Sequence[Path]) -> list[TokenFile]:
    """Return the token files whose names mark them as validation data; all files if there are none.

    Raises: DataError for a file that is damaged or of another kind.
    """
    token_files = [inspect(path) for path in paths]
    return [file for file in token_files if file.is_val] or token_files


def inspect(path: Path) -> TokenFile:
    """Read a file's header and size. Raises: DataError for a file that is damaged or of another kind."""
    try:
        magic, number, n_tokens = read_header(path)
        stat = path.stat()
    except OSError as error:
        raise DataError("unreadable", path=path, error=error.strerror) from error
    if not stat.st_size:
        raise DataError("no_tokens", path=path)
    if magic in _BY_MAGIC:
        known, bytes_per_token = _BY_MAGIC[magic]
        if number != known:
            raise DataError("token_version", path=path, version=number, known=known)
        first_byte = HEADER_BYTES
    elif path.name in _RAW_NAMES:
        first_byte, bytes_per_token, n_tokens = 0, 2, stat.st_size // 2
    else:
        raise DataError("not_tokens", path=path, magic=magic, known=" or ".join(map(str, _BY_MAGIC)))
    expected = first_byte + n_tokens * bytes_per_token
    if stat.st_size != expected:
        raise DataError("cut_tokens", path=path, n_bytes=stat.st_size, expected=expected)
    if not n_tokens:
        raise DataError("no_tokens", path=path)
    place = Place(
        path=str(path.absolute()),  # do not resolve links: the name tells the split
        first_byte=first_byte,
        bytes_per_token=bytes_per_token,
        file_bytes=stat.st_size,
        modified_ns=stat.st_mtime_ns,
    )
    return TokenFile(place, n_tokens, is_raw=first_byte == 0)


def vocabulary_beside(files: Sequence[TokenFile]) -> Tokenizer | None:
    """Return the vocabulary in the files' folders: nanoGPT's meta.pkl, or the tokenizer.json of a prepared folder.

    Raises: DataError if the folders have different vocabularies; TokenizerError.
    """
    folders = dict.fromkeys(file.path.parent for file in files)
    (first, tokenizer), *others = ((folder, _vocabulary_in(folder)) for folder in folders)
    for folder, other in others:
        if (other and other.sha256) != (tokenizer and tokenizer.sha256):
            raise DataError("two_vocabularies", first=first, second=folder)
    return tokenizer


def _vocabulary_in(folder: Path) -> Tokenizer | None:
    if (folder / meta_pkl.NAME).exists():
        return meta_pkl.read(folder / meta_pkl.NAME)
    return tokenizers.load(folder / "tokenizer.json") if is_prepared(folder) else None


def prepare(config: DataConfig, paths: Sequence[Path], out: Path | None = None) -> Generator[Preparing, None, Dataset]:
    """Check token files, or open the result of an earlier check; use as `dataset = yield from prepare(...)`.

    Raises: DataError for a file that is damaged, of another kind or with another vocabulary; TokenizerError,
    MachineError.
    """
    files = [inspect(path) for path in paths]
    raw, with_header = [file for file in files if file.is_raw], [file for file in files if not file.is_raw]
    if raw and with_header:
        raise DataError("two_formats", nanogpt=raw[0].path, llmc=with_header[0].path)
    tokenizer = _tokenizer(config, files)
    key = key_of(  # without modification times: changed files are checked again in the same folder
        {
            "token files": RECIPE,
            "files": [file.place.path for file in files],
            "tokenizer": tokenizer.sha256,
            "val_share": config.val_share,
        }
    )
    with locked_folder(key, out) as folder:
        if not is_current(folder):
            yield from _fill(folder, key, config, files, tokenizer)
    return open_dataset(folder)


def is_current(folder: Path) -> bool:
    """Return whether a prepared folder is finished and the files that its manifest names are unchanged."""
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


def _tokenizer(config: DataConfig, files: Sequence[TokenFile]) -> Tokenizer:
    """Return the tokenizer of the files: from their folder, else from the config, else GPT-2's.

    Raises: TokenizerError if none of them can be right.
    """
    if beside := vocabulary_beside(files):
        return beside
    if not tokenizers.is_learned(config.tokenizer):
        return tokenizers.get(config.tokenizer)
    if any(file.place.bytes_per_token == 4 for file in files):
        raise TokenizerError("not_named", path=files[0].path, folder=files[0].path.parent)
    return tokenizers.get("gpt2")


def _fill(
    folder: Path, key: str, config: DataConfig, files: list[TokenFile], tokenizer: Tokenizer
) -> Generator[Preparing, None, None]:
    """Write the tokenizer, the ends of documents and the manifest to a locked folder."""
    train, val = [file for file in files if not file.is_val], [file for file in files if file.is_val]
    if not train:
        raise DataError("no_training", path=val[0].path)
    note = f"tokens of {'nanoGPT' if files[0].is_raw else 'llm.c'}, read where they lie"
    if not val:
        train, val = _hold_out(train, config.val_share, tokenizer.eot)
        note += f"; no val file: the last {config.val_share:.0%} are held out"
    tokenizer.save(folder / "tokenizer.json")
    done, total = 0, sum(file.place.file_bytes for file in files)  # bytes
    splits: dict[SplitName, list[TokenFile]] = {"train": train, "val": val}
    shards: dict[SplitName, list[Shard]] = {}
    for split, parts in splits.items():
        shards[split] = yield from _check_split(folder, split, parts, tokenizer, done, total)
        done += sum(part.n_bytes for part in parts)
    digests = "\n".join(shard.sha256 for shard in (*shards["train"], *shards["val"]))
    source = Source(
        paths=config.paths,
        n_files=len(files),
        n_bytes=total,
        sha256=hashlib.sha256(digests.encode()).hexdigest(),
        suffixes=(".bin",),
        note=note,
    )
    write_manifest(folder, key=key, tokenizer=tokenizer, val_share=config.val_share, source=source, shards=shards)


def _hold_out(files: list[TokenFile], val_share: float, eot: int) -> tuple[list[TokenFile], list[TokenFile]]:
    """Split off the last share of the tokens for validation, at the next place between two documents if one is near."""
    n_tokens = sum(file.n_tokens for file in files)
    if n_tokens < 2:
        raise DataError("nothing_to_split", path=files[0].path)
    at = min(max(1, int(n_tokens * (1 - val_share))), n_tokens - 1)
    number = 0
    while at >= files[number].n_tokens:
        at -= files[number].n_tokens
        number += 1
    file = files[number]
    # nanoGPT's end-of-text token ends a document: split after it. llm.c's starts a document: split before it.
    places = np.flatnonzero(map_place(file.place, file.n_tokens)[at : at + _LOOKAHEAD_TOKENS] == eot) + file.is_raw
    if len(places) and at + places[0] < file.n_tokens:
        at += int(places[0])
    before = [file.part(0, at)] if at else []
    return [*files[:number], *before], [file.part(at, file.n_tokens), *files[number + 1 :]]


def _check_split(
    folder: Path, split: SplitName, parts: list[TokenFile], tokenizer: Tokenizer, done: int, total: int
) -> Generator[Preparing, None, list[Shard]]:
    """Check the token files of a split, write the ends of their documents, and describe them as shards."""
    shards: list[Shard] = []
    starts_with_document = False  # llm.c: the split starts at the beginning of a document, not inside one
    for number, part in enumerate(parts):
        eots, text_bytes, sha256 = yield from _check(part, tokenizer, done, total)
        done += part.n_bytes
        # The index after a document's last token: nanoGPT's end-of-text is that token, llm.c's starts the next document
        # (the last document ends with its split).
        ends = eots + part.is_raw
        if number == 0 and not part.is_raw and len(ends) and ends[0] == 0:
            starts_with_document, ends = True, ends[1:]
        if number == len(parts) - 1 and starts_with_document:
            ends = np.append(ends, part.n_tokens)
        file = f"{split}_{number:06d}.bin"
        shards.append(
            Shard(
                file=file,
                n_tokens=part.n_tokens,
                n_documents=len(ends),
                text_bytes=text_bytes,
                sha256=sha256,
                ends_sha256=write_ends(folder, file, ends.astype(np.uint64)),
                place=part.place,
            )
        )
    return shards


def _check(
    part: TokenFile, tokenizer: Tokenizer, done: int, total: int
) -> Generator[Preparing, None, tuple[npt.NDArray[np.int64], int, str]]:
    """Read every token. Return the indices of the end-of-text tokens, the number of bytes of text, and the SHA-256.

    Raises: DataError for a token that is not in the vocabulary.
    """
    eots, text_bytes, digest, n_read = [], 0, hashlib.sha256(), 0
    for chunk in read_place(part.place, part.n_tokens):
        if (highest := int(chunk.max())) >= tokenizer.vocab_size:
            last = tokenizer.vocab_size - 1
            raise DataError("other_vocabulary", path=part.path, token=highest, tokenizer=tokenizer.name, last=last)
        eots.append(np.flatnonzero(chunk == tokenizer.eot) + n_read)
        text_bytes += int(tokenizer.n_bytes[chunk].sum())
        digest.update(chunk.data)
        n_read += len(chunk)
        yield Preparing(what="checking", done=done + n_read * part.place.bytes_per_token, total=total)
    return np.concatenate(eots), text_bytes, digest.hexdigest()
