"""The pen: Nanum Pen Script (SIL Open Font License), found among the system's fonts or given as a file."""

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

from nudge.errors import SheetError

if TYPE_CHECKING:
    import typst

GET_ONE = (
    "Debian, Ubuntu: sudo apt-get install fonts-nanum-extra; macOS: brew install --cask font-nanum-pen-script; "
    "Windows: install it from https://fonts.google.com/specimen/Nanum+Pen+Script; or name a file: --font FILE.ttf"
)
FOLDERS = {
    "darwin": ("~/Library/Fonts", "/Library/Fonts", "/System/Library/Fonts"),
    "win32": (r"%LOCALAPPDATA%\Microsoft\Windows\Fonts", r"%WINDIR%\Fonts"),
}
ELSEWHERE = ("~/.local/share/fonts", "~/.fonts", "/usr/local/share/fonts", "/usr/share/fonts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Font:
    """A font file, its family as Typst calls it, and the characters it can draw."""

    path: Path
    family: str
    characters: frozenset[int]

    def lacks(self, text: str) -> str:
        """The characters of `text` that it cannot draw, each once."""
        return "".join(dict.fromkeys(one for one in text if ord(one) not in self.characters and not one.isspace()))


def find(given: Path | None = None) -> Font:
    """The font to write with. Raises: SheetError if there is none, or the file given is no font."""
    return _read(look() if given is None else given)


def look() -> Path:
    """The file of the pen font among the system's. Raises: SheetError if there is none."""
    for folder in FOLDERS.get(sys.platform, ELSEWHERE):
        root = Path(os.path.expandvars(folder)).expanduser()
        found = sorted(path for path in root.rglob("*.[to]tf") if path.name.lower().startswith("nanumpen"))
        if found:
            return found[0]
    raise SheetError("the pen font, Nanum Pen Script, is not on this system", GET_ONE)


@cache
def _read(path: Path) -> Font:
    from fontTools.ttLib import TTFont

    try:
        with path.open("rb") as file, TTFont(file, lazy=True) as font:
            characters = frozenset(font.getBestCmap() or ())
    except FileNotFoundError:
        raise SheetError(f"there is no font file {path}", "name a .ttf or .otf file") from None
    except Exception as error:  # of damaged bytes, fontTools raises whatever they lead to
        reason = str(error) or type(error).__name__
        raise SheetError(f"{path} cannot be read as a font: {reason}", "name a .ttf or .otf file") from error
    with loaded(path) as fonts:
        # Not the file's own name: Typst takes 'Narrow' for a style. A page that asks for another family has no letter.
        families = fonts.families()
    if not families or not characters:
        raise SheetError(f"{path} has no family or no characters", "name another .ttf or .otf file")
    return Font(path=path, family=families[0], characters=characters)


@contextmanager
def loaded(path: Path) -> Iterator["typst.Fonts"]:
    """This font alone, as Typst takes fonts, which is by the folder; it reads the file when it needs it."""
    import typst

    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, folder)
        yield typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[folder])
