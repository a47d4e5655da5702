"""`nudge sheet`: a page of pen notes, of the lecture or of a run."""

import locale
import os
from pathlib import Path

import click

from nudge.errors import MachineError, SheetError
from nudge.sheet.catalog import FORMATS, NAMES, Format, draw, text_of
from nudge.sheet.page import LANGUAGES, Language


@click.command()
@click.argument("what", metavar="gpt2|internals|io|parameters|run|FILE.md")
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--lang", type=click.Choice(LANGUAGES), help="Of the notes. [default: your system's, else en]")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="md: the sheet's own source, to change and draw again. [default: as --out ends, else pdf]",
)
@click.option("--font", type=click.Path(path_type=Path), metavar="FILE", help="The pen. [default: Nanum Pen Script]")
@click.option("--out", type=click.Path(path_type=Path), metavar="PATH", help="[default: WHAT.pdf, here]")
def sheet(
    what: str, run: Path | None, lang: Language | None, form: Format | None, font: Path | None, out: Path | None
) -> None:
    """Draw a cheat sheet: one A4 page of pen notes.

    WHAT is one of the lecture's sheets, 'run' for a page of a run's own numbers (RUN is its folder; left out, the
    newest under runs/), or a markdown file of your own. If a text does not fit its page, nothing is written.

    \b
    Example:
      nudge sheet gpt2                            training and inference of GPT-2
      nudge sheet run runs/tiny --out tiny.png    a run of yours
      nudge sheet io --format md                  io.md, the source of a sheet: change it, then
      nudge sheet io.md                           draw it
    """
    if what not in NAMES and lang:
        raise SheetError("a file says its language itself", "write 'language: ko' between its first '---' lines")
    if what != "run" and run is not None:
        raise SheetError(f"'{run}' is one too many", f"nudge sheet run {run}, or nudge sheet {what}")
    form = form or _form_of(out)
    out = out or Path(f"{Path(what).stem}.{form}")
    page = draw(text_of(what, run=run, language=lang or _language(), font=font), form, name=what, font=font)
    _save(out, page)
    click.echo(f"{out}  {len(page) / 1024:,.0f} KiB")


def _save(out: Path, page: bytes) -> None:
    """Raises: SheetError instead of writing over a text that a person may have changed; MachineError if it cannot."""
    from nudge.util import files

    try:
        if out.suffix == ".md" and out.exists() and out.read_bytes() != page:
            raise SheetError(f"{out} is there already, and may hold changes of yours", "choose another --out")
        with files.atomic_writer(out) as file:
            file.write(page)
    except OSError as error:
        raise MachineError(f"cannot write {out}: {error.strerror}", "choose another --out") from error


def _form_of(out: Path | None) -> Format:
    """The format that a file's name asks for. Raises: SheetError for one that there is not."""
    ending = out.suffix.removeprefix(".").lower() if out else "pdf"
    for form in FORMATS:
        if form == ending:
            return form
    raise SheetError(f"{out} does not end with a format", "end it with .pdf, .png, .svg or .md, or say --format")


def _language() -> Language:
    said = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), None) or locale.getlocale()[0]
    return "ko" if (said or "").lower().startswith("ko") else "en"
