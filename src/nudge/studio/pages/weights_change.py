"""Weights: the change of every part since another checkpoint."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from nicegui import ui
from nicegui.element import Element

from nudge.look import Difference, Weights
from nudge.studio.components import box, card, named, pressable, refill, shape_of, text, track
from nudge.studio.visit import Visit
from nudge.util import formatting

N_CHANGED = 8
N_NAMES = 5  # of those that do not fit
_PARTS = ("wte", "wpe", "attention", "mlp", "norms", "head", "other")


class ChangeCard:
    """The comparison of the page's file with another one. `choose` is called with a parameter's name."""

    def __init__(self, visit: Visit, choose: Any) -> None:
        self.visit, self.t, self.choose = visit, visit.t, choose
        self.name = self.shown = ""  # the file of the page, and the one it is compared with
        self.other: str | None = None  # the file that the user chose
        self.names: dict[str, str] = {}  # labels of all files
        with card(classes="change-card"):
            with box("ch wrap"):
                self.title = text("", "ct", tag="h2")
                text(self.t("weights.moved"), "s12 ink3")
                box("gr")
                chooser = ui.select({}, on_change=visit.handle(self._chosen))
                self.chooser = named(chooser, self.t("weights.compare_with"), "outlined dense options-dense")
            self.place = box()

    async def show(self, name: str, weights: Weights, names: dict[str, str]) -> None:
        """Compare a file with the one that the user chose, by default with the oldest checkpoint of its run."""
        self.name, self.weights, self.names = name, weights, names
        options = {other: label for other, label in names.items() if other != name}
        before = self.other if self.other in options else next(iter(options), None)
        self.chooser.set_visibility(bool(options))
        self.chooser.set_options(options, value=before)
        if before is None:
            self.title.text = self.t("weights.compare_with")
            with refill(self.place):
                text(self.t("weights.nothing_to_compare"), "s13 ink2")
            return
        await self._compare(before)

    async def _chosen(self, wanted: str | None) -> None:
        if wanted is not None and wanted != self.shown:
            self.other = wanted
            await self._compare(wanted)

    async def _compare(self, before: str) -> None:
        self.shown = before
        t, files, name, here = self.t, self.visit.app.weight_files, self.name, self.weights.step
        label = self.names.get(before, before)
        other = await self.visit.ask(files.open, before, key="difference")
        found = await self.visit.ask(files.difference, before, name, key="difference")
        if (before, name) != (self.shown, self.name):  # others were chosen meanwhile
            return
        same_run = before.partition("/")[0] == name.partition("/")[0]
        if same_run and other.step is not None and here is not None and other.step < here:
            self.title.text = t("weights.since", step=other.step)
        else:
            self.title.text = t("weights.compared", name=label)
        with refill(self.place):
            if found.changes:
                with box("grid changes"):
                    self._show_parts(found)
                    self._show_most(found)
                text(t("weights.compared_note"), "s12 ink3", style="margin-top:12px")
            self._show_misfits(found, label)

    def _show_parts(self, found: Difference) -> None:
        t = self.t
        with box():
            text(t("weights.parts"), "s12 ink3", style="margin-bottom:8px")
            longest = _longest([*found.parts.values(), found.total])
            for part in _PARTS:
                if part in found.parts:
                    key = f"weights.branch.{part}"
                    _line(box, t(key) if t.has(key) else part, found.parts[part], longest, "ink2 s13")
            _line(box, t("weights.all_parts"), found.total, longest, "s13 m")

    def _show_most(self, found: Difference) -> None:
        # NaN first: it is what the user should see.
        most = sorted(found.changes, key=lambda change: (math.isnan(change.relative), change.relative), reverse=True)
        most = most[:N_CHANGED]
        longest = _longest([change.relative for change in most])
        with box():
            text(self.t("weights.most"), "s12 ink3", style="margin-bottom:8px")
            for change in most:
                row = partial(pressable, self.visit.handle(partial(self.choose, change.name)), "")
                _line(row, change.name, change.relative, longest, "mono s12 ink2")

    def _show_misfits(self, found: Difference, before: str) -> None:
        t, lines = self.t, []
        if found.only_before:
            lines.append(t("weights.only_before", name=before, list=self._listed(found.only_before)))
        if found.only_after:
            lines.append(t("weights.only_after", list=self._listed(found.only_after)))
        for name, old, new in found.other_shape[:N_NAMES]:
            lines.append(t("weights.other_shape", name=name, before=shape_of(old), after=shape_of(new)))
        if len(found.other_shape) > N_NAMES:
            lines.append(t("weights.and_more", list="…", n=len(found.other_shape) - N_NAMES))
        if lines:
            with box("callout misfits"):
                text(t("weights.does_not_fit"), "m")
                for line in lines:
                    text(line, "s12")

    def _listed(self, names: tuple[str, ...]) -> str:
        few = ", ".join(names[:N_NAMES])
        more = len(names) - N_NAMES
        return self.t("weights.and_more", list=few, n=more) if more > 0 else few


def _line(row: Callable[..., Element], label: str, value: float, longest: float, classes: str) -> None:
    with row("moved", title=label):
        text(label, f"cut {classes}")
        share, look = (value / longest, "acc-bar") if math.isfinite(value) else (1.0, "bad")
        track(share, f"thin {look}")
        text(formatting.significant(value), "s13 num right", title=repr(value))


def _longest(values: list[float]) -> float:
    return max((value for value in values if math.isfinite(value)), default=0.0) or 1.0
