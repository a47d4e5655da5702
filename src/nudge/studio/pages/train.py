"""Train: start a run, watch it learn, and tell it to pause, save and stop.

The page follows the run's events file, whoever started the run.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nicegui import ui

from nudge import __version__, files, runfolder
from nudge import config as configs
from nudge.config import Config
from nudge.data.visible import readable
from nudge.errors import NudgeError
from nudge.runfolder import RunFolder
from nudge.studio import numbers, shell
from nudge.studio.kit import bar, box, button, card, link, message, text
from nudge.studio.launch import Launch
from nudge.studio.pages.train_curves import LossChart, Stats
from nudge.studio.pages.train_film import Film
from nudge.studio.pages.train_form import Form
from nudge.studio.pages.train_rows import Rows
from nudge.studio.runlog import RunLog
from nudge.studio.visit import Visit, after
from nudge.studio.words import Words
from nudge.train import control
from nudge.train.listing import state_of

POLL_S = 1.0
LIST_EVERY = 3  # polls
N_LISTED = 50


def build(visit: Visit) -> None:
    """Build the page."""
    ui.add_head_html(f'<script src="/static/train.js?v={__version__}"></script>')
    TrainPage(visit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A run in the list."""

    name: str
    state: str  # as nudge.train.listing has it, or preparing, failed
    step: int = 0
    steps: int | None = None
    n_skipped: int = 0


class TrainPage:
    """One person's view of the folder of runs, and of one of them."""

    def __init__(self, visit: Visit) -> None:
        self.visit, self.t, self.house = visit, visit.t, visit.house
        self.run = visit.run
        self.watched: Watched | None = None
        self._polls = 0
        self._listed: list[Line] | None = None
        with shell.page(visit, actions=self._actions), box("grid same train"):
            with box("stack"):
                self.form = Form(
                    visit, self.house.launcher, lambda name: ui.navigate.to(visit.href(run=name, step=None))
                )
                with card(self.t("train.runs"), classes="gr"):
                    self.list = box("runs-list")
            self.place = box("stack run")
        after(0, self._first)

    def _actions(self) -> None:
        t, handle = self.t, self.visit.handle
        self.buttons = {
            "save": button(t("train.save"), handle(lambda: self._tell("save")), icon="save"),
            "pause": button(t("train.pause"), handle(lambda: self._tell("pause")), icon="pause"),
            "resume": button(t("train.resume"), handle(lambda: self._tell("resume")), icon="play_arrow"),
            "stop": button(t("train.stop"), handle(lambda: self._tell("stop")), icon="stop"),
            "go_on": button(t("train.go_on"), handle(self._go_on), icon="play_arrow"),
            "cancel": button(t("train.cancel"), handle(self._cancel), icon="close"),
        }
        for element in self.buttons.values():
            element.set_visibility(False)

    def show_buttons(self, *names: str) -> None:
        """Only these."""
        for name, element in self.buttons.items():
            element.set_visibility(name in names)
            element.set_enabled(True)

    async def _first(self) -> None:
        with self.place:
            if self.run is not None:
                self.watched = Watched(self, self.run)
            else:
                with box("card empty"):
                    text(self.t("ui.no_run"), "ct", tag="h2")
                    text(self.t("ui.no_run_hint"), "ink2")
        await self._poll()
        with self.place:
            ui.timer(POLL_S, self._poll, immediate=False)
        if self.run is None:
            await self.form.begin()

    async def _poll(self) -> None:
        """Look whether anything is new. What did not change is not sent."""
        if self.watched:
            await self.watched.look()
        if self._polls % LIST_EVERY == 0:
            lines = await asyncio.to_thread(self._lines)
            self.form.busy = any(line.state in ("running", "preparing") for line in lines)
            if lines != self._listed:
                self._listed = lines
                self._show_list(lines)
        self._polls += 1

    # What the person asks of the run.

    def _tell(self, word: control.Word) -> None:
        if self.watched is None or self.run is None:
            return
        control.tell(self.house.models.folder(self.run), word)
        self.watched.asked()
        for name, element in self.buttons.items():  # until the run is seen to have heard
            element.set_enabled(word == "save" and name != "save")

    def _go_on(self) -> None:
        if self.run is not None:
            self.house.launcher.resume(self.house.models.folder(self.run).path.name)
            self.show_buttons()

    def _cancel(self) -> None:
        if self.run is not None:
            self.house.launcher.end(self.run)
            ui.navigate.to("/train")

    # The list of runs.

    def _lines(self) -> list[Line]:
        """The runs, those that are only being prepared first, then the one written to last."""
        launcher = self.house.launcher
        starting = [
            Line(name=name, state="preparing" if launch.alive else "failed")
            for name in launcher.names()
            if (launch := launcher.look(name))
        ]
        return starting + [self._line(path) for path in runfolder.run_folders(self.house.models.runs)[:N_LISTED]]

    def _line(self, path: Path) -> Line:
        folder = RunFolder(path)
        log = self.house.logs.of(folder.events)
        log.catch_up()
        with log.lock:
            return Line(
                name=path.name,
                state=_state(folder, log),
                step=log.step,
                steps=log.started.steps if log.started else None,
                n_skipped=len(log.skipped),
            )

    def _show_list(self, lines: list[Line]) -> None:
        t = self.t
        self.list.clear()
        with self.list:
            for line in lines:
                here = {"aria_current": "true"} if line.name == self.run else {}
                with link("", self.visit.href(run=line.name, step=None), "run-line", **here):
                    with box("vs gr"):
                        text(readable(line.name), "m s13 cut")
                        if line.steps is not None:
                            text(f"{numbers.whole(line.step)} / {numbers.whole(line.steps)}", "s12 ink3 num")
                    if line.n_skipped:
                        text("NaN", "tag bad", title=t("train.n_skipped", n=numbers.whole(line.n_skipped)))
                    text(t(f"train.state.{line.state}"), f"tag {_COLORS.get(line.state, '')}")
            if not lines:
                text(t("ui.no_run"), "ink3 s13")


