"""All sheets by name (the lecture's, a run's, or a file): their Markdown, and the drawn page."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from nudge.errors import MachineError, SheetError, did_you_mean
from nudge.runs.folder import RunFolder, newest_run, run_folders
from nudge.sheet.page import Language

LECTURE = ("gpt2", "internals", "io", "parameters")
NAMES = (*LECTURE, "run")
Format = Literal["pdf", "png", "svg", "md"]
FORMATS: tuple[Format, ...] = get_args(Format)
LIBRARIES = ("typst", "markdown_it", "mdit_py_plugins", "yaml", "fontTools")


def text_of(what: str, *, run: Path | None = None, language: Language = "en", font: Path | None = None) -> str:
    """Return the Markdown of a sheet: one of `NAMES` in that language, or a file, which sets its language itself.

    Text from a run's model is limited to the characters of the font.

    Raises: SheetError for an unknown name, an unreadable file, or a run that has nothing to show yet; MachineError if
    the extra `sheet` is not installed.
    """
    if what == "run":
        with _libraries():
            from nudge.sheet.run_sheet import run_sheet_text

            return run_sheet_text(run or _newest_trained(), language, _can_draw(font))
    if what in LECTURE:
        from nudge.sheet.lecture import filled_text

        return filled_text(what, language)
    path = Path(what)
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError) and path.suffix != ".md":
            raise SheetError("unknown", name=what, closest=did_you_mean(what, NAMES)) from None
        if isinstance(error, UnicodeDecodeError):
            raise SheetError("not_utf8", path=path) from error
        raise SheetError("unreadable", path=path, error=error.strerror) from error


def draw(text: str, form: Format = "pdf", *, name: str = "sheet", font: Path | None = None) -> bytes:
    """Draw the Markdown of a sheet as pdf, png or svg; `md` returns the Markdown itself after checking it.

    Raises: SheetError as `source.read` and `render.render` do; MachineError if the extra `sheet` is not installed.
    """
    with _libraries():
        from nudge.sheet.render import render
        from nudge.sheet.source import read

        sheet = read(text, name=name)
        return text.encode() if form == "md" else render(sheet, form, font=font).data


def _newest_trained() -> Path:
    """Return the newest run that was trained here, because an imported model has nothing to draw."""
    trained = (path for path in run_folders() if RunFolder(path).run_json.exists())
    return next(trained, None) or newest_run()


def _can_draw(font: Path | None) -> Callable[[str], bool]:
    """Return a function that checks whether the font has a character; without a font, whether any font should."""
    from nudge.sheet import fonts
    from nudge.sheet.sanitize import is_plain

    try:
        characters = fonts.find(font).characters
    except SheetError:  # drawing the sheet will report it
        return is_plain
    return lambda character: ord(character) in characters


@contextmanager
def _libraries() -> Iterator[None]:
    """Turn the error of a missing library for sheets into a MachineError with the package to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in LIBRARIES:
            raise
        raise MachineError("no_sheet_library", library=error.name) from error
