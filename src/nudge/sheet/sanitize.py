"""Text that a model or a person wrote, as text of a sheet: what looks like markup in it means nothing."""

import itertools
import json
import re
import unicodedata
from collections.abc import Callable

from nudge.sheet.inline import escaped

LACKING = "□"  # stands for a character that the pen cannot draw
NEWLINES = ("↲", "¶", "/")  # the first that it can

_KNOWN_SIGNS = frozenset("·•→×□「」↲¶…≈≤≥÷–—")


def is_plain(character: str) -> bool:
    """Whether any font for Korean notes has this character: ASCII, Hangul syllables and a few signs."""
    return " " <= character <= "~" or "가" <= character <= "힣" or character in _KNOWN_SIGNS


class Pen:
    """Writes foreign text with the characters that a font has."""

    def __init__(self, drawable: Callable[[str], bool]) -> None:
        self.drawable = drawable
        self.newline = next((sign for sign in NEWLINES if drawable(sign)), " ")

    def plain(self, text: str, most: int | None = None) -> str:
        """One line of characters that can be drawn, of at most so many cells."""
        lines = " ".join(text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", f" {self.newline} ").split())
        drawn = "".join(self._drawn(one) for one in unicodedata.normalize("NFC", lines))
        return drawn if most is None else _cut(drawn, most)

    def _drawn(self, character: str) -> str:
        return character if character.isprintable() and self.drawable(character) else LACKING

    def text(self, text: str, most: int | None = None) -> str:
        """The same, with every sign of markdown escaped."""
        return escaped(self.plain(text, most))

    def code(self, text: str) -> str:
        """The same as code; a longer row of backticks around it than any in it."""
        text = self.plain(text)
        ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
        return f"{ticks}{text}{ticks}" if len(ticks) == 1 else f"{ticks} {text} {ticks}"

    def quoted(self, text: str, most: int | None = None) -> str:
        """The same inside double quotes of YAML."""
        return json.dumps(self.plain(text, most), ensure_ascii=False)[1:-1]


def cells(text: str) -> int:
    """The width in cells of a terminal: a Hangul syllable takes two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _cut(text: str, most: int) -> str:
    """The beginning of a text of at most so many cells; `…` says that there was more."""
    widths = itertools.accumulate(map(cells, text))
    fitting = sum(width <= most for width in widths)
    return text if fitting == len(text) else text[:fitting].rstrip() + "…"
