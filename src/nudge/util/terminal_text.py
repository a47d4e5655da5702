"""Text from a model, a file or an unknown source, made safe to print; and bars for a terminal.

Half a character, a space, a line break or a terminal command becomes a visible sign, so that it has no effect.
"""

import math
import re
import unicodedata

_SIGNS = {" ": "·", "\n": "⏎", "\t": "⇥"}
_CONTROLS = {chr(code): chr(0x2400 + code) for code in range(32)} | {"\x7f": "\u2421"}
EIGHTHS = " ▏▎▍▌▋▊▉"  # bars of 0 to 7 eighths of a cell
_STRAY = re.compile("([\udc80-\udcff]+)")  # bytes that are not UTF-8, as surrogateescape writes them


def visible_bytes(data: bytes) -> str:
    """Return a token's bytes as visible text: ·def, ⏎, 한.

    Write in hexadecimal, <EC 9D>: incomplete characters, invisible characters (zero-width, right-to-left marks,
    U+FFFD), and the characters ·, ⏎ and ⇥ themselves, so that a · always means a space.
    """
    text = data.decode("utf-8", "surrogateescape")
    base = "◌" if text and _joins(text[0]) else ""
    parts = _STRAY.split(text)  # text, stray bytes, text, ...
    return base + "".join(
        _hex_in_brackets(part.encode("utf-8", "surrogateescape")) if at % 2 else "".join(map(_make_visible, part))
        for at, part in enumerate(parts)
    )


def _joins(character: str) -> bool:
    """Return whether the character joins the one before it: an accent, a vowel or a last consonant of Hangul's."""
    return unicodedata.combining(character) > 0 or "\u1160" <= character <= "\u11ff"


def make_readable(text: str) -> str:
    """Return text with visible signs in place of invisible characters and control characters.

    A model may write any character: one that reverses the writing direction, a terminal command, half a character.
    """
    return "".join(character if is_plain(character) else _make_visible(character) for character in text)


def one_line(text: str) -> str:
    """Return readable text as one line: a name with a line break in it must not look like two."""
    return make_readable(text).replace("\n", _SIGNS["\n"]).replace("\t", _SIGNS["\t"])


def is_plain(character: str) -> bool:
    """Return whether `make_readable` leaves a character unchanged."""
    return character in "\n\t" or character.isprintable() or unicodedata.category(character) == "Zs"


def _make_visible(character: str) -> str:
    """Return the sign of a white-space or control character, hexadecimal for other invisible ones, or the character."""
    if sign := _SIGNS.get(character) or _CONTROLS.get(character):
        return sign
    if character in _SIGNS.values() or character == "\ufffd" or not character.isprintable():
        return _hex_in_brackets(character.encode("utf-8", "surrogatepass"))
    return character


def _hex_in_brackets(data: bytes) -> str:
    return f"<{hex_of(data)}>"


def hex_of(data: bytes) -> str:
    """Return bytes as hexadecimal: EC 9D"""
    return data.hex(" ").upper()


def bar(share: float, cells: int) -> str:
    """Return a bar that fills a share of `cells`, to an eighth of a cell; any share above 0 is visible."""
    eighths = round(8 * cells * min(max(share, 0.0), 1.0)) if math.isfinite(share) else 0
    eighths = max(eighths, share > 0)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
