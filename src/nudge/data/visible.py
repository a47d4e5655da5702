"""A token as a person can read it. Half a character, a space, a line break: each must be seen, none obeyed."""

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nudge.data.tokenizer import Tokenizer

_SIGNS = {" ": "·", "\n": "⏎", "\t": "⇥"}
_CONTROLS = {chr(code): chr(0x2400 + code) for code in range(32)} | {"\x7f": "\u2421"}
_STRAY = re.compile("([\udc80-\udcff]+)")  # bytes that are not UTF-8, as surrogateescape writes them


def shown(data: bytes) -> str:
    """The bytes of a token as text: ·def, ⏎, 한; bytes that make no whole character as hexadecimal, <EC 9D>.

    So are characters that cannot be seen (zero-width, right-to-left marks, U+FFFD), and the signs for spaces
    themselves: what is shown as · was a space.
    """
    text = data.decode("utf-8", "surrogateescape")
    base = "◌" if text and unicodedata.combining(text[0]) else ""  # an accent needs something to stand on
    parts = _STRAY.split(text)  # text, stray bytes, text, ...
    return base + "".join(
        _hex(part.encode("utf-8", "surrogateescape")) if at % 2 else "".join(map(_seen, part))
        for at, part in enumerate(parts)
    )


def shown_token(tokenizer: "Tokenizer", token: int) -> str:
    """One token of a network: its text by `shown`, the name of a special token, or <id 50259> if it has no text.

    The vocabulary of a network may be larger than its tokenizer's.
    """
    data = tokenizer.token_bytes(token) if token < tokenizer.vocab_size else None
    if data is not None:
        return shown(data)
    return next((name for name, special in tokenizer.special.items() if special == token), f"<id {token}>")


def readable(text: str) -> str:
    """Whole text as it is, but for characters that are obeyed or cannot be seen, which are shown.

    What a model writes may hold any character: one that turns the direction of writing, a terminal's commands, half a
    character.
    """
    return "".join(character if _is_plain(character) else _seen(character) for character in text)


def _is_plain(character: str) -> bool:
    return character in "\n\t" or character.isprintable() or unicodedata.category(character) == "Zs"


def _seen(character: str) -> str:
    if sign := _SIGNS.get(character) or _CONTROLS.get(character):
        return sign
    if character in _SIGNS.values() or character == "\ufffd" or not character.isprintable():
        return _hex(character.encode("utf-8", "surrogatepass"))
    return character


def _hex(data: bytes) -> str:
    return f"<{data.hex(' ').upper()}>"
