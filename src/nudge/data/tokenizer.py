"""Text to tokens and back: bytes, characters, or byte pairs (gpt2, cl100k, or a vocabulary of one's own).

Every tokenizer has one special token, `<|endoftext|>`, that starts a document (but for nanoGPT's characters, and those
of examples without documents). Ordinary text never becomes it, whatever the text says. Text is a Python string in which
a byte that is not UTF-8 stands as a lone surrogate (the standard `surrogateescape`), so that
`decode_bytes(encode_bytes(data)) == data` for any data.
"""

import abc
import base64
import binascii
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
from nudge.errors import TokenizerError, nearest
from nudge.util import files
from nudge.util.terminal_text import shown

EOT = "<|endoftext|>"
FORMAT = "nudge tokenizer 1"
NAMES = ("bytes", "chars", "gpt2", "cl100k", "bpe-N")

# How text is split before bytes are merged. Source: tiktoken_ext/openai_public.py; kept here so that a change there
# can never change the ids of an old run.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
GPT2_SHA256 = "217969e798d06603c9be6d5a9ac47c9e3b9906c7bf902229230bc1dbb3ab364f"  # Tokenizer.sha256 of GPT-2's own
CL100K_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"""
    r"""|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
)
CL100K_SPECIAL = {
    EOT: 100257,
    "<|fim_prefix|>": 100258,
    "<|fim_middle|>": 100259,
    "<|fim_suffix|>": 100260,
    "<|endofprompt|>": 100276,
}

Ids = npt.NDArray[np.uint32]

_STRAY = re.compile("([\udc80-\udcff]+)")  # bytes that are not UTF-8, as surrogateescape writes them
_LONE = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # halves of characters, which JSON can hold and no encoding knows


