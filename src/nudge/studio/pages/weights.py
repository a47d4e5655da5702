"""Weights: what is in a checkpoint: every parameter, its shape, its role and its values; and how far it moved."""

import asyncio
from collections.abc import Sequence

from nicegui import background_tasks, ui

from nudge.errors import CheckpointError, NudgeError
from nudge.look import Stored, Weights
from nudge.studio import layout
from nudge.studio.components import box, card, icon, link, message, named, refill, slider, text
from nudge.studio.page import Page
from nudge.studio.pages.weights_change import ChangeCard
from nudge.studio.pages.weights_rows import RowCard
from nudge.studio.pages.weights_tensor import ParameterCard
from nudge.studio.pages.weights_tree import Tree, share_bar
from nudge.studio.visit import after
from nudge.studio.worker import SupersededError
from nudge.util import formatting

FIRST = "wte.weight"  # the parameter that is shown first
REST_S = 1.0  # that a file is looked at before all of it is read for its checksum: a slider passes many
LOOK_S = 2.0  # between two looks whether the run saved a checkpoint


class WeightsPage(Page):
    """One person's view: a file, and the parameter in it that is looked at."""

    name = ""  # of the file that is shown; as long as there is none, there are no weights
    weights: Weights
    chosen = FIRST
    seen: int | None = None  # what the run's folder said when it was listed
    passed_over: Sequence[str] = ()

    def build(self) -> None:
        """The places; they are filled when the file is read."""
        t, self.files = self.t, self.visit.house.weight_files
        with self.title_row, box("hs"), link("", "", "q-btn ghost as-link") as self.to_inside:
            icon("arrow_forward", "on-left")
            text(t("weights.to_inside"), tag="span")
        self.to_inside.set_visibility(False)
        if self.visit.run is None and not self.visit.query.get("file"):
            return self.no_run()
        with card(classes="tight"), box("hs wrap file-row"):
            with box("hs wrap file-row gr") as self.steps:
                self.slider = slider(t("weights.step"), self.visit.handle(self._slid), width=280)
                self.step_text = text("", "s13 num nw", aria_live="polite")
                self.steps_note = text("", "s12 ink3")
            self.steps.set_visibility(False)
            text(t("weights.file"), "s13 m")
            chooser = ui.select({}, on_change=self.visit.handle(self._picked))
            self.chooser = named(chooser, t("weights.file"), "outlined dense options-dense")
        self.notes = box("notes-top")
        self.place = box("content")
        after(0, self.visit.handle(self._begin))

    # Which file.

    async def _begin(self) -> None:
        visit = self.visit
        try:
            await self._list()
            ui.timer(LOOK_S, self.visit.handle(self._look_again))
            if wanted := visit.query.get("file"):
                await self.show(wanted)
            elif visit.run is not None and visit.step is not None:
                await self.show(self.files.of_step(visit.run, visit.step))
            elif visit.run is not None:
                name, self.passed_over = await visit.ask(self.files.newest, visit.run, key="file")
                await self.show(name)
        except SupersededError:
            return
        except NudgeError as error:
            if self.name:  # the file is shown, but for a part of it
                raise
            with self.place:
                message(error.message, error.hint, kind="bad")
                text(self.t("weights.choose_other"), "s13 ink2")

    async def _list(self) -> None:
        """Ask which files there are."""
        run = self.visit.run
        self.seen = self._stamp()
        self.of_run: list[str] = await asyncio.to_thread(self.files.of_run, run) if run is not None else []
        self.elsewhere = await asyncio.to_thread(self.files.elsewhere, run)
        self._show_chooser()

    def _stamp(self) -> int | None:
        """What changes when the run saves or deletes a checkpoint."""
        if self.visit.run is None:
            return None
        try:
            return self.visit.house.models.folder(self.visit.run).checkpoints.stat().st_mtime_ns
        except (OSError, NudgeError):
            return None

    async def _look_again(self) -> None:
        if self._stamp() != self.seen:
            await self._list()

    @property
    def names(self) -> dict[str, str]:
        """All files, as they are called on the page: beside another step of the same run, the step is enough."""
        short = not self.name or self.name in self.of_run
        names = {name: self._label(name, short=short) for name in self.of_run}
        return names | {name: self._label(name) for name in self.elsewhere if name not in names}

    def _label(self, name: str, *, short: bool = False) -> str:
        step = _step_of(name)
        if step is None:
            return name
        said = self.t("ui.step", step=formatting.whole(step))
        return said if short else f"{name.partition('/')[0]} · {said}"

    def _show_chooser(self) -> None:
        t, n = self.t, len(self.of_run)
        is_step = self.name in self.of_run
        self.steps.set_visibility(is_step)
        if is_step:
            self.slider.props["max"] = max(1, n - 1)
            self.slider.set_enabled(n > 1)
            self.slider.value = self.of_run.index(self.name)
        self.steps_note.text = t("weights.checkpoints", n=n) if n > 1 else t("weights.one_checkpoint")
        names = self.names | ({self.name: self._label(self.name)} if self.name not in self.names and self.name else {})
        self.chooser.set_options(names, value=self.name or None)

    async def _slid(self, at: float) -> None:
        if at < len(self.of_run):
            await self._picked(self.of_run[int(at)])

    async def _picked(self, name: str | None) -> None:
        if name is not None and name != self.name:
            self.passed_over = ()
            try:
                await self.show(name)
            except CheckpointError:
                self._show_chooser()  # back to what is shown
                raise

    # What is in it.

    async def show(self, name: str) -> None:
        """Show a file. Raises: CheckpointError; then the page is as it was."""
        weights = await self.visit.ask(self.files.open, name, key="file")
        is_alike = bool(self.name) and self.weights.parameters == weights.parameters
        self.name, self.weights = name, weights
        self.visit.banner.clear()
        await self._show_where()
        if not is_alike:
            self._build_content(weights)
        self._show_facts(weights)
        background_tasks.create(self._check(name))
        await self.choose(self.chosen)
        await self.row_card.show(name, weights)
        await self.change_card.show(name, weights, self.names)

    async def _show_where(self) -> None:
        """The file in the address, at the top, and in the choosers."""
        query, step, run = self.visit.query, self.weights.step, _run_of(self.name)
        is_another = run not in (None, self.visit.run)
        for key in ("file", "step"):
            query.pop(key, None)
        if run is not None:
            query |= {"run": run} | ({} if step is None else {"step": str(step)})
            self.to_inside.props["href"] = self.visit.href("inside")
        address = self.visit.href() if run is not None else self.visit.href(file=self.name)
        self.to_inside.set_visibility(run is not None)
        if is_another:
            await self._list()
        layout.readdress(self.visit, address)
        self.step_text.text = self.t("ui.step", step=formatting.whole(step)) if step is not None else ""
        self._show_chooser()
        self._show_about()

    def _show_about(self) -> None:
        t, weights = self.t, self.weights
        dtypes = ", ".join(sorted({parameter.dtype for parameter in weights.parameters}))
        facts = [self.name, formatting.size(weights.n_bytes), dtypes]
        if weights.format == "nudge":
            facts.append(t(f"weights.sum_{weights.checksum.replace(' ', '_')}"))
        self.visit.subtitle.text = " · ".join(facts)
        with refill(self.notes):
            if self.passed_over:
                message(t("weights.passed_over"), "; ".join(self.passed_over))

    async def _check(self, name: str) -> None:
        """Compare the checksum, beside everything else: it reads all of the file."""
        if self.weights.checksum != "not checked":
            return
        try:
            await asyncio.sleep(REST_S)
            if name != self.name:
                return
            checked = await self.files.checker.ask(self.files.check, name, key=id(self))
        except SupersededError:
            return
        except NudgeError as error:
            if name == self.name:
                self.visit.say(error)
            return
        if name == self.name:
            self.weights = checked
            self._show_about()

    def _build_content(self, weights: Weights) -> None:
        t = self.t
        with refill(self.place), box("grid weights"):
            with box("stack"):
                n, tensors = formatting.whole(weights.total), formatting.whole(len(weights.parameters))
                with card(t("weights.parameters"), t("weights.numbers_in", n=n, tensors=tensors)):
                    share_bar(weights, self.visit)
                    self.tree = Tree(weights, self.visit, self.choose)
                    box("hr")
                    text(t("weights.also"), "b s13", tag="h3", style="margin:0 0 8px")
                    self.also = box("figures also", tag="dl")
                self.change_card = ChangeCard(self.visit, self.reveal)
            with box("stack"):
                self.parameter_card = ParameterCard(self.visit)
                self.row_card = RowCard(self.visit)

    def _show_facts(self, weights: Weights) -> None:
        """What the file keeps beside the weights."""
        t = self.t
        with refill(self.also):
            for stored in weights.stored:
                self._fact(*self._stored(stored))
            if weights.step is not None:
                self._fact(t("weights.updates"), formatting.whole(weights.step))
            if weights.tokens_seen is not None:
                seen = weights.tokens_seen
                self._fact(t("weights.tokens_seen"), formatting.count(seen, t.language), title=formatting.whole(seen))
            if not weights.stored and weights.step is None:
                text(t("weights.nothing_else"), "s13 ink3")

    def _stored(self, stored: Stored) -> tuple[str, str, str]:
        label = f"weights.stored.{stored.name}"
        name = self.t(label) if self.t.has(label) else stored.name
        return name, formatting.count(stored.n, self.t.language), f"{stored.dtype} · {formatting.size(stored.n_bytes)}"

    def _fact(self, name: str, value: str, note: str = "", **attributes: str) -> None:
        with box():
            text(name, "s12 ink3 cut", tag="dt", title=name)
            text(value, "s13 num m", tag="dd", **attributes)
            if note:
                text(note, "s12 ink3 nw", tag="dd")

    async def reveal(self, parameter: str) -> None:
        """Look at a parameter that was named elsewhere on the page, and bring it into view."""
        await self.choose(parameter)
        self.tree.scroll_to(parameter)

    async def choose(self, parameter: str) -> None:
        """Look at one parameter; at the first one if there is none of that name."""
        parameters = {found.name: found for found in self.weights.parameters}
        if not parameters:
            return
        found = parameters.get(parameter) or next(iter(parameters.values()))
        self.chosen = found.name
        self.tree.mark(found.name)
        await self.parameter_card.show(self.name, self.weights, found)


def _step_of(name: str) -> int | None:
    """The step that a checkpoint's name says."""
    stem = name.rpartition("/")[2].removesuffix(".pt").removesuffix(".parts")
    number = stem.removeprefix("step_")
    return int(number) if stem.startswith("step_") and number.isdecimal() else None


def _run_of(name: str) -> str | None:
    """The run that a file is a checkpoint of: RUN/checkpoints/step_N.pt or .parts, or RUN/ckpt.pt."""
    run, _, place = name.partition("/")
    return run if place == "ckpt.pt" or (place.startswith("checkpoints/") and _step_of(name) is not None) else None