_COLORS = {"running": "a", "preparing": "a", "paused": "a", "diverged": "bad", "failed": "bad"}


class Watched:
    """The run that is looked at: from its text being prepared to its last update."""

    def __init__(self, page: TrainPage, name: str) -> None:
        self.page, self.name, self.t = page, name, page.t
        self.folder: RunFolder | None = None
        self.log: RunLog | None = None
        self._config: Config | None = None
        self._seen: Any = None  # what was shown last
        self.notices = box("notices")
        self.progress = box("progress")
        self.curves = box("stack")
        self.stats: Stats | None = None

    def asked(self) -> None:
        """The run was told something: look at its state anew, whatever was seen."""
        self._seen = None

    async def look(self) -> None:
        """One look at the files: cheap if nothing changed."""
        launch = self.page.house.launcher.look(self.name)
        if not self._open():
            self._show_launch(launch)
            return
        assert self.log is not None
        assert self.folder is not None
        await asyncio.to_thread(self.log.catch_up)
        state = _state(self.folder, self.log)
        if launch and not launch.alive and not launch.error:
            self.page.house.launcher.forget(self.name)
            launch = None
        seen = (state, self.log.version, self.log.epoch, launch)
        if seen != self._seen:
            await self._show(state, launch)
            self._seen = seen

    def _open(self) -> bool:
        """Whether there is a run that has begun. Opened as every run is: only under the folder of runs."""
        if self.log is not None:
            return True
        models = self.page.house.models
        if not (models.runs / self.name / "run.json").exists() and self.page.house.launcher.look(self.name):
            return False
        try:
            self.folder = models.folder(self.name)
        except NudgeError as error:
            if self._seen != error.message:
                self._seen = error.message
                self.page.visit.say(error)
            return False
        if self.folder.events.exists() and not self.folder.events.resolve().is_relative_to(models.runs.resolve()):
            return False
        self.log = self.page.house.logs.of(self.folder.events)
        return True

    # Before there is a run.

    def _show_launch(self, launch: Launch | None) -> None:
        if launch is None or launch == self._seen:
            return
        self._seen = launch
        t = self.t
        self.progress.clear()
        with self.progress, box("card empty preparing"):
            text(readable(self.name), "ct", tag="h2")
            if launch.alive:
                self.page.show_buttons("cancel")
                with box("hs"):
                    ui.spinner(size="20px", color=None)
                    text(self._doing(launch), "ink2", aria_live="polite")
                if launch.preparing:
                    with box("bar", style="width:100%"):
                        bar(launch.preparing.done / max(1, launch.preparing.total), style="background:var(--accent)")
            else:
                self.page.show_buttons()
                message(launch.error or t("train.ended"), launch.hint, kind="bad")
                button(t("train.forget"), self.page.visit.handle(self.page._cancel))

    def _doing(self, launch: Launch) -> str:
        if launch.preparing is None:
            return self.t("train.starting")
        done, total = numbers.size(launch.preparing.done), numbers.size(launch.preparing.total)
        return self.t(f"train.preparing.{launch.preparing.what}", done=done, total=total)

    # The run.

    async def _show(self, state: str, launch: Launch | None) -> None:
        assert self.log is not None
        assert self.folder is not None
        if self._config is None:
            self._config = await asyncio.to_thread(_read_config, self.folder)
        self.progress.clear()
        if self.stats is None:
            self._build()
        self._show_notices(state, launch)
        self._show_buttons(state, launch)
        self.show_curves()
        self.page.visit.subtitle.text = self._about(state)

    def _build(self) -> None:
        assert self.folder is not None
        with self.curves:
            self.stats = Stats(self.t)
            with box("card", tag="section"):
                self.chart = LossChart(self.t)
                self.film = Film(self.t, self.show_curves)
                self.chart.chart.on("place", lambda event: self.film.place(int(event.args)))
            self.rows = Rows(self.t, readable(str(self.folder.events)))

    def show_curves(self) -> None:
        """Everything that is drawn, as it is now."""
        assert self.log is not None
        with self.log.lock:
            self._show_curves(self.log)

    def _show_curves(self, log: RunLog) -> None:
        assert self.stats is not None
        self.stats.show(log)
        self.film.show(log)
        cursor = self.film.cursor
        loss = None if cursor is None else log.loss.at(cursor)
        where = "" if cursor is None else self.t("ui.step", step=numbers.whole(cursor))
        label = where if loss is None else f"{where} · {numbers.fixed(loss)}"
        self.chart.show(log, self._config.model.vocab_size if self._config else None, cursor, label)
        self.rows.show(log)

    def _about(self, state: str) -> str:
        assert self.log is not None
        t, started = self.t, self.log.started
        if started is None:
            return t(f"train.state.{state}")
        parts = [
            readable(self.name),
            *([_data(self._config, t)] if self._config else []),
            t("train.n_params", n=numbers.count(started.n_params, t.language)),
            t("train.machine", device=started.device, dtype=started.dtype, threads=started.threads),
            t(f"train.state.{state}"),
        ]
        if state == "running" and (left_s := self.log.left_s):
            parts.append(t("train.left", time=numbers.duration(left_s, t.language)))
        return " · ".join(parts)

    def _show_notices(self, state: str, launch: Launch | None) -> None:
        assert self.log is not None
        assert self.folder is not None
        t, stopped = self.t, self.log.stopped
        self.notices.clear()
        with self.notices:
            if state == "diverged" and stopped:
                message(t("train.diverged", step=numbers.whole(stopped.step)), stopped.hint, kind="bad")
            elif launch and launch.error:
                forget = self.page.visit.handle(lambda: self.page.house.launcher.forget(self.name))
                message(launch.error, launch.hint, kind="bad", close=forget, close_label=t("ui.close"))
            elif self._config is None and self.folder.run_json.exists():
                message(t("train.unreadable"), kind="bad")

    def _show_buttons(self, state: str, launch: Launch | None) -> None:
        if state == "running":
            self.page.show_buttons("save", "pause", "stop")
        elif state == "paused":
            self.page.show_buttons("resume", "stop")
        elif state == "interrupted" and not (launch and launch.alive):
            self.page.show_buttons("go_on")
        else:
            self.page.show_buttons()


def _state(folder: RunFolder, log: RunLog) -> str:
    """What became of a run, and whether it was told to pause."""
    state = state_of(folder, log.step, log.started, log.stopped)
    if state != "running":
        return state
    try:
        return "paused" if folder.control.read_text(encoding="utf-8").strip() == "pause" else state
    except OSError:
        return state


def _data(config: Config, t: Words) -> str:
    """What the run learns from."""
    paths = config.data.paths
    if not paths:
        return t("train.data_default")
    if paths == (configs.SORTING,):
        return t("train.sorting")
    return readable(Path(paths[0]).name) + (f" +{len(paths) - 1}" if len(paths) > 1 else "")


def _read_config(folder: RunFolder) -> Config | None:
    try:
        return configs.from_dict(files.read_json(folder.run_json)["config"])
    except (NudgeError, KeyError, TypeError):
        return None
