"""Text that a model, a file or a stranger wrote, as text that is safe to show; and shares as bars of a terminal.

Half a character, a space, a line break, a terminal's command: each is shown, none is obeyed.
"""

import math
import re
import unicodedata

_SIGNS = {" ": "·", "\n": "⏎", "\t": "⇥"}
_CONTROLS = {chr(code): chr(0x2400 + code) for code in range(32)} | {"\x7f": "\u2421"}
EIGHTHS = " ▏▎▍▌▋▊▉"  # of a cell
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
    return f"<{hex_of(data)}>"


def hex_of(data: bytes) -> str:
    """Bytes as hexadecimal: EC 9D"""
    return data.hex(" ").upper()


def bar(share: float, cells: int) -> str:
    """A bar of so much of `cells`, to an eighth of a cell; anything above 0 can be seen."""
    eighths = round(8 * cells * min(max(share, 0.0), 1.0)) if math.isfinite(share) else 0
    eighths = max(eighths, share > 0)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
