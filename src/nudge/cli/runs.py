"""`nudge runs`: the runs of a folder, as a table."""

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from nudge.errors import NudgeError, RunError

if TYPE_CHECKING:
    from nudge.checkpoint import RunFolder
    from nudge.train.summary import Summary

State = Literal["running", "finished", "interrupted", "diverged", "imported", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One run. Losses in nats per token; None: not measured, or not trained here."""

    run: str
    recipe: str | None
    step: int
    steps: int | None
    train_loss: float | None
    val_loss: float | None
    time: float  # when it was last written to, in seconds since 1970
    n_bytes: int
    state: State


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
    from nudge.checkpoint import RunFolder, run_folders

    lines = [describe(RunFolder(path)) for path in run_folders(folder)]
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(line) for line in lines], indent=2))
    elif lines:
        _show(lines)
    else:
        click.echo(f"no runs in {folder} yet: 'nudge train' makes the first one")


def describe(folder: "RunFolder") -> Line:
    """What a run folder says of itself."""
    from nudge import events, files
    from nudge.train.summary import summarize

    summary = summarize(events.read(folder.events))
    on_disk = [path.lstat() for path in folder.path.rglob("*") if path.is_file() and path.name != ".lock"]
    try:
        recipe = files.read_json(folder.run_json)["config"]["recipe"] if folder.run_json.exists() else None
        state = _state(folder, summary)
    except (NudgeError, KeyError, TypeError):
        recipe, state = None, "unreadable"
    return Line(
        run=str(folder.path),
        recipe=recipe,
        step=summary.steps,
        steps=summary.started.steps if summary.started else None,
        train_loss=summary.last_loss,
        val_loss=summary.last_evaluation.loss if summary.last_evaluation else None,
        time=max(stat.st_mtime for stat in on_disk),
        n_bytes=sum(stat.st_size for stat in on_disk),
        state=state,
    )


def _state(folder: "RunFolder", summary: "Summary") -> State:
    started, stopped = summary.started, summary.stopped
    if not folder.run_json.exists():
        return "imported"
    if _in_use(folder):
        return "running"
    if stopped and stopped.reason == "diverged" and stopped.step >= summary.steps:
        return "diverged"
    return "finished" if started and summary.steps >= started.steps else "interrupted"


def _in_use(folder: "RunFolder") -> bool:
    """A process that trains holds the folder's lock; the operating system lets go of it however the process ends."""
    try:
        with folder.lock():
            return False
    except RunError:
        return True
    except OSError:  # not ours to write in, so nobody trains here either
        return False


def _show(lines: list[Line]) -> None:
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
