"""`nudge runs`: the runs in a folder as a table."""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nudge.cli.prompts import FilePath
from nudge.cli.terminal import echo, echo_json
from nudge.runs.listing import RunLine, list_runs

if TYPE_CHECKING:
    from nudge.cli.output import Text


@click.command()
@click.argument("folder", type=FilePath(path_type=Path), default=Path("runs"), metavar="[FOLDER]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def runs(folder: Path, as_json: bool) -> None:
    """List the runs here.

    FOLDER holds the runs [default: runs]. The newest comes first: it is the default SOURCE of other commands. A run is
    running, finished, interrupted ('nudge resume' continues it) or diverged. Imported models are listed too.

    \b
    Example:
      nudge runs
      nudge runs --json
    """
    lines = list_runs(folder)
    if as_json:
        echo_json([dataclasses.asdict(line) for line in lines], indent=2)
    elif lines:
        _show(lines)
    else:
        echo(f"no runs in {folder} yet: 'nudge train' makes the first one")


def _show(lines: list[RunLine]) -> None:
    from nudge.cli.output import make_console, make_fitting_table

    console = make_console(wide=True)
    columns = ("run", "recipe", ">updates", ">train loss", ">val loss", ">size", "last written", "state")
    expendable = ("size", "recipe", "last written", "train loss", "updates", "val loss")
    console.print(make_fitting_table(console, columns, map(_row, lines), wraps="run", expendable=expendable, margin=0))


def _row(line: RunLine) -> list["str | Text"]:
    from nudge.cli.output import Text

    colors = {"running": "dark_orange", "finished": "green", "interrupted": "yellow", "imported": "blue"}
    return [
        line.run,
        line.recipe or "",
        "" if line.steps is None else f"{line.step:,}/{line.steps:,}",
        "" if line.train_loss is None else f"{line.train_loss:.3f}",
        "" if line.val_loss is None else f"{line.val_loss:.3f}",
        f"{line.n_bytes / 1e6:,.0f} MB",
        time.strftime("%Y-%m-%d %H:%M", time.localtime(line.time)),
        Text(line.state, style=colors.get(line.state, "red")),
    ]
