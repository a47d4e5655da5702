"""The pen font: Nanum Pen Script (SIL Open Font License) from the system's fonts, or a given file."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from nudge.errors import SheetError, first_line

if TYPE_CHECKING:
    import typst

FOLDERS = {
    "darwin": ("~/Library/Fonts", "/Library/Fonts", "/System/Library/Fonts"),
    "win32": (r"%LOCALAPPDATA%\Microsoft\Windows\Fonts", r"%WINDIR%\Fonts"),
}
ELSEWHERE = ("~/.local/share/fonts", "~/.fonts", "/usr/local/share/fonts", "/usr/share/fonts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Font:
    """A font file, the name of its family in Typst, and the characters it has."""

    path: Path
    family: str
    characters: frozenset[int]

    def lacks(self, text: str) -> str:
        """Return the characters of `text` that the font does not have, each once."""
        return "".join(dict.fromkeys(one for one in text if ord(one) not in self.characters and not one.isspace()))


def find(given: Path | None = None) -> Font:
    """Return the font of a file, or the system's pen font. Raises: SheetError if it is missing or damaged."""
    return _read(look() if given is None else given)


def look() -> Path:
    """Return the file of the system's pen font. Raises: SheetError if there is none."""
    for folder in FOLDERS.get(sys.platform, ELSEWHERE):
        root = Path(os.path.expandvars(folder)).expanduser()
        found = sorted(path for path in root.rglob("*.[to]tf") if path.name.lower().startswith("nanumpen"))
        if found:
            return found[0]
    raise SheetError("no_pen")


@cache
def _read(path: Path) -> Font:
    from fontTools.ttLib import TTFont

    try:
        with path.open("rb") as file, TTFont(file, lazy=True) as font:
            characters = frozenset(font.getBestCmap() or ())
    except FileNotFoundError:
        raise SheetError("no_font_file", path=path) from None
    except Exception as error:  # fontTools raises exceptions of any class for damaged files
        raise SheetError("damaged_font", path=path, error=first_line(error)) from error
    with loaded(path) as fonts:
        # Typst may name the family differently than the file does: it reads 'Narrow' as a style. A page in a family
        # that Typst does not know has no letters.
        families = fonts.families()
    if not families or not characters:
        raise SheetError("empty_font", path=path)
    return Font(path=path, family=families[0], characters=characters)


@contextmanager
def loaded(path: Path) -> Iterator["typst.Fonts"]:
    """Yield this font alone, in the form that Typst takes: a folder, from which it reads when it needs the font."""
    import typst

    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, folder)
        yield typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[folder])