class Tokenizer(abc.ABC):
    """A vocabulary and the way from text to it. Build one with `get`, `load`, `chars` or `train_bpe`."""

    kind: ClassVar[str]
    name: str
    eot: int

    def __init__(self, name: str, table: Sequence[bytes | None], eot: int) -> None:
        self.name = name
        self.eot = eot
        self.special = {EOT: eot}
        self._table = table  # the bytes of each id; None: a special token, or an id without text

    @property
    def vocab_size(self) -> int:
        return len(self._table)

    @property
    def has_eot(self) -> bool:
        """Whether `eot` is a token of this vocabulary; else it is the id after its last."""
        return self.eot < self.vocab_size

    @property
    def opening(self) -> tuple[int, ...]:
        """What a network reads where no text comes before: the end-of-text token, or without one the end of a line.

        Empty where the vocabulary has neither: its network knows examples as long as its context, and no running text.
        """
        return (self.eot,) if self.has_eot else ()

    @abc.abstractmethod
    def encode_array(self, text: str) -> Ids:
        """The ids of ordinary text, as an array."""

    def encode(self, text: str) -> list[int]:
        """The ids of ordinary text: "<|endoftext|>" in it is text like any other."""
        ids: list[int] = self.encode_array(text).tolist()
        return ids

    def encode_bytes(self, data: bytes) -> list[int]:
        """The ids of any bytes, be they UTF-8 or not."""
        return self.encode(data.decode("utf-8", "surrogateescape"))

    def encode_documents(self, texts: Sequence[str]) -> tuple[Ids, npt.NDArray[np.int64]]:
        """The token that opens a text, then its own, of each document in turn; and where each begins.

        Shapes: [tokens], [documents].
        """
        opening = np.array(self.opening, dtype=np.uint32)
        documents = [np.concatenate([opening, self.encode_array(text)]) for text in texts]
        begins = np.cumsum([0, *map(len, documents[:-1])], dtype=np.int64)
        return np.concatenate(documents), begins

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes that `ids` stand for; special tokens bring none. Raises: TokenizerError for an id out of range."""
        numbers = [int(token) for token in ids]
        for token in numbers:
            if not 0 <= token < self.vocab_size:
                raise TokenizerError(f"token id {token} is not in {self.name}, which has 0 .. {self.vocab_size - 1}")
        return b"".join(self._table[token] or b"" for token in numbers)

    def decode(self, ids: Iterable[int]) -> str:
        """The text that `ids` stand for; what is not UTF-8 (a character that is cut) is shown as U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes | None:
        """The bytes of one token; None for special tokens and ids without text."""
        return self._table[token]

    def for_thread(self) -> "Tokenizer":
        """The same tokenizer for a thread of its own; encoding much text at once is faster with it."""
        return self

    @functools.cached_property
    def n_bytes(self) -> npt.NDArray[np.int64]:
        """Bytes of text of each token, 0 for special ones: what turns nats per token into bits per byte. Shape: [V]."""
        return np.array([len(token or b"") for token in self._table], dtype=np.int64)

    @functools.cached_property
    def sha256(self) -> str:
        """Of everything that decides which ids a text gets; the name does not."""
        canonical = json.dumps({"kind": self.kind, **self._content()}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()

    def save(self, path: Path) -> None:
        """Write all of it to one file, atomically: a run folder can move to a machine without a network."""
        value = {"format": FORMAT, "name": self.name, "kind": self.kind, "sha256": self.sha256, **self._content()}
        files.write_text(path, json.dumps(value, indent=1) + "\n")

    @abc.abstractmethod
    def _content(self) -> dict[str, Any]:
        """What `sha256` covers and `_from_content` needs, as JSON values."""

    @classmethod
    @abc.abstractmethod
    def _from_content(cls, name: str, content: dict[str, Any]) -> "Tokenizer": ...


class ByteTokenizer(Tokenizer):
    """Id = byte; 256 is the end of text."""

    kind = "bytes"

    def __init__(self) -> None:
        super().__init__("bytes", [*(bytes([byte]) for byte in range(256)), None], eot=256)

    def encode_array(self, text: str) -> Ids:
        return np.frombuffer(to_bytes(text), dtype=np.uint8).astype(np.uint32)

    def _content(self) -> dict[str, Any]:
        return {}

    @classmethod
    def _from_content(cls, name: str, content: dict[str, Any]) -> "ByteTokenizer":
        return cls()


class CharTokenizer(Tokenizer):
    """One id per character of its own text, in Unicode order; the last is the end of text, if there is one."""

    kind = "chars"

    def __init__(self, characters: Iterable[str], *, has_eot: bool = True) -> None:
        self.characters = sorted(characters)
        table = [to_bytes(character) for character in self.characters]
        super().__init__("chars", [*table, None] if has_eot else table, eot=len(table))
        codes = np.array([ord(character) for character in self.characters], dtype=np.int64)
        self._id_of = np.full(int(codes.max(initial=0)) + 2, -1, dtype=np.int64)  # the last: any character beyond
        self._id_of[codes] = np.arange(len(codes))

    def encode_array(self, text: str) -> Ids:
        codes = np.frombuffer(mended(text).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        ids = self._id_of[np.minimum(codes, len(self._id_of) - 1)]
        if ids.size and ids.min() < 0:
            code = int(codes[ids < 0][0])
            raise TokenizerError(
                f"the character {chr(code)!r} (U+{code:04X}) is not in this vocabulary of {len(self.characters)}",
                "chars knows only the characters of the text it was made from; bytes, gpt2 and bpe-N know all",
            )
        return ids.astype(np.uint32)

    @property
    def opening(self) -> tuple[int, ...]:
        if self.has_eot or "\n" not in self.characters:
            return super().opening
        return (self.characters.index("\n"),)

    def _content(self) -> dict[str, Any]:
        return {"characters": self.characters} | ({} if self.has_eot else {"has_eot": False})

    @classmethod
    def _from_content(cls, name: str, content: dict[str, Any]) -> "CharTokenizer":
        return cls(content["characters"], has_eot=content.get("has_eot", True))


class BpeTokenizer(Tokenizer):
    """Byte pairs, encoded by tiktoken. Readable twin: `nudge.data.bpe_reference`."""

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
        # One call for many documents: tiktoken lets go of the interpreter's lock during a call, so that threads scale
        # only if calls are long (on short Korean reviews this is four times faster than a call for each).
        joined = EOT + EOT.join(texts)
        if joined.count(EOT) > len(texts) or max(map(len, texts)) > LONGEST_CHUNK:
            return super().encode_documents(texts)  # a text that spells the special token, or that has to be cut
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
        except UnicodeEncodeError:
            return np.array(self._encode_stray(text), dtype=np.uint32)

    def _encode_stray(self, text: str) -> list[int]:
        """Text with bytes that are not UTF-8: each of them is a token by itself."""
        ids: list[int] = []
        for at, part in enumerate(_STRAY.split(mended(text))):
            if at % 2:
                ids += [self._byte_ids[byte] for byte in part.encode("utf-8", "surrogateescape")]
            else:
                ids += self._encoding.encode_ordinary(part)
        return ids

    def _content(self) -> dict[str, Any]:
        return {
            "pattern": self.pattern,
            "special_tokens": self.special,
            "vocab_size": self.vocab_size,
            "tokens": [base64.b64encode(token).decode("ascii") for token in self.tokens],
        }

    @classmethod
    def _from_content(cls, name: str, content: dict[str, Any]) -> "BpeTokenizer":
        tokens = [base64.b64decode(token, validate=True) for token in content["tokens"]]
        special = {str(text): int(token) for text, token in content["special_tokens"].items()}
        return cls(name, tokens, pattern=content["pattern"], special=special, vocab_size=int(content["vocab_size"]))


_KINDS: dict[str, type[Tokenizer]] = {kind.kind: kind for kind in (ByteTokenizer, CharTokenizer, BpeTokenizer)}


def get(spec: str) -> Tokenizer:
    """`bytes`, `gpt2`, `cl100k`, or the tokenizer in a file: our tokenizer.json, a .tiktoken file, GPT-2's vocab.bpe.

    Raises: TokenizerError for an unknown name or file; MachineError if gpt2 or cl100k cannot be found.
    """
    if spec == "bytes":
        return ByteTokenizer()
    if spec in ("gpt2", "cl100k"):
        return _published(spec, published_vocab.find(spec))
    if trained_size(spec) is not None or spec == "chars":
        raise TokenizerError(
            f"the vocabulary {spec} is made from text, and there is none here",
            "nudge tokenizer train TEXT --vocab-size N --out tokenizer.json, then --tokenizer tokenizer.json",
        )
    with contextlib.suppress(RuntimeError):  # the ~name of nobody is no file, which is told below
        spec = str(Path(spec).expanduser())
    path = Path(spec)
    if path.exists():
        return load(path)
    if path.suffix or len(path.parts) > 1:
        raise TokenizerError(f"there is no tokenizer file {spec}", f"check the path, or use one of {', '.join(NAMES)}")
    raise TokenizerError(f"unknown tokenizer '{spec}'", nearest(spec, NAMES))


def trained_size(spec: str) -> int | None:
    """4096 for `bpe-4096`; None if it is not such a name."""
    match = re.fullmatch(r"bpe-(\d+)", spec)
    return int(match[1]) if match else None


def load(path: Path) -> Tokenizer:
    """The tokenizer in a file. Raises: TokenizerError if it is missing, damaged or of an unknown kind."""
    path = path / "tokenizer.json" if path.is_dir() else path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"cannot read the tokenizer {path}: {error.strerror}", "check the path") from error
    if published := published_vocab.recognise(data):
        return _published(published.vocabulary, published_vocab.parse(data, published))
    return _parse(data, path)


def _parse(data: bytes, path: Path) -> Tokenizer:
    try:
        value = json.loads(data)
        known = isinstance(value, dict) and value.get("format") == FORMAT
    except ValueError:
        known = False
    if not known:
        raise TokenizerError(
            f"{path} is neither a tokenizer.json of nudge nor a published vocabulary file (known by its SHA-256)",
            "GPT-2's is vocab.bpe or gpt2.tiktoken, cl100k's cl100k_base.tiktoken; for your own: nudge tokenizer train",
        )
    try:
        tokenizer = _KINDS[value["kind"]]._from_content(str(value["name"]), value)
        intact = tokenizer.sha256 == value["sha256"]
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        intact = False
    if not intact:
        raise TokenizerError(f"{path} is damaged: its content has not the SHA-256 it names", "restore it from a copy")
    return tokenizer


def _published(vocabulary: str, tokens: Sequence[bytes]) -> Tokenizer:
    if vocabulary == "gpt2":
        return BpeTokenizer("gpt2", tokens, pattern=GPT2_PATTERN, special={EOT: 50256})
    return BpeTokenizer("cl100k", tokens, pattern=CL100K_PATTERN, special=CL100K_SPECIAL)


def chars(texts: Iterable[str]) -> CharTokenizer:
    """A vocabulary of the characters that occur in `texts`."""
    seen: set[str] = set()
    for text in texts:
        seen.update(mended(text))
    return CharTokenizer(seen)


def train_bpe(texts: Iterable[str], vocab_size: int) -> BpeTokenizer:
    """A byte-pair vocabulary of `vocab_size` symbols, the last of them the end of text.

    Too little text gives fewer, which `vocab_size` and `name` of the result then say. Raises: TokenizerError below 257.
    """
    from nudge.data import bpe  # the library that trains is not needed to encode

    tokens = bpe.train_tokens(texts, vocab_size - 1)
    return BpeTokenizer(f"bpe-{len(tokens) + 1}", tokens, pattern=bpe.PATTERN, special={EOT: len(tokens)})


def to_bytes(text: str) -> bytes:
    """The bytes of a text: UTF-8, and the stray bytes that surrogateescape let through."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return mended(text).encode("utf-8", "surrogateescape")


def mended(text: str) -> str:
    """`text` with U+FFFD in place of halves of characters, which have no bytes at all."""
    return _LONE.sub("\ufffd", text) if _LONE.search(text) else text


def shown_token(tokenizer: Tokenizer, token: int) -> str:
    """One token of a network: its text by `shown`, the name of a special token, or <id 50259> if it has no text.

    The vocabulary of a network may be larger than its tokenizer's.
    """
    data = bytes_of(tokenizer, token)
    if data is not None:
        return shown(data)
    return next((name for name, special in tokenizer.special.items() if special == token), f"<id {token}>")


def bytes_of(tokenizer: Tokenizer, token: int) -> bytes | None:
    """The bytes of a token; None for one without text. A network may know more ids than its tokenizer."""
    return tokenizer.token_bytes(token) if token < tokenizer.vocab_size else None
