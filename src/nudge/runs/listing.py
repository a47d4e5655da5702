"""The runs of a folder, one line each: progress, losses, and whether a process works on it. Does not import torch."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nudge import events
from nudge.errors import NudgeError
from nudge.events import Started, Stopped
from nudge.runs.folder import RunFolder, run_folders
from nudge.runs.summary import summarize

State = Literal["running", "finished", "interrupted", "diverged", "imported", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """A line of the `nudge runs` table. Losses are in nats per token; None: not measured, or not trained here."""

    run: str
    recipe: str | None
    step: int
    steps: int | None
    train_loss: float | None
    val_loss: float | None
    time: float  # when it was last written to, in seconds since 1970
    n_bytes: int
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class _ListedConfig:
    recipe: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """What the table shows of run.json. Reading more of it would slow down 'nudge runs'."""

    config: _ListedConfig


def list_runs(runs: Path = Path("runs")) -> list[RunLine]:
    """Describe all runs under `runs/`, the most recently written first."""
    return [describe(RunFolder(path)) for path in run_folders(runs)]


def describe(folder: RunFolder) -> RunLine:
    """Return a run folder's line in the `nudge runs` table."""
    summary, recipe = summarize([]), None
    state: State = "unreadable"
    with contextlib.suppress(NudgeError):
        summary = summarize(events.read(folder.events))
        recipe = folder.read_json(_Listed).config.recipe if folder.run_json.exists() else None
        state = state_of(folder, summary.steps, summary.started, summary.stopped)
    written_s, n_bytes = _disk_usage(folder.path)
    return RunLine(
        run=str(folder.path),
        recipe=recipe,
        step=summary.steps,
        steps=summary.started.steps if summary.started else None,
        train_loss=summary.last_loss,
        val_loss=summary.last_evaluation.loss if summary.last_evaluation else None,
        time=written_s,
        n_bytes=n_bytes,
        state=state,
    )


def state_of(folder: RunFolder, step: int, started: Started | None, stopped: Stopped | None) -> State:
    """Return the state of a run that made `step` updates, given its last `Started` and `Stopped` event."""
    if not folder.run_json.exists():
        return "imported"
    if folder.is_in_use():
        return "running"
    if stopped and stopped.reason == "diverged" and stopped.step >= step:
        return "diverged"
    return "finished" if started and step >= started.steps else "interrupted"


def _disk_usage(folder: Path) -> tuple[float, int]:
    """Return when the newest file was written, and the bytes of all files without the lock. Do not follow links."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a run deletes its old checkpoints meanwhile
            if path.is_file() and not path.name.startswith(".lock"):
                found.append(path.lstat())
    return max((stat.st_mtime for stat in found), default=0.0), sum(stat.st_size for stat in found)
