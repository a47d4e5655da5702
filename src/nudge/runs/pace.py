"""How fast a run goes now, and the time that its remaining updates take at that pace."""

import math
from collections import deque

from nudge.events import Evaluation, RunEvent, Sample, Saved, Skipped, Started, Step

WINDOW_S = 60.0


class Pace:
    """The pace of the last minute of a run, with its evaluations, samples and saves.

    Not of the whole run: another program may have taken the processor for a while. A pause does not count.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._busy_s = 0.0  # of all events so far, without pauses
        self._seen_at = 0.0  # time of the newest event
        self._marks: deque[tuple[int, float]] = deque()  # (step, busy seconds) at the end of each recent update

    def take(self, event: RunEvent) -> None:
        """Take the next event of the run."""
        match event:
            case Started():
                self._steps = event.steps
                self._marks.clear()
            case Step():  # the time since the last event may hold a pause
                self._begin(event.step)
                self._busy_s += event.step_s if 0 < event.step_s < math.inf else 0.0
                self._mark(event.step)
            case Skipped():
                self._begin(event.step)
                self._mark(event.step)
            case Evaluation() | Sample() | Saved():
                self._busy_s += max(0.0, event.time - self._seen_at)
        self._seen_at = event.time

    def _begin(self, step: int) -> None:
        """Mark the beginning of the first update: what comes before it, such as an evaluation, is not repeated."""
        if not self._marks:
            self._marks.append((step - 1, self._busy_s))

    def _mark(self, step: int) -> None:
        self._marks.append((step, self._busy_s))
        while len(self._marks) > 2 and self._busy_s - self._marks[1][1] >= WINDOW_S:
            self._marks.popleft()

    @property
    def left_s(self) -> float | None:
        """The seconds that the remaining updates take at this pace; None before the first one."""
        if len(self._marks) < 2:
            return None
        (first, begin_s), (last, end_s) = self._marks[0], self._marks[-1]
        if last <= first or not begin_s < end_s < math.inf:
            return None
        return (self._steps - last) * (end_s - begin_s) / (last - first)
