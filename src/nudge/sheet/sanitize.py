"""Text from models and users as text on a sheet, without effect as markup."""

import itertools
import json
import re
import unicodedata
from collections.abc import Callable

from nudge.sheet.inline import escape

MISSING = "□"  # replaces a character that the font does not have
NEWLINES = ("↲", "¶", "/")  # signs for a line break: the first one in the font is used

_KNOWN_SIGNS = frozenset("·•→×□「」↲¶…≈≤≥÷–—")


def is_plain(character: str) -> bool:
    """Return whether every Korean font should have the character: ASCII, Hangul syllables and a few signs."""
    return " " <= character <= "~" or "가" <= character <= "힣" or character in _KNOWN_SIGNS


class Pen:
    """A writer of text that is limited to a font's characters."""

    def __init__(self, can_draw: Callable[[str], bool]) -> None:
        self.can_draw = can_draw
        self.newline = next((sign for sign in NEWLINES if can_draw(sign)), " ")

    def plain_text(self, text: str, most: int | None = None) -> str:
        """Return the text as one line of the font's characters, at most `most` cells wide."""
        lines = " ".join(text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", f" {self.newline} ").split())
        characters = unicodedata.normalize("NFC", lines)
        drawn = "".join(one if one.isprintable() and self.can_draw(one) else MISSING for one in characters)
        return drawn if most is None else _cut(drawn, most)

    def text(self, text: str, most: int | None = None) -> str:
        """Return the text as one line with Markdown's special characters escaped."""
        return escape(self.plain_text(text, most))

    def code(self, text: str) -> str:
        """Return the text as one line of Markdown code, between more backticks than it has in a row."""
        text = self.plain_text(text)
        ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
        return f"{ticks}{text}{ticks}" if len(ticks) == 1 else f"{ticks} {text} {ticks}"

    def yaml_text(self, text: str, most: int | None = None) -> str:
        """Return the text as one line for use inside double quotes in YAML."""
        return json.dumps(self.plain_text(text, most), ensure_ascii=False)[1:-1]


def cells(text: str) -> int:
    """Return the width in terminal cells; a Hangul syllable takes two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _cut(text: str, most: int) -> str:
    """Return the text, cut with `…` if it is wider than `most` cells."""
    widths = itertools.accumulate(map(cells, text))
    n_fitting = sum(width <= most for width in widths)
    return text if n_fitting == len(text) else text[:n_fitting].rstrip() + "…"
