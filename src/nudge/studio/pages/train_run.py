"""Train: one run, from the preparation of its text to its last update."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import ui

from nudge.config import SORTING, Config
from nudge.errors import NudgeError
from nudge.events import Preparing
from nudge.runs.folder import RunFolder
from nudge.runs.listing import state_of
from nudge.runs.run_json import RunJson
from nudge.studio.components import bar, box, button, empty_card, message, refill, text
from nudge.studio.launch import Launch
from nudge.studio.pages.train_curves import LossChart
from nudge.studio.pages.train_film import Film
from nudge.studio.pages.train_rows import Rows
from nudge.studio.pages.train_stats import Stats
from nudge.studio.runlog import RunLog
from nudge.studio.visit import Visit
from nudge.studio.words import Words
from nudge.util import formatting
from nudge.util.terminal_text import make_readable

_BUTTONS = {"running": ("save", "pause", "stop"), "paused": ("resume", "stop"), "interrupted": ("go_on",)}


class Watched:
    """The run that the page shows. `show_buttons` gets the names of the page's buttons that can be pressed."""

    folder: RunFolder  # both once the run has begun
    log: RunLog

    def __init__(self, visit: Visit, name: str, show_buttons: Callable[..., None]) -> None:
        self.visit, self.name, self.t, self.show_buttons = visit, name, visit.t, show_buttons
        self.launcher = visit.app.launcher
        self._is_open = False
        self._config: Config | None = None
        self._seen: object = None  # what was shown last
        self.notices = box("notices")
        self.progress = box("progress")
        self.curves = box("stack")
        self.stats: Stats | None = None

    def changed(self) -> None:
        """Show the state again at the next look, even if it seems the same."""
        self._seen = None

    async def look(self) -> None:
        """Check the files for changes once; this is cheap without changes."""
        launch = self.launcher.look(self.name)
        if not self._open():
            self._show_launch(launch)
            return
        await asyncio.to_thread(self.log.catch_up)
        state = watched_state(self.folder, self.log)
        if launch and not launch.alive and not launch.error:
            self.launcher.forget(self.name)
            launch = None
        seen = (state, self.log.version, self.log.epoch, launch)
        if seen != self._seen:
            await self._show(state, launch)
            self._seen = seen

    def _open(self) -> bool:
        """Open the run if it has begun, and return whether it has."""
        if self._is_open:
            return True
        models = self.visit.app.models
        if self.launcher.look(self.name) and not (models.runs / self.name / "run.json").exists():
            return False
        try:
            self.folder = models.folder(self.name)
        except NudgeError as error:
            if self._seen != error.message:
                self._seen = error.message
                self.visit.say(error)
            return False
        self.log = self.visit.app.log(self.folder.events)
        self._is_open = True
        return True

    def _show_launch(self, launch: Launch | None) -> None:
        """Show a run before it has begun."""
        if launch is None or launch == self._seen:
            return
        self._seen = launch
        with refill(self.progress), empty_card(make_readable(self.name), classes="preparing"):
            if not launch.alive:
                self.show_buttons()
                self._say_why(launch)
                button(self.t("train.forget"), self.visit.handle(self._forget))
                return
            self.show_buttons("cancel")
            with box("hs"):
                ui.spinner(size="20px", color=None)
                text(self._doing(launch.preparing), "ink2", aria_live="polite")
            if progress := launch.preparing:
                with box("bar", style="width:100%"):
                    bar(progress.done / max(1, progress.total), style="background:var(--accent)")

    def _say_why(self, launch: Launch, **settings: Any) -> None:
        """Show why a process ended: an error by its code, anything else as it was printed."""
        if launch.failure:
            self.visit.failure(launch.failure, **settings)
        else:
            message(launch.error or self.t("train.ended"), launch.hint, kind="bad", **settings)

    def _doing(self, progress: Preparing | None) -> str:
        if progress is None:
            return self.t("train.starting")
        done, total = formatting.size(progress.done), formatting.size(progress.total)
        return self.t(f"train.preparing.{progress.what}", done=done, total=total)

    def _forget(self) -> None:
        self.launcher.forget(self.name)
        ui.navigate.to("/train")

    async def _show(self, state: str, launch: Launch | None) -> None:
        if self._config is None:
            self._config = await asyncio.to_thread(_read_config, self.folder)
        self.progress.clear()
        if state == "imported" and self.log.started is None:
            with self.progress, empty_card(make_readable(self.name), self.t("train.imported_note")):
                self.show_buttons()
            return
        if self.stats is None:
            self._build()
        self._show_notices(state, launch)
        resuming = state == "interrupted" and launch and launch.alive
        self.show_buttons(*(() if resuming else _BUTTONS.get(state, ())))
        self.show_curves()
        self.visit.subtitle.text = self._about(state)

    def _build(self) -> None:
        with self.curves:
            self.stats = Stats(self.t)
            with box("card", tag="section"):
                self.chart = LossChart(self.t)
                self.film = Film(self.t, self.show_curves)
                self.chart.chart.on("place", lambda event: self.film.place(int(event.args)))
            self.rows = Rows(self.t, make_readable(str(self.folder.events)))

    def show_curves(self) -> None:
        """Draw everything again."""
        with self.log.lock:
            self._show_curves(self.log)

    def _show_curves(self, log: RunLog) -> None:
        assert self.stats is not None
        self.stats.show(log)
        self.film.show(log)
        cursor, label = self.film.cursor, ""
        if cursor is not None:
            label, loss = self.t("ui.step", step=cursor), log.loss.at(cursor)
            label += "" if loss is None else f" · {formatting.fixed(loss)}"
        self.chart.show(log, self._config.model.vocab_size if self._config else None, cursor, label)
        self.rows.show(log)

    def _about(self, state: str) -> str:
        t, started = self.t, self.log.started
        if started is None:
            return t(f"train.state.{state}")
        parts = [
            make_readable(self.name),
            *([_data(self._config, t)] if self._config else []),
            t("train.n_params", n=formatting.count(started.n_params, t.language)),
            t("train.machine", device=started.device, dtype=started.dtype, threads=started.threads),
            t(f"train.state.{state}"),
        ]
        if state == "running" and (left_s := self.log.left_s):
            parts.append(t("train.left", time=formatting.duration(left_s, t.language)))
        return " · ".join(parts)

    def _show_notices(self, state: str, launch: Launch | None) -> None:
        t, stopped = self.t, self.log.stopped
        with refill(self.notices):
            if state == "diverged" and stopped:
                message(t("train.diverged", step=stopped.step), t.phrase(stopped.hint), kind="bad")
            elif launch and launch.error:
                forget = self.visit.handle(lambda: self.launcher.forget(self.name))
                self._say_why(launch, close=forget, close_label=t("ui.close"))
            elif self._config is None and self.folder.run_json.exists():
                message(t("train.unreadable", file=self.folder.run_json.name), kind="bad")


def watched_state(folder: RunFolder, log: RunLog) -> str:
    """Return the state of a run: the listing's, or paused, or unreadable."""
    if not log.readable:
        return "unreadable"
    state = state_of(folder, log.step, log.started, log.stopped)
    if state != "running":
        return state
    try:
        return "paused" if folder.control.read_text(encoding="utf-8").strip() == "pause" else state
    except OSError:
        return state


def _data(config: Config, t: Words) -> str:
    """Return the name of the text that the run learns from."""
    paths = config.data.paths
    if not paths:
        return t("train.data_default")
    if paths == (SORTING,):
        return t("train.sorting")
    return make_readable(Path(paths[0]).name) + (f" +{len(paths) - 1}" if len(paths) > 1 else "")


def _read_config(folder: RunFolder) -> Config | None:
    try:
        return folder.read_json(RunJson).config
    except NudgeError:
        return None
