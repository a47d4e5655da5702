"""Weights: how far each part is from where it was in another checkpoint."""

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING

from nicegui import ui

from nudge import runfolder
from nudge.look import Difference, difference, weights
from nudge.studio import numbers
from nudge.studio.kit import bar, box, card, text

if TYPE_CHECKING:
    from nudge.studio.pages.weights import WeightsPage

N_CHANGES = 5


def compared(before: Path, after: Path) -> Difference:
    """The difference of two checkpoints; both files are read once, however often it is asked for."""
    return _compared(before, before.stat().st_mtime_ns, after, after.stat().st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _compared(before: Path, _before_time: int, after: Path, _after_time: int) -> Difference:
    return difference(weights(before, verify=False), weights(after, verify=False))


class DifferenceCard:
    """Another checkpoint to choose; |dW|/|W| of each part, and the parameters that moved most."""

    def __init__(self, page: "WeightsPage") -> None:
        self.page, self.t, self.visit = page, page.t, page.visit
        self.others = self._others()
        t = self.t
        with card(t("weights.compare"), t("weights.how_far"), classes="gr"):
            if not self.others:
                text(t("weights.nothing_to_compare"), "s13 ink2")
                return
            chooser = ui.select(list(self.others), value=next(iter(self.others))).props("outlined dense options-dense")
            chooser.props["aria-label"] = t("weights.compare")
            chooser.on_value_change(self.visit.handle(self._chosen))
            self.result = box("neighbours")

    def _others(self) -> dict[str, tuple[str, int | None]]:
        """The other checkpoints of this run, the oldest first, then the other runs by name."""
        models = self.visit.house.models
        steps = [step for step in models.steps(self.page.run) if step != self.page.opened.step]
        others: dict[str, tuple[str, int | None]] = {
            f"{self.page.run} · {self.t('ui.step', step=numbers.whole(step))}": (self.page.run, step) for step in steps
        }
        names = [path.name for path in runfolder.run_folders(models.runs) if path.name != self.page.run]
        return others | {name: (name, None) for name in names}

    async def begin(self) -> None:
        """Compare with the first of them."""
        if self.others:
            await self._show(next(iter(self.others)))

    async def _chosen(self, event: object) -> None:
        await self._show(str(getattr(event, "value", "")))

    async def _show(self, chosen: str) -> None:
        models = self.visit.house.models
        before = models.checked(*self.others[chosen]).resolve()
        found = await self.visit.ask(compared, before, self.page.opened.path, key="difference")
        t = self.t
        self.result.clear()
        with self.result:
            parts = [(t(f"weights.part.{part}"), value) for part, value in found.parts.items()]
            self._rows(parts, "accent")
            most = sorted(found.changes, key=lambda change: -_comparable(change.relative))[:N_CHANGES]
            if most:
                text(t("weights.moved_most"), "b s13", style="margin-top:12px")
                self._rows([(change.name, change.relative) for change in most], "thin")
            n_alone = len(found.only_before) + len(found.only_after)
            if n_alone or found.other_shape:
                text(t("weights.do_not_fit", alone=n_alone, shapes=len(found.other_shape)), "s12 ink3")
            text(t("weights.ratio_note"), "s12 ink3", style="margin-top:8px")

    def _rows(self, rows: list[tuple[str, float]], look: str) -> None:
        largest = max((_comparable(value) for _, value in rows if math.isfinite(value)), default=1.0) or 1.0
        for name, value in rows:
            with box("near wide"):
                text(name, "mono s12 ink2 cut", title=name)
                bar(min(1.0, _comparable(value) / largest), f"thin {look}")
                text(numbers.significant(value, 2), "s13 num right")


def _comparable(value: float) -> float:
    """NaN moved least, for sorting."""
    return -1.0 if math.isnan(value) else value
