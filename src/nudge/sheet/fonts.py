"""The pen font: Nanum Pen Script (SIL Open Font License) from the system's fonts, or a given font file."""

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
UNIX_FOLDERS = ("~/.local/share/fonts", "~/.fonts", "/usr/local/share/fonts", "/usr/share/fonts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Font:
    """A font file, its family's name in Typst, and its characters."""

    path: Path
    family: str
    characters: frozenset[int]

    def missing_from(self, text: str) -> str:
        """Return the characters of `text` that the font lacks, each once."""
        return "".join(dict.fromkeys(one for one in text if ord(one) not in self.characters and not one.isspace()))


def find(given: Path | None = None) -> Font:
    """Return the given font, or else the system's pen font. Raises: SheetError if it is missing or damaged."""
    return _read(find_system_font() if given is None else given)


def find_system_font() -> Path:
    """Return the file of the system's pen font. Raises: SheetError if there is none."""
    for folder in FOLDERS.get(sys.platform, UNIX_FOLDERS):
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
    with typst_fonts(path) as fonts:
        # Typst's name of the family may differ from the file's: it reads 'Narrow' as a style. With a family name that
        # Typst does not know, a page has no letters.
        families = fonts.families()
    if not families or not characters:
        raise SheetError("empty_font", path=path)
    return Font(path=path, family=families[0], characters=characters)


@contextmanager
def typst_fonts(path: Path) -> Iterator["typst.Fonts"]:
    """Yield only this font as Typst's fonts, in a temporary folder from which Typst reads it later."""
    import typst

    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, folder)
        yield typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[folder])
