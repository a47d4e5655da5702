"""Tokenizers: text to token ids and back, by bytes, characters or byte pairs (gpt2, cl100k, or a trained vocabulary).

Every tokenizer has a special token, `<|endoftext|>`, which starts a document; only a vocabulary of characters may lack
it. Ordinary text never becomes this token, even if it contains `<|endoftext|>`. Text is a Python string in which a byte
that is not UTF-8 is a lone surrogate (Python's `surrogateescape`), so `decode_bytes(encode_bytes(data)) == data` for
any data.
"""

import abc
import base64
import codecs
import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import tiktoken

from nudge.data import published_vocab
from nudge.data.chunking import LONGEST_CHUNK, chunks
from nudge.data.published_vocab import CL100K_PATTERN, GPT2_PATTERN
from nudge.data.tokenizer_json import BytePairs, Characters
from nudge.errors import TokenizerError, did_you_mean, first_line
from nudge.util import files, json_reader
from nudge.util.terminal_text import one_line, visible_bytes

EOT = "<|endoftext|>"
FORMAT = "nudge tokenizer 1"
NAMES = ("bytes", "chars", "gpt2", "cl100k", "bpe-N")

GPT2_SHA256 = "217969e798d06603c9be6d5a9ac47c9e3b9906c7bf902229230bc1dbb3ab364f"  # Tokenizer.sha256 of gpt2
CL100K_SPECIAL = {
    EOT: 100257,
    "<|fim_prefix|>": 100258,
    "<|fim_middle|>": 100259,
    "<|fim_suffix|>": 100260,
    "<|endofprompt|>": 100276,
}
MOST_WITHOUT_TEXT = 1 << 20  # ids of a byte-pair vocabulary, special ones among them: the table has a place for each
_PUBLISHED = {"gpt2": (GPT2_PATTERN, {EOT: 50256}), "cl100k": (CL100K_PATTERN, CL100K_SPECIAL)}

Ids = npt.NDArray[np.uint32]

_STRAY_BYTES = re.compile("([\udc80-\udcff]+)")  # bytes that are not UTF-8, by surrogateescape
_LONE_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # JSON can hold them, but no encoding can


