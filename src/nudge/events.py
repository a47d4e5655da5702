"""What a run says. The terminal, the studio, the cheat sheet and the tests all read this one stream.

`for event in nudge.run(config)` yields these; each but `Preparing` is also one line of `runs/NAME/events.jsonl`:
`{"event": "step", "step": 20, "time": 1795219200.1, "loss": 5.31, ...}`. JSON has no NaN: such a value is null there
and its name stands in `not_finite`.
"""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from nudge.util import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparing:
    """Text is being made into tokens, or tokens are checked: `done` of `total` bytes. There is no run folder yet."""

    what: Literal["reading", "vocabulary", "tokens", "checking", "downloading"]
    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A run begins, or goes on after `step` finished updates."""

    step: int
    time: float  # seconds since 1970, UTC, as in every event
    run: str  # the folder
    steps: int  # updates when it is finished
    n_params: int
    batch_tokens: int  # per update
    micro_batch: int  # sequences per pass
    device: str
    dtype: str
    threads: int
    peak_flops: float  # of matrix products in that dtype, measured here, per second
    flops_per_token: float  # of training
    forecast_s: float | None  # None on resume
    forecast_bytes: int  # of memory
    data: str  # the prepared folder
    eval_every: int = 0
    processes: int = 1
    usd_per_hour: float | None = None
    resumed_from: str | None = None  # the checkpoint
    notes: tuple[str, ...] = ()  # what the probe chose and why; damaged checkpoints that were passed over


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One update was made. `loss` is the batch's before the update, in nats per token."""

    step: int
    time: float
    loss: float
    lr: float
    grad_norm: float  # before clipping
    tokens_per_s: float
    step_s: float
    train_s: float  # spent on updates since the run began, over all its resumptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The loss on validation text that is never trained on."""

    step: int
    time: float
    loss: float  # nats per token
    bits_per_byte: float
    tokens: int  # measured on
    whole_split: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the model writes now, always from the same prompt and seed."""

    step: int
    time: float
    prompt: str
    text: str  # without the prompt
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint is safely on disk."""

    step: int
    time: float
    path: str  # relative to the run folder
    n_bytes: int
    sha256: str
    save_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """The loss or gradient was not finite: weights and moments are as they were."""

    step: int
    time: float
    loss: float
    grad_norm: float
    in_a_row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The run ends here: all updates done, asked to stop, or too many updates skipped."""

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


def _check_of(hint: Any) -> Callable[[Any], bool]:
    """Whether a value is what a field declares; JSON writes a whole float as it likes, so an int is one too."""
    if get_origin(hint) is Literal:
        words = frozenset(get_args(hint))
        return lambda value: type(value) is str and value in words
    if get_origin(hint) is tuple:
        return lambda value: type(value) is tuple and all(type(inner) is str for inner in value)
    types = frozenset(get_args(hint) or (hint,))
    types |= {int} if float in types else set()
    return lambda value: type(value) in types and (type(value) is not int or -_INT_END <= value < _INT_END)


_INT_END = 1 << 63  # a longer number is nobody's count, and fits neither an array nor a float
_CHECKS = {kind: {name: _check_of(hint) for name, hint in get_type_hints(kind).items()} for kind in _NAMES}


def to_json(event: Event) -> dict[str, Any]:
    """One line of events.jsonl, as a dict that JSON can hold."""
    line: dict[str, Any] = {"event": _NAMES[type(event)], **dataclasses.asdict(event)}
    not_finite = [key for key, value in line.items() if isinstance(value, float) and not math.isfinite(value)]
    if not_finite:
        line.update(dict.fromkeys(not_finite), not_finite=not_finite)
    return line


def from_json(line: Mapping[str, Any]) -> Event | None:
    """The event of one line; None for a kind that this version does not know, or values that are not of its types."""
    name, not_finite = line.get("event"), line.get("not_finite", ())
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None or not isinstance(not_finite, list | tuple):
        return None
    values = {}
    for key, is_right in _CHECKS[kind].items():
        if key not in line:
            continue
        value = math.nan if key in not_finite else line[key]
        values[key] = tuple(value) if isinstance(value, list) else value
        if not is_right(values[key]):
            return None
    try:
        event: Event = kind(**values)
    except TypeError:  # a value is missing
        return None
    return event


def from_line(line: str) -> Event | None:
    """As `from_json`, of a line as it was read; None, too, for one that a crash tore or that is no event at all."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return from_json(value) if isinstance(value, dict) else None


def read(path: Path) -> Iterator[Event]:
    """The events of a run in the order of its updates, without those that a resumption made anew.

    A run that is killed and resumed repeats the updates since its last checkpoint: of each kind of event at one step
    the last line counts.
    """
    return iter(latest(event for line in files.read_json_lines(path) if (event := from_json(line)) is not None))


def latest(events: Iterable[Event]) -> list[Event]:
    """One event of each kind per step: a resumed run's lines supersede those of the updates that were lost."""
    kept: dict[tuple[int, str], Event] = {}
    for event in events:
        if not isinstance(event, Preparing):
            key = (event.step, _NAMES[type(event)])
            kept.pop(key, None)  # so that the newer one also takes the newer place
            kept[key] = event
    return sorted(kept.values(), key=lambda event: getattr(event, "step", 0))
