"""The runs of a folder, one line each: progress, losses, and whether a process works on it. Does not import torch."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nudge import events
from nudge.errors import NudgeError
from nudge.events import Event, Started, Stopped
from nudge.runs.folder import RunFolder, run_folders
from nudge.runs.summary import LOSSES, summarize
from nudge.util import files

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
    with contextlib.suppress(NudgeError, OSError):
        summary = summarize(_listed_events(folder.events))
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


def _listed_events(path: Path) -> list[Event]:
    """Return the events that decide a run's line, of a log that may have thousands.

    After each start: the last updates, whose median is the loss, the last evaluation and the last stop. Later events of
    a start have higher steps, so these are the last of all, however often the run was resumed.

    Raises: OSError if the log cannot be read.
    """
    log = path.read_bytes() if files.exists(path) else b""
    starts = [len(log), *_positions(log, b"started", 0, len(log))][::-1]
    found: list[Event] = []
    for start, end in itertools.pairwise(starts):
        wanted = ((b"step", LOSSES), (b"evaluation", 1), (b"stopped", 1))
        lasts = (itertools.islice(_events(log, kind, start, end), n) for kind, n in wanted)
        found += [*itertools.islice(_events(log, b"started", start, end), 1), *itertools.chain(*lasts)]
    return events.latest_events(found)


def _events(log: bytes, kind: bytes, start: int, end: int) -> Iterator[Event]:
    """Yield the whole events of a kind in a part of a log, the last one first."""
    lines = (log[at : log.find(b"\n", at) + 1] for at in _positions(log, kind, start, end))
    return filter(None, map(events.from_line, lines))


def _positions(log: bytes, kind: bytes, start: int, end: int) -> Iterator[int]:
    """Yield where the lines of a kind begin in a part of a log, the last one first."""
    begin = b'{"event": "%s"' % kind  # as to_json writes it; in a text, its quotation marks would be escaped
    while (end := log.rfind(begin, start, end)) >= 0:
        yield end


def _disk_usage(folder: Path) -> tuple[float, int]:
    """Return when the newest file was written, and the bytes of all files without the lock. Do not follow links."""
    found = []
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a run deletes its old checkpoints meanwhile
                if not name.startswith(".lock"):
                    found.append(os.lstat(f"{parent}/{name}"))
    return max((stat.st_mtime for stat in found), default=0.0), sum(stat.st_size for stat in found)
