"""`nudge runs`: the runs of a folder, as a table."""

import dataclasses
import json
import time
from pathlib import Path

import click

from nudge.runs.listing import RunLine, list_runs


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"), metavar="[FOLDER]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def runs(folder: Path, as_json: bool) -> None:
    """List the runs here.

    FOLDER holds the runs [default: runs]. The newest comes first: it is the SOURCE that other commands take when none
    is given. A run is running, finished, interrupted (go on with 'nudge resume') or diverged; imported models stand
    beside them.

    \b
    Example:
      nudge runs
      nudge runs --json
    """
    lines = list_runs(folder)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(line) for line in lines], indent=2))
    elif lines:
        _show(lines)
    else:
        click.echo(f"no runs in {folder} yet: 'nudge train' makes the first one")


def _show(lines: list[RunLine]) -> None:
    from rich.table import Table
    from rich.text import Text

    from nudge.cli.live import make_console

    colors = {"running": "dark_orange", "finished": "green", "interrupted": "yellow", "imported": "blue"}
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("run", overflow="fold")
    table.add_column("recipe", no_wrap=True)
    for name in ("updates", "train loss", "val loss", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("last written", "state"):
        table.add_column(name, no_wrap=True)
    for line in lines:
        table.add_row(
            Text(line.run),
            line.recipe or "",
            "" if line.steps is None else f"{line.step:,}/{line.steps:,}",
            "" if line.train_loss is None else f"{line.train_loss:.3f}",
            "" if line.val_loss is None else f"{line.val_loss:.3f}",
            f"{line.n_bytes / 1e6:,.0f} MB",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(line.time)),
            Text(line.state, style=colors.get(line.state, "red")),
        )
    console = make_console()
    if not console.is_terminal:
        console.width = 1000  # as wide as it needs: nothing is cut for a program that reads it
    console.print(table)
