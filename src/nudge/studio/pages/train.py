"""Train: start a run, watch it learn, pause it, save it and stop it.

The page follows the run's events file, whether the run was started here or in a terminal.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nicegui import ui

from nudge.errors import NudgeError
from nudge.runs.folder import RunFolder
from nudge.studio.components import box, button, card, link, refill, text
from nudge.studio.page import Page
from nudge.studio.pages.train_form import Form
from nudge.studio.pages.train_run import Watched, watched_state
from nudge.studio.visit import when_connected
from nudge.train import control
from nudge.util import formatting
from nudge.util.terminal_text import make_readable
from nudge.version import __version__

POLL_S = 1.0
LIST_EVERY = 3  # polls
N_LISTED = 50
_COLORS = {"running": "a", "preparing": "a", "paused": "a", "diverged": "bad", "failed": "bad", "unreadable": "bad"}
_ICONS = {"resume": "play_arrow", "go_on": "play_arrow", "cancel": "close"}  # the others are named like their button


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A run in the list."""

    name: str
    state: str  # as in nudge.runs.listing, or preparing, failed
    step: int = 0
    steps: int | None = None
    n_skipped: int = 0


class TrainPage(Page):
    """The folder of runs, and one of them."""

    watched: Watched | None = None
    _polls = 0
    _listed: list[Line] | None = None

    def build(self) -> None:
        ui.add_head_html(f'<script src="/static/train.js?v={__version__}"></script>')
        visit, self.app, self.run = self.visit, self.visit.app, self.visit.run
        with self.title_row, box("hs"):
            self._actions()
        with box("grid same train"):
            with box("stack"):
                self.form = Form(visit, lambda name: ui.navigate.to(visit.href(run=name, step=None)))
                with card(self.t("train.runs"), classes="gr"):
                    self.list = box("runs-list")
            self.place = box("stack run")
        asyncio.get_running_loop().run_in_executor(None, self._read_ahead)
        when_connected(self._first)

    def _read_ahead(self) -> None:
        """Read a long log while the browser is still loading the page."""
        with contextlib.suppress(NudgeError):
            if self.run is not None:
                self.app.log(self.app.models.folder(self.run).events).catch_up()

    def _actions(self) -> None:
        words: tuple[control.Word, ...] = ("save", "pause", "resume", "stop")
        actions: dict[str, Callable[[], None]] = {word: partial(self._tell, word) for word in words}
        actions |= {"go_on": self._go_on, "cancel": self._cancel}
        self.buttons = {
            name: button(self.t(f"train.{name}"), self.visit.handle(action), icon=_ICONS.get(name, name))
            for name, action in actions.items()
        }
        self.show_buttons()

    def show_buttons(self, *names: str) -> None:
        """Show only these buttons."""
        for name, element in self.buttons.items():
            element.set_visibility(name in names)
            element.set_enabled(True)

    async def _first(self) -> None:
        with self.place:
            if self.run is not None:
                self.watched = Watched(self.visit, self.run, self.show_buttons)
            else:
                self.no_run()
            ui.timer(POLL_S, self.visit.handle(self._poll))  # also the first look: if it fails, a later one may not

    async def _poll(self) -> None:
        """Look for changes, and send only those."""
        if self.watched:
            await self.watched.look()
        if self._polls % LIST_EVERY == 0:
            lines = await asyncio.to_thread(self._lines)
            self.form.busy = any(line.state in ("running", "preparing") for line in lines)
            if lines != self._listed:
                self._listed = lines
                self._show_list(lines)
        self._polls += 1
        if self._polls == 1 and self.run is None:  # the form has to know first whether another run is going on
            when_connected(self.form.begin)

    def _tell(self, word: control.Word) -> None:
        if self.watched is None or self.run is None:
            return
        control.send(self.app.models.folder(self.run), word)
        self.watched.changed()
        for name, element in self.buttons.items():  # until the run reacts
            element.set_enabled(word == "save" and name != "save")

    def _go_on(self) -> None:
        if self.run is not None:
            self.app.launcher.resume(self.app.models.folder(self.run).path.name)
            self.show_buttons()

    def _cancel(self) -> None:
        if self.run is not None:
            self.app.launcher.end(self.run)
            ui.navigate.to("/train")

    def _lines(self) -> list[Line]:
        """Return the runs, those still being prepared first, then the most recently written first."""
        launcher = self.app.launcher
        starting = [
            Line(name=name, state="preparing" if launch.alive else "failed")
            for name in launcher.names()
            if (launch := launcher.look(name))
        ]
        return starting + [self._line(path) for path in self.app.models.folders()[:N_LISTED]]

    def _line(self, path: Path) -> Line:
        folder = RunFolder(path)
        log = self.app.log(folder.events)
        log.catch_up()
        try:
            with log.lock:
                return Line(
                    name=path.name,
                    state=watched_state(folder, log),
                    step=log.step,
                    steps=log.started.steps if log.started else None,
                    n_skipped=len(log.skipped),
                )
        except OSError:  # a folder that cannot be read hides no other run
            return Line(name=path.name, state="unreadable")

    def _show_list(self, lines: list[Line]) -> None:
        t = self.t
        with refill(self.list):
            for line in lines:
                here = {"aria_current": "true"} if line.name == self.run else {}
                with link("", self.visit.href(run=line.name, step=None), "run-line", **here):
                    with box("vs gr"):
                        text(make_readable(line.name), "m s13 cut")
                        if line.steps is not None:
                            text(f"{formatting.whole(line.step)} / {formatting.whole(line.steps)}", "s12 ink3 num")
                    if line.n_skipped:
                        text("NaN", "tag bad", title=t("train.n_skipped", n=line.n_skipped))
                    text(t(f"train.state.{line.state}"), f"tag {_COLORS.get(line.state, '')}")
            if not lines:
                text(t("ui.no_run"), "ink3 s13")
