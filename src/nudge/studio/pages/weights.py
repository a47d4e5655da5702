"""Weights: a checkpoint's parameters with their shapes, roles, values and changes."""

import asyncio
from collections.abc import Sequence

from nicegui import background_tasks, ui

from nudge.errors import NudgeError
from nudge.look import Weights
from nudge.studio import layout
from nudge.studio.components import box, card, figure, icon, link, message, named, refill, slider, text
from nudge.studio.page import Page
from nudge.studio.pages.weights_change import ChangeCard
from nudge.studio.pages.weights_rows import RowCard
from nudge.studio.pages.weights_tensor import ParameterCard
from nudge.studio.pages.weights_tree import Tree, share_bar
from nudge.studio.visit import when_connected
from nudge.studio.worker import SupersededError
from nudge.util import formatting

FIRST = "wte.weight"  # the parameter that is shown first
REST_S = 1.0  # a file is read completely for its checksum when it was shown for so long: a slider passes many
LOOK_S = 2.0  # between two looks for new checkpoints


class WeightsPage(Page):
    """A file, and one parameter in it."""

    name = ""  # of the file that is shown; while it is "", there are no weights
    weights: Weights
    chosen = FIRST
    seen: int | None = None  # the stamp of the run's folder when it was listed
    passed_over: Sequence[str] = ()

    def build(self) -> None:
        t, self.files = self.t, self.visit.app.weight_files
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
        when_connected(self.visit.handle(self._begin))

    async def _begin(self) -> None:
        visit = self.visit
        try:
            await self._list()
            ui.timer(LOOK_S, self.visit.handle(self._look_again))
            if wanted := visit.query.get("file"):
                await self.show(wanted)
            elif visit.run is not None and visit.step is not None:
                await self.show(self.files.step_file(visit.run, visit.step))
            elif visit.run is not None:
                name, self.passed_over = await visit.ask(self.files.newest, visit.run, key="file")
                await self.show(name)
        except NudgeError as error:
            if self.name:  # the file is shown, except for a part of it
                raise
            with self.place:
                self.visit.failure(error)
                text(self.t("weights.choose_other"), "s13 ink2")

    async def _list(self) -> None:
        """List the files."""
        run = self.visit.run
        self.seen = self._stamp()
        self.run_files: list[str] = await asyncio.to_thread(self.files.run_files, run) if run is not None else []
        self.elsewhere = await asyncio.to_thread(self.files.elsewhere, run)
        self._show_chooser()

    def _stamp(self) -> int | None:
        """Return a value that changes when the run saves or deletes a checkpoint."""
        if self.visit.run is None:
            return None
        try:
            return self.visit.app.models.folder(self.visit.run).checkpoints.stat().st_mtime_ns
        except (OSError, NudgeError):
            return None

    async def _look_again(self) -> None:
        if self._stamp() != self.seen:
            await self._list()

    @property
    def names(self) -> dict[str, str]:
        """Return the labels of all files. For files of the same run, the label is only the step."""
        short = not self.name or self.name in self.run_files
        names = {name: self._label(name) for name in (*self.run_files, *self.elsewhere)}
        return names | ({name: self._label(name, short=True) for name in self.run_files} if short else {})

    def _label(self, name: str, *, short: bool = False) -> str:
        step = _step_of(name)
        if step is None:
            return name
        label = self.t("ui.step", step=step)
        return label if short else f"{name.partition('/')[0]} · {label}"

    def _show_chooser(self) -> None:
        t, n = self.t, len(self.run_files)
        is_step = self.name in self.run_files
        self.steps.set_visibility(is_step)
        if is_step:
            self.slider.props["max"] = max(1, n - 1)
            self.slider.set_enabled(n > 1)
            self.slider.value = self.run_files.index(self.name)
        self.steps_note.text = t("weights.checkpoints", n=n) if n > 1 else t("weights.one_checkpoint")
        names = self.names
        if self.name:
            names.setdefault(self.name, self._label(self.name))  # it may be listed nowhere
        self.chooser.set_options(names, value=self.name or None)

    async def _slid(self, at: float) -> None:
        if at < len(self.run_files):
            await self._picked(self.run_files[int(at)])

    async def _picked(self, name: str | None) -> None:
        if name is not None and name != self.name:
            self.passed_over = ()
            try:
                await self.show(name)
            except NudgeError:
                self._show_chooser()  # back to the file that is shown
                raise

    async def show(self, name: str) -> None:
        """Show a file. Raises: NudgeError's children; then the page is as it was."""
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
        """Show the file's name in the address, in the bar and in the choosers."""
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
        self.step_text.text = self.t("ui.step", step=step) if step is not None else ""
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
        """Compare the checksum in the background, because it takes reading the whole file."""
        if self.weights.checksum != "not checked":
            return
        await asyncio.sleep(REST_S)
        if name != self.name:
            return
        try:
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
                note = t("weights.numbers_in", n=weights.total, tensors=len(weights.parameters))
                with card(t("weights.parameters"), note):
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
        """Show the contents of the file besides the parameters."""
        t, look = self.t, "s13 num m"
        with refill(self.also):
            for stored in weights.stored:
                label, note = f"weights.stored.{stored.name}", f"{stored.dtype} · {formatting.size(stored.n_bytes)}"
                name = t(label) if t.has(label) else stored.name
                figure(name, formatting.count(stored.n, t.language), look, note)
            if weights.step is not None:
                figure(t("weights.updates"), formatting.whole(weights.step), look)
            if (seen := weights.tokens_seen) is not None:
                title = formatting.whole(seen)
                figure(t("weights.tokens_seen"), formatting.count(seen, t.language), look, title=title)
            if not weights.stored and weights.step is None:
                text(t("weights.nothing_else"), "s13 ink3")

    async def reveal(self, parameter: str) -> None:
        """Choose a parameter that another card names, and scroll to it."""
        await self.choose(parameter)
        self.tree.scroll_to(parameter)

    async def choose(self, parameter: str) -> None:
        """Show one parameter, or the first one if there is none of that name."""
        parameters = {found.name: found for found in self.weights.parameters}
        if not parameters:
            return
        found = parameters.get(parameter) or next(iter(parameters.values()))
        self.chosen = found.name
        self.tree.mark(found.name)
        await self.parameter_card.show(self.name, self.weights, found)


def _step_of(name: str) -> int | None:
    """Return the step in a checkpoint's name."""
    stem = name.rpartition("/")[2].removesuffix(".pt").removesuffix(".parts")
    number = stem.removeprefix("step_")
    return int(number) if stem.startswith("step_") and number.isdecimal() else None


def _run_of(name: str) -> str | None:
    """Return the run that a file is a checkpoint of: RUN/checkpoints/step_N.pt or .parts, or RUN/ckpt.pt."""
    run, _, place = name.partition("/")
    return run if place == "ckpt.pt" or (place.startswith("checkpoints/") and _step_of(name) is not None) else None
