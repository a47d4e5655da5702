"""`nudge sheet`: a page of pen notes about the lecture or about a run."""

from pathlib import Path

import click

from nudge.cli.prompts import FilePath, system_language
from nudge.cli.terminal import echo
from nudge.errors import MachineError, SheetError
from nudge.sheet.catalog import FORMATS, NAMES, Format, draw, text_of
from nudge.sheet.page import LANGUAGES, Language


@click.command()
@click.argument("what", type=FilePath(), metavar="gpt2|internals|io|parameters|run|FILE.md")
@click.argument("run", type=FilePath(path_type=Path), required=False)
@click.option("--lang", type=click.Choice(LANGUAGES), help="Language of the notes. [default: the system's, or en]")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="md: the sheet's source, to edit and draw again. [default: from the end of --out, or pdf]",
)
@click.option(
    "--font", type=FilePath(path_type=Path), metavar="FILE", help="The handwriting font. [default: Nanum Pen Script]"
)
@click.option("--out", type=FilePath(path_type=Path), metavar="PATH", help="The file to write. [default: WHAT.pdf]")
def sheet(
    what: str, run: Path | None, lang: Language | None, form: Format | None, font: Path | None, out: Path | None
) -> None:
    """Draw a cheat sheet: one A4 page of pen notes.

    WHAT is one of the lecture's sheets, 'run' for a page about a run (RUN is its folder, by default the newest under
    runs/), or a markdown file of your own. If the text does not fit the page, nothing is written.

    \b
    Example:
      nudge sheet gpt2                            training and inference of GPT-2
      nudge sheet run runs/tiny --out tiny.png    one of your runs
      nudge sheet io --format md                  write io.md, the source of a sheet; edit it, then
      nudge sheet io.md                           draw it
    """
    if what not in NAMES and lang:
        raise SheetError("language_of_file", file=what)
    if what != "run" and run is not None:
        raise SheetError("unexpected_run", run=run, what=what)
    form = form or _form_of(out)
    out = out or Path(f"{Path(what).stem}.{form}")
    page = draw(text_of(what, run=run, language=lang or system_language(), font=font), form, name=what, font=font)
    _save(out, page)
    echo(f"{out}  {len(page) / 1024:,.0f} KiB")


def _save(out: Path, page: bytes) -> None:
    """Write a page. Raises: SheetError if it would replace an edited text; MachineError if it cannot be written."""
    from nudge.util import files

    with files.writing(out, lambda error: MachineError("cannot_write_out", path=out, error=error)):
        if out.suffix == ".md" and out.exists() and out.read_bytes() != page:
            raise SheetError("would_overwrite", out=out)
        with files.atomic_writer(out) as file:
            file.write(page)


def _form_of(out: Path | None) -> Format:
    """Return the format that a file name ends with. Raises: SheetError for an unknown one."""
    ending = out.suffix.removeprefix(".").lower() if out else "pdf"
    for form in FORMATS:
        if form == ending:
            return form
    raise SheetError("unknown_ending", out=out)
