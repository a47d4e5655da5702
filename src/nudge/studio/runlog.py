"""A run as it is watched: its events.jsonl read as it grows, and curves that stay small however long it gets.

A log is read once, then only what was appended, and is shared by everybody who looks at the run. Nothing else tells a
page how a run goes, so a reload, a second tab, a studio that came back and a run of a terminal all show the same.
"""

import math
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nudge import events
from nudge.events import Evaluation, Event, Preparing, Sample, Saved, Skipped, Started, Step, Stopped

N_BUCKETS = 640  # at most three points of each are drawn, and the first and the last: below 2,000 in all
N_ROWS = 200
_LINES_AT_ONCE = 500

Point = tuple[int, float | None]  # None: not a finite number


class Curve:
    """A value over the updates of a run. Every value is kept; at most 3 * `n_buckets` + 2 points are drawn.

    The steps are cut into buckets whose width doubles as the run grows, so that what is drawn changes at its end only,
    but for a few moments in the life of a run. Of each bucket the least and the greatest value are drawn, and one that
    is not finite: no spike and no NaN is lost.
    """

    def __init__(self, n_buckets: int = N_BUCKETS) -> None:
        self.n_buckets = n_buckets
        self.steps, self.values = array("q"), array("d")

    def append(self, step: int, value: float) -> None:
        """One more value; a step that was there before supersedes itself and all after it."""
        if self.steps and step <= self.steps[-1]:
            self.cut(step - 1)
        self.steps.append(step)
        self.values.append(value)

    def cut(self, step: int) -> None:
        """Forget everything after `step`."""
        end = bisect_right(self.steps, step)
        del self.steps[end:], self.values[end:]

    @property
    def width(self) -> int:
        """Steps of a bucket: a power of two."""
        span = self.steps[-1] - self.steps[0] + 1 if self.steps else 1
        needed = -(-span // (self.n_buckets - 1))  # where the first bucket begins is not up to us
        return 1 << (needed - 1).bit_length()

    def points(self) -> list[Point]:
        """What is drawn, in the order of the steps."""
        if not self.steps:
            return []
        steps, values = np.array(self.steps), np.array(self.values)
        begins = np.flatnonzero(np.diff(steps // self.width, prepend=-1))
        finite = np.isfinite(values)
        ends = [*begins[1:].tolist(), len(values)]
        places = {0, len(values) - 1}
        for begin, end in zip(begins.tolist(), ends, strict=True):
            here = slice(begin, end)
            if not finite[here].all():
                places.add(begin + int(np.argmin(finite[here])))
            if finite[here].any():
                places.add(begin + int(np.argmin(np.where(finite[here], values[here], np.inf))))
                places.add(begin + int(np.argmax(np.where(finite[here], values[here], -np.inf))))
        return [self._point(place) for place in sorted(places)]

    def _point(self, place: int) -> Point:
        value = self.values[place]
        return self.steps[place], value if math.isfinite(value) else None

    def smooth(self) -> list[Point]:
        """The mean of a window around a step, centred so that it does not lag; one point per bucket and the last.

        At the end the window is narrow and not centred, else the newest point would be a single noisy value.
        """
        if not self.steps:
            return []
        values = np.array(self.values)
        finite = np.isfinite(values)
        sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
        counts = np.concatenate([[0], np.cumsum(finite)])
        last = len(values) - 1
        places = np.unique(np.append(np.arange(0, last + 1, self.width), last))
        after = np.maximum(last - places, 3 * self.width)
        radius = np.minimum(8 * self.width, np.minimum(places, after))
        ends = np.minimum(places + radius, last) + 1
        total, n = (whole[ends] - whole[places - radius] for whole in (sums, counts))
        return [
            (self.steps[place], float(sum_ / count) if count else None)
            for place, sum_, count in zip(places.tolist(), total, n, strict=True)
        ]

    def at(self, step: int) -> float | None:
        """The value of that step; None if there is none."""
        place = bisect_left(self.steps, step)
        return self.values[place] if place < len(self.steps) and self.steps[place] == step else None

    def few(self, n_buckets: int) -> list[Point]:
        """The same, drawn small."""
        small = Curve(n_buckets)
        small.steps, small.values = self.steps, self.values
        return small.points()

    def before(self, step: int) -> float | None:
        """The newest finite value before that step."""
        place = bisect_left(self.steps, step) - 1
        while place >= 0 and not math.isfinite(self.values[place]):
            place -= 1
        return self.values[place] if place >= 0 else None

    @property
    def last(self) -> float | None:
        """The newest value."""
        return self.values[-1] if self.values else None


@dataclass(slots=True)
class Row:
    """What happened at one step, as a line of the log. `version` is the log's when the row last changed."""

    step: int
    update: Step | Skipped | None = None
    change: float | None = None  # of the loss, against the newest finite one before
    others: list[Event] = field(default_factory=list)
    version: int = 0


class RunLog:
    """The events of a run as far as they are read.

    `version` grows with every event; `epoch` when something that was shown is no longer so: a resumed run makes the
    updates after its checkpoint anew, and what was lost with them is forgotten here.

    `readable` is false while there is a file that cannot be read.

    Whoever looks at it holds `lock`, since another thread may be reading on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.version = self.epoch = 0
        self.readable = True
        self._reading = threading.Lock()
        self._file = 0  # its inode
        self._forget()

    def _forget(self) -> None:
        self._offset = 0
        self.started: Started | None = None
        self.stopped: Stopped | None = None
        self.loss, self.lr, self.grad_norm, self.speed = Curve(), Curve(), Curve(), Curve()
        self.validation = Curve()
        self.evaluations: dict[int, Evaluation] = {}
        self.samples: dict[int, Sample] = {}
        self.skipped: dict[int, Skipped] = {}
        self.rows: deque[Row] = deque(maxlen=N_ROWS)
        self.epoch += 1

    @property
    def step(self) -> int:
        """Updates made, the skipped ones with them."""
        return self.loss.steps[-1] if self.loss.steps else self.started.step if self.started else 0

    @property
    def left_s(self) -> float | None:
        """Seconds that the remaining updates take at the speed of the last ones; None if nothing tells."""
        recent = [n for n in self.speed.values[-50:] if 0 < n < math.inf]
        if not recent or self.started is None or self.stopped:
            return None
        return (self.started.steps - self.step) * self.started.batch_tokens * sum(1 / n for n in recent) / len(recent)

    def catch_up(self) -> bool:
        """Read what was appended since the last time; whether there was anything."""
        with self._reading:
            try:
                grown, self.readable = self._read_on(), True
            except OSError as error:  # none yet, or gone meanwhile: nothing is wrong with that
                grown, self.readable = False, isinstance(error, FileNotFoundError)
            return grown

    def _read_on(self) -> bool:
        """Raises: OSError if there is no file, or none that can be read."""
        stat = self.path.stat()
        if stat.st_ino != self._file or stat.st_size < self._offset:  # another file took its place
            if self._offset:
                with self.lock:
                    self._forget()
            self._file = stat.st_ino
        if stat.st_size == self._offset:
            return False
        with self.path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        whole = new.rfind(b"\n") + 1  # the last line may be half written: it waits
        self._offset += whole
        lines = new[:whole].split(b"\n")
        for first in range(0, len(lines), _LINES_AT_ONCE):  # who looks at it does not wait for a long log
            with self.lock:
                for line in lines[first : first + _LINES_AT_ONCE]:
                    self._take(events.from_line(line.decode(errors="replace")))
        return whole > 0

    def _take(self, event: Event | None) -> None:
        if event is None or isinstance(event, Preparing):
            return
        self.version += 1
        match event:
            case Started(step=step):
                self.started, self.stopped = event, None
                self._cut(step)
                self._row(step).others.append(event)
            case Step():
                before = self.loss.before(event.step)
                row = self._row(event.step)
                row.update = event
                row.change = None if before is None else event.loss - before
                self._update(event.step, loss=event.loss, grad_norm=event.grad_norm)
                self.lr.append(event.step, event.lr)
                self.speed.append(event.step, event.tokens_per_s)
            case Skipped():
                self.skipped[event.step] = event
                self._row(event.step).update = event
                self._update(event.step, loss=math.nan, grad_norm=event.grad_norm)
            case Evaluation():
                self.evaluations[event.step] = event
                self.validation.append(event.step, event.loss)
                self._row(event.step).others.append(event)
            case Sample():
                self.samples[event.step] = event
                self._row(event.step).others.append(event)
            case Saved():
                self._row(event.step).others.append(event)
            case Stopped():
                self.stopped = event
                self._row(event.step).others.append(event)

    def _update(self, step: int, *, loss: float, grad_norm: float) -> None:
        self.loss.append(step, loss)
        self.grad_norm.append(step, grad_norm)

    def _row(self, step: int) -> Row:
        """The row of that step, which changes now."""
        if self.rows and self.rows[-1].step > step:
            self._cut(step)
        if not self.rows or self.rows[-1].step != step:
            self.rows.append(Row(step))
        self.rows[-1].version = self.version
        return self.rows[-1]

    def _cut(self, step: int) -> None:
        """Forget what came after `step`: it is made anew."""
        seen = [self.step, *self.evaluations, *self.samples, *(row.step for row in self.rows)]
        if max(seen) <= step:
            return
        for curve in (self.loss, self.lr, self.grad_norm, self.speed, self.validation):
            curve.cut(step)
        for told in (self.evaluations, self.samples, self.skipped):
            for later in [at for at in told if at > step]:
                del told[later]
        self.rows = deque((row for row in self.rows if row.step <= step), maxlen=N_ROWS)
        self.epoch += 1


class RunLogs:
    """The logs that were looked at last: more than a list shows, or each look at it would read them all anew."""

    def __init__(self, room: int = 100) -> None:
        self.room = room
        self._logs: OrderedDict[Path, RunLog] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, path: Path) -> RunLog:
        """The log of an events.jsonl, as far as it was read."""
        with self._lock:
            log = self._logs.setdefault(path, RunLog(path))
            self._logs.move_to_end(path)
            while len(self._logs) > self.room:
                self._logs.popitem(last=False)
            return log
