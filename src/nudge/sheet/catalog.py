"""All sheets by name: those of the lecture, of a run, of a file. First the Markdown, then the page drawn from it."""

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
    """Return the Markdown of a sheet: one of `NAMES` in that language, or a file, which sets its own language.

    Text that a run's model wrote is limited to the characters of the font.

    Raises: SheetError for an unknown name, a file that cannot be read, or a run that has nothing to show yet;
    MachineError if the extra `sheet` is not installed.
    """
    if what == "run":
        with _libraries():
            from nudge.sheet.run_sheet import of_run

            return of_run(run or _newest_trained(), language, _drawable(font))
    if what in LECTURE:
        from nudge.sheet.lecture import written

        return written(what, language)
    path = Path(what)
    try:
        return path.read_text("utf-8")
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
    """Return the newest run that was trained here, since an imported model has nothing to draw."""
    trained = (path for path in run_folders() if RunFolder(path).run_json.exists())
    return next(trained, None) or newest_run()


def _drawable(font: Path | None) -> Callable[[str], bool]:
    """Return a function that tells whether the font, or without a font any likely one, has a character."""
    from nudge.sheet import fonts
    from nudge.sheet.sanitize import is_plain

    try:
        characters = fonts.find(font).characters
    except SheetError:  # drawing the sheet will report it
        return is_plain
    return lambda character: ord(character) in characters


@contextmanager
def _libraries() -> Iterator[None]:
    """Raise MachineError, with the package to install, if one of the libraries for sheets is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in LIBRARIES:
            raise
        raise MachineError("no_sheet_library", library=error.name) from error
