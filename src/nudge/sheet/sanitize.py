"""Text of models and users as text of a sheet, with its markup disabled."""

import itertools
import json
import re
import unicodedata
from collections.abc import Callable

from nudge.sheet.inline import escaped

LACKING = "□"  # replaces a character that the font does not have
NEWLINES = ("↲", "¶", "/")  # signs for a line break: the first that the font has is used

_KNOWN_SIGNS = frozenset("·•→×□「」↲¶…≈≤≥÷–—")


def is_plain(character: str) -> bool:
    """Return whether any font for Korean notes has the character: ASCII, Hangul syllables and a few signs."""
    return " " <= character <= "~" or "가" <= character <= "힣" or character in _KNOWN_SIGNS


class Pen:
    """A font's characters, and text limited to them."""

    def __init__(self, drawable: Callable[[str], bool]) -> None:
        self.drawable = drawable
        self.newline = next((sign for sign in NEWLINES if drawable(sign)), " ")

    def plain(self, text: str, most: int | None = None) -> str:
        """Return the text as one line of the font's characters, at most `most` cells wide."""
        lines = " ".join(text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", f" {self.newline} ").split())
        characters = unicodedata.normalize("NFC", lines)
        drawn = "".join(one if one.isprintable() and self.drawable(one) else LACKING for one in characters)
        return drawn if most is None else _cut(drawn, most)

    def text(self, text: str, most: int | None = None) -> str:
        """Return the same with the signs of Markdown escaped."""
        return escaped(self.plain(text, most))

    def code(self, text: str) -> str:
        """Return the same as code, between more backticks than stand together in it."""
        text = self.plain(text)
        ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
        return f"{ticks}{text}{ticks}" if len(ticks) == 1 else f"{ticks} {text} {ticks}"

    def quoted(self, text: str, most: int | None = None) -> str:
        """Return the same for use inside double quotes in YAML."""
        return json.dumps(self.plain(text, most), ensure_ascii=False)[1:-1]


def cells(text: str) -> int:
    """Return the width in cells of a terminal, where a Hangul syllable takes two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _cut(text: str, most: int) -> str:
    """Return the text, cut with `…` if it is wider than `most` cells."""
    widths = itertools.accumulate(map(cells, text))
    fitting = sum(width <= most for width in widths)
    return text if fitting == len(text) else text[:fitting].rstrip() + "…"
