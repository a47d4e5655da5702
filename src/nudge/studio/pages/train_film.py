"""Train: the samples of a run, all from the same prompt and seed, as a strip of frames."""

from collections.abc import Callable
from typing import Any

from nicegui import ui

from nudge.events import Sample
from nudge.studio.components import box, button, named, refill, text
from nudge.studio.runlog import RunLog
from nudge.studio.words import Words
from nudge.util import formatting
from nudge.util.terminal_text import make_readable

N_FRAMES = 5
N_CHARACTERS = 600  # of a frame


class Film:
    """The frames around a cursor. The cursor follows the run until the user places it."""

    def __init__(self, t: Words, moved: Callable[[], None]) -> None:
        self.t = t
        self.moved = moved
        self.placed: int | None = None  # the step of the sample that the user chose; None: the newest
        self.log: RunLog | None = None
        self._steps: list[int] = []
        self._shown: Any = None
        self._setting = False  # the slider is being set by the program, not by the user
        with box("plain scrub"):
            slider = ui.slider(min=0, max=1, step=1, value=0, on_change=self._slid)
            self.slider = named(slider, t("train.scrub"))
        with box("hs film-head"):
            text(t("train.samples"), "b s13", tag="h3")
            self.about = text("", "s12 ink3 cut gr")
            text(t("train.keys"), "s12 ink3 nw")
            self.follow = button(t("train.follow"), self._follow, kind="quiet small", icon="last_page")
        self.frames = box("film", tabindex=0, role="group", aria_label=t("train.samples"))
        self.frames.on("keydown.left.prevent", lambda: self._move(-1))
        self.frames.on("keydown.right.prevent", lambda: self._move(1))

    @property
    def cursor(self) -> int | None:
        """Return the step of the chosen sample."""
        return self._steps[self._at] if self._steps else None

    @property
    def _at(self) -> int:
        """Return the index of the chosen sample, or of the nearest one if a resumed run has lost it."""
        return len(self._steps) - 1 if self.placed is None else self._nearest(self.placed)

    def _nearest(self, step: int) -> int:
        """Return the index of the sample nearest to a step; the earlier one on a tie."""
        return min(range(len(self._steps)), key=lambda at: abs(self._steps[at] - step))

    def show(self, log: RunLog) -> None:
        """Update the slider and the frames from a run's log."""
        self.log = log
        self._steps = sorted(log.samples)
        most = max(1, log.started.steps if log.started else log.step)
        if self.slider.props["max"] != most:
            self.slider.props["max"] = most
        if len(self._steps) > 1:
            self.slider.props["step"] = self._steps[1] - self._steps[0]
        self.slider.set_enabled(bool(self._steps))
        self.follow.set_visibility(self.placed is not None)
        self._setting = True
        self.slider.value = self.cursor or 0
        self._setting = False
        self._show_frames(log)

    def _slid(self, event: Any) -> None:
        if not self._setting and event.value is not None and event.value != self.placed:
            self.place(int(event.value))

    def _move(self, frames: int) -> None:
        if self._steps:
            self.place(self._steps[min(max(self._at + frames, 0), len(self._steps) - 1)])

    def place(self, step: int) -> None:
        """Choose the sample nearest to that step, and stay there when more samples come."""
        if self._steps:
            self.placed = self._steps[self._nearest(step)]
            self.moved()

    def _follow(self) -> None:
        self.placed = None
        self.moved()

    def _show_frames(self, log: RunLog) -> None:
        first = max(0, min(self._at - N_FRAMES // 2, len(self._steps) - N_FRAMES))
        shown = [log.samples[step] for step in self._steps[first : first + N_FRAMES]]
        if (shown, self._at) == self._shown:
            return
        self._shown = shown, self._at
        with refill(self.frames):
            for sample in shown:
                self._frame(sample, log.loss.at(sample.step), on=sample.step == self.cursor)
            if not shown:
                text(self.t("train.no_samples"), "ink3 s13")
        if shown:
            quoted = make_readable(shown[0].prompt).replace("\n", "⏎") or self.t("train.document_start")
            self.about.text = self.t("train.prompt", prompt=quoted, seed=str(shown[0].seed))

    def _frame(self, sample: Sample, loss: float | None, *, on: bool) -> None:
        current = {"aria_current": "true"} if on else {}
        with box("frame on" if on else "frame", data_step=sample.step, **current) as frame:
            frame.on("click", lambda: self.place(sample.step))
            with box("st"):
                text(self.t("ui.step", step=sample.step), tag="span")
                text("" if loss is None else formatting.fixed(loss), tag="span")
            text(make_readable(sample.text[:N_CHARACTERS]).strip("\n"), "tx", dir="auto")
