"""The events of a run: one stream that the terminal, the studio, the cheat sheet and the tests all read.

`for event in nudge.run(config)` yields them. Each event except `Preparing` is also one line of
`runs/NAME/events.jsonl`: `{"event": "step", "step": 20, "time": 1795219200.1, "loss": 5.31, ...}`. JSON has no NaN:
such a value is null, and `not_finite` lists its name.
"""

import dataclasses
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nudge.util import json_reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparing:
    """The progress of preparing the text, before the run folder exists: `done` of `total` bytes."""

    what: Literal["reading", "vocabulary", "tokens", "checking", "downloading"]
    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The start of a run, or its continuation after `step` finished updates. Raises: ValueError."""

    step: int
    time: float  # seconds since 1970, UTC, as in every event
    run: str  # the run folder
    steps: int  # updates in all
    n_params: int
    batch_tokens: int  # per update
    micro_batch: int  # sequences per pass
    device: str
    dtype: str
    threads: int
    peak_flops: float  # per second, of matrix products in that dtype, measured on this machine
    flops_per_token: float  # of training
    forecast_s: float | None  # None on resume
    forecast_bytes: int  # memory
    data: str  # the prepared folder
    eval_every: int = 0
    processes: int = 1
    usd_per_hour: float | None = None
    resumed_from: str | None = None  # the checkpoint
    notes: tuple[str, ...] = ()  # the choices of the probe and their reasons; damaged checkpoints that were skipped

    def __post_init__(self) -> None:
        if self.n_params < 1 or self.batch_tokens < 1:
            raise ValueError("a run has parameters, and tokens in its batches")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One finished update. `loss` is the loss of its batch before the update, in nats per token."""

    step: int
    time: float
    loss: float
    lr: float
    grad_norm: float  # before clipping
    tokens_per_s: float
    step_s: float
    train_s: float  # time of all updates since the run began, also before it was resumed


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The loss on the validation text, which is never trained on."""

    step: int
    time: float
    loss: float  # nats per token
    bits_per_byte: float
    tokens: int  # evaluated
    whole_split: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A text written by the model at this step, always from the same prompt and seed."""

    step: int
    time: float
    prompt: str
    text: str  # without the prompt
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint that was written to disk."""

    step: int
    time: float
    path: str  # relative to the run folder
    n_bytes: int
    sha256: str
    save_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A skipped update: its loss or gradient was not finite, so weights and moments did not change."""

    step: int
    time: float
    loss: float
    grad_norm: float
    in_a_row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The end of a run: all updates are done, the user stopped it, or too many updates were skipped."""

    step: int
    time: float
    reason: Literal["finished", "interrupted", "diverged"]
    hint: str = ""


RunEvent = Started | Step | Evaluation | Sample | Saved | Skipped | Stopped
Event = Preparing | RunEvent

_KINDS: dict[str, type[Any]] = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower(): kind
    for kind in (Preparing, Started, Step, Evaluation, Sample, Saved, Skipped, Stopped)
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def to_json(event: Event) -> dict[str, Any]:
    """Return an event as a JSON-compatible dict; non-finite floats become null and are named in `not_finite`."""
    line: dict[str, Any] = {"event": _NAMES[type(event)], **dataclasses.asdict(event)}
    not_finite = [key for key, value in line.items() if isinstance(value, float) and not math.isfinite(value)]
    for key in not_finite:
        line[key] = None
    return line | {"not_finite": not_finite} if not_finite else line


def from_line(line: bytes) -> Event | None:
    """Parse a line of events.jsonl; return None if it is cut off, of an unknown kind, or has values of wrong types."""
    try:
        values = json_reader.parse(line)
        values |= dict.fromkeys(values.get("not_finite", ()), math.nan)
        event: Event = json_reader.convert(values, _KINDS[values["event"]])
    except (ValueError, KeyError, TypeError, AttributeError):  # the last three: it is no object of ours
        return None
    return event


def read(path: Path) -> list[Event]:
    """Read the events of a run from events.jsonl, in the order of its updates, each only once (see `latest_events`)."""
    return latest_events(event for line in json_reader.lines(path) if (event := from_line(line)) is not None)


def latest_events(events: Iterable[Event]) -> list[Event]:
    """Return the last event of each kind per step: a resumed run repeats the updates after its checkpoint."""
    kept: dict[tuple[int, str], Event] = {}
    for event in events:
        if not isinstance(event, Preparing):
            key = (event.step, _NAMES[type(event)])
            kept.pop(key, None)  # so that the newer event also moves to the end
            kept[key] = event
    return sorted(kept.values(), key=lambda event: getattr(event, "step", 0))