class Tokenizer(abc.ABC):
    """A vocabulary, its encoder and its decoder. Make one with `get`, `load`, `chars` or `train_bpe`."""

    kind: ClassVar[str]

    def __init__(self, name: str, table: Sequence[bytes | None], eot: int) -> None:
        self.name = name
        self.eot = eot
        self.special = {EOT: eot}
        self._table = table  # the bytes of each id; None for a special token or an id without text

    @property
    def vocab_size(self) -> int:
        return len(self._table)

    @property
    def has_eot(self) -> bool:
        """Return whether `eot` is in the vocabulary; if not, it is the id after the last one."""
        return self.eot < self.vocab_size

    @property
    def opening(self) -> tuple[int, ...]:
        """Return the ids that a network reads before the first token of a text: end-of-text, or else a newline.

        Empty if the vocabulary has neither: its network learned only whole examples, no running text.
        """
        return (self.eot,) if self.has_eot else ()

    @abc.abstractmethod
    def encode_array(self, text: str) -> Ids:
        """Return the ids of ordinary text as an array."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of ordinary text: "<|endoftext|>" in it does not become the special token."""
        ids: list[int] = self.encode_array(text).tolist()
        return ids

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the ids of any bytes, UTF-8 or not."""
        return self.encode(data.decode("utf-8", "surrogateescape"))

    def encode_documents(self, texts: Sequence[str]) -> tuple[Ids, npt.NDArray[np.int64]]:
        """Return the ids of all documents, with `opening` before each, and the index where each document begins.

        Shapes: [tokens], [documents].
        """
        opening = np.array(self.opening, dtype=np.uint32)
        documents = [np.concatenate([opening, self.encode_array(text)]) for text in texts]
        begins = np.cumsum([0, *map(len, documents[:-1])], dtype=np.int64)
        return np.concatenate(documents), begins

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of `ids`, none for special tokens. Raises: TokenizerError for an id out of range."""
        parts = []
        for token in map(int, ids):
            if not 0 <= token < self.vocab_size:
                raise TokenizerError("unknown_id", token=token, name=self.name, last=self.vocab_size - 1)
            parts.append(self._table[token] or b"")
        return b"".join(parts)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`, with U+FFFD for bytes that are not UTF-8, such as half a character."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes | None:
        """Return the bytes of one token; None for a special token or an id without text."""
        return self._table[token]

    def for_thread(self) -> "Tokenizer":
        """Return a copy for one thread if that makes parallel encoding faster, else this tokenizer."""
        return self

    @functools.cached_property
    def n_bytes(self) -> npt.NDArray[np.int64]:
        """Return the number of bytes of text of each token, to turn nats per token into bits per byte. Shape: [V]."""
        return np.array([len(token or b"") for token in self._table], dtype=np.int64)

    @functools.cached_property
    def sha256(self) -> str:
        """Return the SHA-256 of everything that determines the ids of a text. The name is not part of it."""
        return _digest({"kind": self.kind, **self._content()})

    def save(self, path: Path) -> None:
        """Write the whole vocabulary to one file, atomically, so that a run folder needs no network to be used."""
        value = {"format": FORMAT, "name": self.name, "kind": self.kind, "sha256": self.sha256, **self._content()}
        files.write_text(path, json.dumps(value, indent=1) + "\n")

    @abc.abstractmethod
    def _content(self) -> dict[str, Any]:
        """Return the JSON values that `sha256` covers and `_from_json` needs."""


class ByteTokenizer(Tokenizer):
    """One id for each of the 256 bytes; 256 is the end of text."""

    kind = "bytes"

    def __init__(self) -> None:
        super().__init__("bytes", [*(bytes([byte]) for byte in range(256)), None], eot=256)

    def encode_array(self, text: str) -> Ids:
        return np.frombuffer(to_bytes(text), dtype=np.uint8).astype(np.uint32)

    def _content(self) -> dict[str, Any]:
        return {}


class CharTokenizer(Tokenizer):
    """One id for each of some characters, in Unicode order; then the end of text, if there is one."""

    kind = "chars"

    def __init__(self, characters: Iterable[str], *, has_eot: bool = True) -> None:
        self.characters = sorted(characters)
        table = [to_bytes(character) for character in self.characters]
        super().__init__("chars", [*table, None] if has_eot else table, eot=len(table))
        codes = np.array([ord(character) for character in self.characters], dtype=np.int64)
        self._id_of = np.full(int(codes.max(initial=0)) + 2, -1, dtype=np.int64)  # the last entry: all higher codes
        self._id_of[codes] = np.arange(len(codes))

    @property
    def opening(self) -> tuple[int, ...]:
        if self.has_eot or "\n" not in self.characters:
            return super().opening
        return (self.characters.index("\n"),)

    def encode_array(self, text: str) -> Ids:
        codes = np.frombuffer(replace_lone_surrogates(text).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        ids = self._id_of[np.minimum(codes, len(self._id_of) - 1)]
        if ids.size and ids.min() < 0:
            code = int(codes[ids < 0][0])
            raise TokenizerError("unknown_character", character=chr(code), code=code, n=len(self.characters))
        return ids.astype(np.uint32)

    def _content(self) -> dict[str, Any]:
        return {"characters": self.characters} | ({} if self.has_eot else {"has_eot": False})


class BpeTokenizer(Tokenizer):
    """Byte pairs, encoded by tiktoken. A readable version of the algorithm: `nudge.data.bpe_reference`."""

    kind = "bpe"

    def __init__(
        self, name: str, tokens: Sequence[bytes], *, pattern: str, special: dict[str, int], vocab_size: int = 0
    ) -> None:
        self.tokens = tokens
        self.pattern = pattern
        vocab_size = max(vocab_size, len(tokens), *(token + 1 for token in special.values()))
        super().__init__(name, [*tokens, *[None] * (vocab_size - len(tokens))], eot=special[EOT])
        self.special = special
        ranked = {token: rank for rank, token in enumerate(tokens)}
        self._byte_ids = [ranked[bytes([byte])] for byte in range(256)]
        self._encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranked, special_tokens=special)

    def encode_array(self, text: str) -> Ids:
        return np.concatenate([self._encode_chunk(chunk) for chunk in chunks(text)])

    def encode_documents(self, texts: Sequence[str]) -> tuple[Ids, npt.NDArray[np.int64]]:
        # One call for many documents: tiktoken releases the interpreter's lock during a call, so threads scale only if
        # calls are long (on short Korean reviews this is four times faster than a call for each).
        joined = EOT + EOT.join(texts)
        if joined.count(EOT) > len(texts) or max(map(len, texts)) > LONGEST_CHUNK:
            return super().encode_documents(texts)  # a text contains the special token's name, or has to be cut
        try:
            ids = self._encoding.encode_to_numpy(joined, allowed_special={EOT}, disallowed_special=())
        except UnicodeEncodeError:
            return super().encode_documents(texts)
        return ids, np.flatnonzero(ids == self.eot)

    def for_thread(self) -> "BpeTokenizer":
        # The scratch memory of tiktoken's splitting engine belongs to the first thread that uses it; any other takes a
        # lock for every word, which costs 5 to 15%. A second engine costs 20 to 60 ms.
        return BpeTokenizer(
            self.name, self.tokens, pattern=self.pattern, special=self.special, vocab_size=self.vocab_size
        )

    def _encode_chunk(self, text: str) -> Ids:
        try:
            return self._encoding.encode_to_numpy(text, disallowed_special=())
        except UnicodeEncodeError:  # bytes that are not UTF-8: each is a token by itself
            ids: list[int] = []
            for at, part in enumerate(_STRAY_BYTES.split(replace_lone_surrogates(text))):
                if at % 2:  # `split` puts the matches at odd indices
                    ids += [self._byte_ids[byte] for byte in part.encode("utf-8", "surrogateescape")]
                else:
                    ids += self._encoding.encode_ordinary(part)
            return np.array(ids, dtype=np.uint32)

    def _content(self) -> dict[str, Any]:
        return {
            "pattern": self.pattern,
            "special_tokens": self.special,
            "vocab_size": self.vocab_size,
            "tokens": [base64.b64encode(token).decode("ascii") for token in self.tokens],
        }


def get(spec: str) -> Tokenizer:
    """Return the tokenizer that `spec` names: `bytes`, `gpt2`, `cl100k`, or a file that `load` accepts.

    Raises: TokenizerError for an unknown name or file; MachineError if gpt2 or cl100k cannot be found.
    """
    if spec == "bytes":
        return ByteTokenizer()
    if spec in _PUBLISHED:
        return _published_tokenizer(spec, published_vocab.find(spec))
    if is_learned(spec):
        raise TokenizerError("needs_text", name=spec)
    path = Path(spec)
    with contextlib.suppress(RuntimeError):  # ~name of an unknown user: `load` reports it as missing
        path = path.expanduser()
    if files.exists(path) or path.suffix or len(path.parts) > 1:
        return load(path)
    raise TokenizerError("unknown", name=spec, closest=did_you_mean(spec, NAMES))


def is_learned(spec: str) -> bool:
    """Return whether a tokenizer with this name is learned from the text: `chars` or `bpe-N`."""
    return spec == "chars" or trained_size(spec) is not None


def trained_size(spec: str) -> int | None:
    """Return 4096 for `bpe-4096`; None for a name that is not of this form."""
    match = re.fullmatch(r"bpe-(\d{1,12})", spec)
    return int(match[1]) if match else None


def load(path: Path) -> Tokenizer:
    """Load a tokenizer from nudge's tokenizer.json, or from a published .tiktoken file or vocab.bpe.

    `path` may be the folder of a tokenizer.json. Raises: TokenizerError if it is missing, damaged or another format.
    """
    path = path / "tokenizer.json" if files.is_dir(path) else path
    try:
        with path.open("rb") as opened:
            data = opened.read(json_reader.LARGEST_VOCABULARY).removeprefix(codecs.BOM_UTF8)
    except (OSError, ValueError) as error:  # a name that no file can have
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise TokenizerError("unreadable", path=path, error=reason) from error
    if file := published_vocab.recognize(data):
        return _published_tokenizer(file.vocabulary, published_vocab.parse(data, file))
    value = None
    with contextlib.suppress(ValueError):
        value = json_reader.parse(data, surrogates=True)  # a character may be a byte that is not UTF-8
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise TokenizerError("unknown_file", path=path)
    content = {key: value[key] for key in value if key not in ("format", "name", "sha256")}
    tokenizer, reason = None, "its content does not have the SHA-256 that it names"
    try:
        if value.get("sha256") == _digest(content):  # before anything is built from it
            tokenizer = _from_json(value, path)
    except (ValueError, RecursionError) as error:
        reason = first_line(error)
    if tokenizer is None or tokenizer.sha256 != value["sha256"]:
        raise TokenizerError("damaged", path=path, error=reason)
    return tokenizer


def _digest(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _from_json(value: dict[str, Any], path: Path) -> Tokenizer:
    """Build the tokenizer that a tokenizer.json describes.

    Raises: TokenizerError for a pattern or an id that cannot be used; ValueError for another structure.
    """
    match value.get("kind"):
        case "bytes":
            return ByteTokenizer()
        case "chars":
            characters = json_reader.convert(value, Characters)
            return CharTokenizer(characters.characters, has_eot=characters.has_eot)
        case "bpe":
            return _byte_pairs(json_reader.convert(value, BytePairs), path)
        case kind:
            raise ValueError(f"'kind' is {str(kind)[:40]!r}")


def _byte_pairs(read: BytePairs, path: Path) -> BpeTokenizer:
    """Build a byte-pair tokenizer. Only what tiktoken is known to accept reaches it: a panic ends the process."""
    if EOT not in read.special_tokens or not {bytes([byte]) for byte in range(256)} <= set(read.tokens):
        raise ValueError(f"a byte or {EOT} is missing")  # it could not encode every text
    if read.pattern not in published_vocab.PATTERNS:
        raise TokenizerError("unknown_pattern", path=path, pattern=read.pattern[:80])
    size, special = read.vocab_size, read.special_tokens
    n, most = len(read.tokens), len(read.tokens) + MOST_WITHOUT_TEXT
    if not n < size <= most:
        raise TokenizerError("bad_size", path=path, got=size, least=n + 1, most=most)
    for text, token in special.items():
        if not n <= token < size or not text:
            raise TokenizerError("bad_id", path=path, name=text[:40], got=token, first=n, last=size - 1)
    if len(set(read.tokens)) < n or len(set(special.values())) < len(special):
        raise TokenizerError("repeated_token", path=path)
    return BpeTokenizer(read.name, read.tokens, pattern=read.pattern, special=special, vocab_size=size)


def _published_tokenizer(name: str, tokens: Sequence[bytes]) -> Tokenizer:
    pattern, special = _PUBLISHED[name]
    return BpeTokenizer(name, tokens, pattern=pattern, special=special)


def chars(texts: Iterable[str]) -> CharTokenizer:
    """Build a vocabulary of the characters that occur in `texts`."""
    seen: set[str] = set()
    for text in texts:
        seen.update(replace_lone_surrogates(text))
    return CharTokenizer(seen)


def train_bpe(texts: Iterable[str], vocab_size: int) -> BpeTokenizer:
    """Train a byte-pair vocabulary of `vocab_size` tokens; the last one is end-of-text.

    Little text gives fewer tokens: see `vocab_size` and `name` of the result. Raises: TokenizerError below 257.
    """
    from nudge.data import bpe  # its library is needed to train, not to encode

    tokens = bpe.train_tokens(texts, vocab_size - 1)
    return BpeTokenizer(f"bpe-{len(tokens) + 1}", tokens, pattern=bpe.PATTERN, special={EOT: len(tokens)})


def to_bytes(text: str) -> bytes:
    """Encode text as UTF-8; surrogate escapes become the bytes they stand for, and other lone surrogates U+FFFD."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return replace_lone_surrogates(text).encode("utf-8", "surrogateescape")


def replace_lone_surrogates(text: str) -> str:
    """Return `text` with U+FFFD for each lone surrogate that does not stand for a byte."""
    return _LONE_SURROGATE.sub("\ufffd", text) if _LONE_SURROGATE.search(text) else text


def shown_token(tokenizer: Tokenizer, token: int) -> str:
    """Return one token for display: its text by `shown`, a special token's name, or `<id 50259>` without text.

    `token` may be above the tokenizer's ids: a network's vocabulary can be larger.
    """
    data = bytes_of(tokenizer, token)
    if data is not None:
        return visible_bytes(data)
    name = next((name for name, special in tokenizer.special.items() if special == token), f"<id {token}>")
    return one_line(name)


def bytes_of(tokenizer: Tokenizer, token: int) -> bytes | None:
    """Return the bytes of a token; None if it has no text, or if only the network has this id."""
    return tokenizer.token_bytes(token) if token < tokenizer.vocab_size else None
