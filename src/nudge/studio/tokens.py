"""Tokens as readable text: one by itself, and a sequence as whole characters and whole words.

A byte-level vocabulary may cut a character into several tokens: in GPT-2's, most Korean syllables are two or three. One
of them alone has no text; together they are a syllable.
"""

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Literal

from nudge.data.tokenizer import Tokenizer, bytes_of
from nudge.errors import TokenizerError
from nudge.util.terminal_text import hex_of, visible_bytes

Kind = Literal["text", "special", "empty", "part", "bytes"]
Words = Callable[..., str]
_LONGEST = 4  # bytes of a character


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A token in readable form.

    Kinds: `text`; `special`, whose label is its name; `empty`, an id without text; `part` of a character that its
    neighbors complete; `bytes` that are not text. `hex` is its bytes, such as "EB 8A".
    """

    label: str
    kind: Kind
    id: int
    hex: str

    @property
    def title(self) -> str:
        """Return the id and the bytes."""
        return f"{self.id} · {self.hex}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Neighboring tokens that make whole characters: the tokens from position `first` on.

    In `text`, a byte that belongs to no character is written <EB>. It is "" for a token without text.
    """

    text: str
    tokens: tuple[int, ...]
    first: int

    @property
    def after(self) -> int:
        """Return the position after the last token."""
        return self.first + len(self.tokens)


def show(tokenizer: Tokenizer, token: int, words: Words) -> Shown:
    """Return one token by itself; a part of a character as its bytes."""
    data = bytes_of(tokenizer, token)
    if not data:
        return _without_text(tokenizer, token, words)
    kind: Kind = "bytes" if any(map(_is_stray, data.decode("utf-8", "surrogateescape"))) else "text"
    return Shown(label=visible_bytes(data), kind=kind, id=token, hex=hex_of(data))


def show_each(tokenizer: Tokenizer, ids: Sequence[int], words: Words) -> tuple[Shown, ...]:
    """Return the tokens of a sequence; a part of a character as the character and its bytes, 늘 1–2 of 3."""
    return tuple(
        _part(tokenizer, group, at, words) if len(group.tokens) > 1 else show(tokenizer, group.tokens[0], words)
        for group in groups(tokenizer, ids)
        for at in range(len(group.tokens))
    )


def groups(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[Group, ...]:
    """Cut a sequence into the shortest groups of whole characters. A token without text is always by itself."""
    cut: list[Group] = []
    for has_text, run in groupby(ids, key=lambda token: bool(bytes_of(tokenizer, token))):
        first = cut[-1].after if cut else 0
        if has_text:
            cut += _whole_characters(tokenizer, tuple(run), first)
        else:
            cut += [Group(text="", tokens=(token,), first=first + at) for at, token in enumerate(run)]
    return tuple(cut)


def words_of(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[Group, ...]:
    """Cut a sequence into whole words, each with the space before it. A token without text is always by itself."""
    folded: list[Group] = []
    for group in groups(tokenizer, ids):
        word = folded[-1].text if folded else ""
        begins = not word or not group.text or (group.text[0].isspace() and not word.isspace())
        if begins:
            folded.append(group)
        else:
            folded[-1] = Group(text=word + group.text, tokens=folded[-1].tokens + group.tokens, first=folded[-1].first)
    return tuple(folded)


def n_unfinished(tokenizer: Tokenizer, ids: Sequence[int]) -> int:
    """Return how many of the last tokens may be the start of a character: a stream waits for the rest of it."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in ids[-_LONGEST:]:
        data = bytes_of(tokenizer, token)
        decoder.decode(data or b"", final=not data)
    n_waiting = len(decoder.getstate()[0])
    for n in range(_LONGEST):
        if n_waiting <= 0:
            return n
        n_waiting -= len(bytes_of(tokenizer, ids[-1 - n]) or b"")
    return _LONGEST


def matching_tokens(tokenizer: Tokenizer, wanted: str, size: int) -> tuple[list[int], list[int]]:
    """Return the tokens below `size` that a text may mean: exact matches, and those that contain it, in any order.

    `#3962` is an id, `·the` has a space before it. An exact match is the text as one token, also after a space.
    """
    if wanted.startswith("#") and wanted[1:].isdecimal():
        return [token for token in (int(wanted[1:]),) if token < size], []
    plain = wanted.replace("·", " ").replace("⏎", "\n").replace("⇥", "\t")
    forms = [encode_or_empty(tokenizer, form) for form in (plain, f" {plain}")]
    exact = [ids[0] for ids in forms if len(ids) == 1 and ids[0] < size]
    part = plain.encode("utf-8", "ignore")
    known = range(min(size, tokenizer.vocab_size)) if part else range(0)
    return exact, [token for token in known if part in (tokenizer.token_bytes(token) or b"")]


def encode_or_empty(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the tokens of a text; an empty list if the vocabulary cannot encode it."""
    try:
        return tokenizer.encode(text)
    except TokenizerError:  # a vocabulary of characters that lacks one
        return []


def _whole_characters(tokenizer: Tokenizer, ids: tuple[int, ...], first: int) -> Iterator[Group]:
    """Yield the groups of tokens that all have text."""
    pieces = [bytes_of(tokenizer, token) or b"" for token in ids]
    ends = set(accumulate(len(data) for _, data in _characters(b"".join(pieces))))
    begin = 0
    for at, end in enumerate(accumulate(map(len, pieces)), start=1):
        if end in ends:
            characters = _characters(b"".join(pieces[begin:at]))
            text = "".join(visible_bytes(data) if _is_stray(character) else character for character, data in characters)
            yield Group(text=text, tokens=ids[begin:at], first=first + begin)
            begin = at


def _characters(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield each character and its bytes, and each byte that is part of no character."""
    for character in data.decode("utf-8", "surrogateescape"):
        yield character, character.encode("utf-8", "surrogateescape")


def _part(tokenizer: Tokenizer, group: Group, at: int, words: Words) -> Shown:
    """Return token `at` of a group whose tokens share a character."""
    pieces = [bytes_of(tokenizer, token) or b"" for token in group.tokens]
    begin = sum(map(len, pieces[:at]))
    end = begin + len(pieces[at])
    label, position = "", 0
    for _, data in _characters(b"".join(pieces)):
        low, high = max(begin, position) - position, min(end, position + len(data)) - position
        if high - low == len(data):
            label += visible_bytes(data)
        elif high > low:
            which = str(high) if high - low == 1 else f"{low + 1}–{high}"
            label += words("tokens.part", text=visible_bytes(data), which=which, n=len(data))
        position += len(data)
    return Shown(label=label, kind="part", id=group.tokens[at], hex=hex_of(pieces[at]))


def _without_text(tokenizer: Tokenizer, token: int, words: Words) -> Shown:
    name = next((name for name, special in tokenizer.special.items() if special == token), None)
    kind: Kind = "special"
    if token == tokenizer.eot:
        label = words("tokens.end_of_text")
    elif name is not None:
        label = f"⟨{name.strip('<|>')}⟩"
    else:
        label, kind = words("tokens.empty"), "empty"
    return Shown(label=label, kind=kind, id=token, hex="")


def _is_stray(character: str) -> bool:
    """Return whether a character is a byte that is not UTF-8, as surrogateescape writes it."""
    return "\udc80" <= character <= "\udcff"
