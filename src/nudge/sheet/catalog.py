"""Every sheet by its name: the lecture's, a run's, a file's. Markdown first, then the page it becomes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from nudge.errors import MachineError, SheetError, nearest
from nudge.runs.folder import RunFolder, newest_run, run_folders
from nudge.sheet.page import Language

LECTURE = ("gpt2", "internals", "io", "parameters")
NAMES = (*LECTURE, "run")
Format = Literal["pdf", "png", "svg", "md"]
FORMATS: tuple[Format, ...] = get_args(Format)
LIBRARIES = ("typst", "markdown_it", "mdit_py_plugins", "yaml", "fontTools")


def text_of(what: str, *, run: Path | None = None, language: Language = "en", font: Path | None = None) -> str:
    """The markdown of a sheet: one of `NAMES` in that language, or a file's, which says its own.

    What a run's model wrote is kept to the characters that the font has.

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
            hint = f"{nearest(what, NAMES)}, or a markdown file of your own"
            raise SheetError(f"there is no sheet '{what}'", hint) from None
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SheetError(f"{path} cannot be read: {reason}", "name a markdown file; see docs/sheets.md") from error


def draw(text: str, form: Format = "pdf", *, name: str = "sheet", font: Path | None = None) -> bytes:
    """The page of a sheet's markdown as pdf, png or svg; `md`: the markdown itself, once it is seen to be a sheet.

    Raises: SheetError as `source.read` and `render.render` do; MachineError if the extra `sheet` is not installed.
    """
    with _libraries():
        from nudge.sheet.render import render
        from nudge.sheet.source import read

        sheet = read(text, name=name)
        return text.encode() if form == "md" else render(sheet, form, font=font).data


def _newest_trained() -> Path:
    """The newest run that was trained here: of an imported model there is nothing to draw."""
    trained = (path for path in run_folders() if RunFolder(path).run_json.exists())
    return next(trained, None) or newest_run()


def _drawable(font: Path | None) -> Callable[[str], bool]:
    """Whether the font has a character; without a font, whether any pen would."""
    from nudge.sheet import fonts
    from nudge.sheet.sanitize import is_plain

    try:
        characters = fonts.find(font).characters
    except SheetError:  # drawing will say it
        return is_plain
    return lambda character: ord(character) in characters


@contextmanager
def _libraries() -> Iterator[None]:
    """Say what to install where one of the libraries that sheets need is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in LIBRARIES:
            raise
        raise MachineError(f"a sheet needs {error.name}, which is not here", "pip install 'nudge-lm[sheet]'") from error
