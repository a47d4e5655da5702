"""A run's events.jsonl, read while it grows, and curves with a limited number of points.

A log is read once, then only what was appended, and all pages share it. They show a run from its log alone, so a
reload, a second tab, a restarted studio and a run of a terminal all look the same.
"""

import math
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nudge import events
from nudge.events import Evaluation, Event, Preparing, Sample, Skipped, Started, Step, Stopped
from nudge.runs.pace import Pace

N_LOGS = 100  # in memory: more than the list of runs shows, or each look at it would read them all again
N_BUCKETS = 640  # at most three points of each are drawn, and the first and the last: below 2,000 in all
N_ROWS = 200
_LINES_AT_ONCE = 500

Point = tuple[int, float | None]  # None: not a finite number


class Curve:
    """A value over the updates of a run. Every value is kept; at most 3 * `n_buckets` + 2 points are drawn.

    The steps are cut into buckets whose width doubles as the run grows, so that the drawing mostly changes at its end
    only. The least and the greatest value of each bucket are drawn, and one that is not finite: no spike and no NaN is
    lost.
    """

    def __init__(self, n_buckets: int = N_BUCKETS) -> None:
        self.n_buckets = n_buckets
        self.steps, self.values = array("q"), array("d")

    def append(self, step: int, value: float) -> None:
        """Add a value. A step that is already there replaces itself and everything after it."""
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
        """Return the number of steps in a bucket: a power of two."""
        span = self.steps[-1] - self.steps[0] + 1 if self.steps else 1
        needed = -(-span // (self.n_buckets - 1))  # the first bucket may begin before the first step
        return 1 << (needed - 1).bit_length()

    def points(self) -> list[Point]:
        """Return the points that are drawn, in the order of the steps."""
        if not self.steps:
            return []
        steps, values = np.array(self.steps), np.array(self.values)
        begins = np.flatnonzero(np.diff(steps // self.width, prepend=-1)).tolist()
        finite = np.isfinite(values)
        places = {0, len(values) - 1}
        for begin, end in zip(begins, [*begins[1:], len(values)], strict=True):
            here, is_finite = values[begin:end], finite[begin:end]
            if not is_finite.all():
                places.add(begin + int(np.argmin(is_finite)))
            if is_finite.any():
                places.add(begin + int(np.argmin(np.where(is_finite, here, np.inf))))
                places.add(begin + int(np.argmax(np.where(is_finite, here, -np.inf))))
        return [self._point(place) for place in sorted(places)]

    def _point(self, place: int) -> Point:
        value = self.values[place]
        return self.steps[place], value if math.isfinite(value) else None

    def smooth(self) -> list[Point]:
        """Return a moving mean over a window centered at each step, so that it does not lag: a point per bucket.

        At the end the window is narrow and off center, or else the newest point would be a single noisy value.
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
        """Return the value of that step; None if there is none."""
        place = bisect_left(self.steps, step)
        return self.values[place] if place < len(self.steps) and self.steps[place] == step else None

    def fewer_points(self, n_buckets: int) -> list[Point]:
        """Return fewer points, for a small drawing."""
        small = Curve(n_buckets)
        small.steps, small.values = self.steps, self.values
        return small.points()

    def before(self, step: int) -> float | None:
        """Return the newest finite value before that step."""
        place = bisect_left(self.steps, step) - 1
        while place >= 0 and not math.isfinite(self.values[place]):
            place -= 1
        return self.values[place] if place >= 0 else None

    @property
    def last(self) -> float | None:
        """Return the newest value."""
        return self.values[-1] if self.values else None


@dataclass(slots=True)
class Row:
    """A line of the log: the events of one step. `version` is the log's when the row last changed."""

    step: int
    update: Step | Skipped | None = None
    change: float | None = None  # of the loss, against the newest finite one before
    others: list[Event] = field(default_factory=list)
    version: int = 0


class RunLog:
    """The events of a run, as far as they were read.

    `version` grows with every event. `epoch` grows when events are forgotten: a resumed run repeats the updates after
    its checkpoint. `readable` is false while the file is there and cannot be read.

    Hold `lock` to use it: another thread may be reading on.
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
        self.pace = Pace()
        self.curves = self.loss, self.lr, self.grad_norm, self.speed, self.validation = [Curve() for _ in range(5)]
        self.evaluations: dict[int, Evaluation] = {}
        self.samples: dict[int, Sample] = {}
        self.skipped: dict[int, Skipped] = {}
        self.rows: deque[Row] = deque(maxlen=N_ROWS)
        self.epoch += 1

    @property
    def step(self) -> int:
        """Return the number of updates, including skipped ones."""
        return self.loss.steps[-1] if self.loss.steps else self.started.step if self.started else 0

    @property
    def left_s(self) -> float | None:
        """Return the seconds until the run ends, at the pace of the last minute; None if unknown."""
        return None if self.stopped else self.pace.left_s

    def catch_up(self) -> bool:
        """Read what was appended since the last time. Return whether there was anything."""
        with self._reading:
            try:
                grown, self.readable = self._read_on(), True
            except OSError as error:  # a missing file is no fault: there is none yet, or it was deleted
                grown, self.readable = False, isinstance(error, FileNotFoundError)
            return grown

    def _read_on(self) -> bool:
        """Read on. Raises: OSError if there is no file, or none that can be read."""
        stat = self.path.stat()
        if stat.st_ino != self._file or stat.st_size < self._offset:  # the file was replaced
            if self._offset:
                with self.lock:
                    self._forget()
            self._file = stat.st_ino
        if stat.st_size == self._offset:
            return False
        with self.path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        whole = new.rfind(b"\n") + 1  # the last line may be half written
        self._offset += whole
        lines = new[:whole].split(b"\n")
        for first in range(0, len(lines), _LINES_AT_ONCE):  # a page does not wait for a long log
            with self.lock:
                for line in lines[first : first + _LINES_AT_ONCE]:
                    self._take(events.from_line(line))
        return whole > 0

    def _take(self, event: Event | None) -> None:
        if event is None or isinstance(event, Preparing):
            return
        self.version += 1
        self.pace.take(event)
        if isinstance(event, Started):
            self.started, self.stopped = event, None
            self._cut(event.step)
        row = self._row(event.step)
        if isinstance(event, Step | Skipped):
            self._take_update(row, event)
            return
        row.others.append(event)
        match event:
            case Evaluation():
                self.evaluations[event.step] = event
                self.validation.append(event.step, event.loss)
            case Sample():
                self.samples[event.step] = event
            case Stopped():
                self.stopped = event

    def _take_update(self, row: Row, event: Step | Skipped) -> None:
        row.update = event
        self.grad_norm.append(event.step, event.grad_norm)
        if isinstance(event, Skipped):
            self.skipped[event.step] = event
            self.loss.append(event.step, math.nan)
            return
        before = self.loss.before(event.step)
        row.change = None if before is None else event.loss - before
        self.loss.append(event.step, event.loss)
        self.lr.append(event.step, event.lr)
        self.speed.append(event.step, event.tokens_per_s)

    def _row(self, step: int) -> Row:
        """Return the row of that step, marked as changed."""
        if self.rows and self.rows[-1].step > step:
            self._cut(step)
        if not self.rows or self.rows[-1].step != step:
            self.rows.append(Row(step))
        self.rows[-1].version = self.version
        return self.rows[-1]

    def _cut(self, step: int) -> None:
        """Forget the events after `step`, which the run repeats."""
        seen = [self.step, *self.evaluations, *self.samples, *(row.step for row in self.rows)]
        if max(seen) <= step:
            return
        for curve in self.curves:
            curve.cut(step)
        for by_step in (self.evaluations, self.samples, self.skipped):
            for later in [at for at in by_step if at > step]:
                del by_step[later]
        self.rows = deque((row for row in self.rows if row.step <= step), maxlen=N_ROWS)
        self.epoch += 1
