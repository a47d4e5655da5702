"""Plan: the same run on other machines, by time or by cost, each with the uncertainty of its forecast."""

import math
from collections.abc import Callable, Sequence
from functools import partial

from nicegui.element import Element

from nudge.plan.planner import Interval, Plan
from nudge.plan.tables import Rung, rungs
from nudge.studio.components import bar, box, card, choice, legend, refill, text
from nudge.studio.pages.plan_result import with_multiplication_sign
from nudge.studio.words import Words
from nudge.util import formatting

_DAY_H, _YEAR_H = 24.0, 8766.0
TIMES_H = {"minute": 1 / 60, "hour": 1.0, "day": _DAY_H, "week": 7 * _DAY_H, "month": 730.0}
TIMES_H |= {"year": _YEAR_H, "decade": 10 * _YEAR_H, "century": 100 * _YEAR_H}


def ladder(t: Words, plan: Plan, of: str, turned: Callable[[str], None]) -> None:
    """Add the same run on other machines, `of` time or cost, both on a log scale. `turned` gets the other one."""
    machines = rungs(plan, t.language)

    def turn(of: str) -> None:
        turned(of)
        _fill(t, rows, machines, of)

    kinds = {"time": t("plan.time"), "cost": t("plan.cost")}
    right = partial(choice, kinds, of, turn, label=t("plan.ladder_by"))
    with card(t("plan.ladder"), t("plan.ladder_note"), "ladder", right=right):
        rows = box("rows", role="table", aria_label=t("plan.ladder"))
        with box("hs foot"):
            legend(
                (t("plan.rented"), "var(--blue)", "square"),
                (t("plan.owned"), "var(--muted-bar)", "square"),
                (t("plan.yours"), "var(--accent)", "square"),
                (t("plan.interval"), "var(--ink)", "line"),
            )
            box("gr")
            dtype = next((rung.other_dtype for rung in machines if rung.other_dtype), "")
            text(t("plan.other_dtype", dtype=dtype) if dtype else "", "s12 ink3")
    _fill(t, rows, machines, of)


def _fill(t: Words, rows: Element, machines: Sequence[Rung], of: str) -> None:
    scale = _Scale(t, [value for value in (_of(rung.plan, of) for rung in machines) if value], of)
    with refill(rows):
        with box("rung head", role="row"):
            text(t("plan.machine"), role="columnheader")
            with box("track", role="columnheader", aria_label=t(f"plan.{of}")):
                scale.labels()
            text("", role="columnheader")
            for name in ("tokens_s", "gpu_hour", "cost" if of == "time" else "time"):
                text(t(f"plan.{name}"), "right nw", role="columnheader")
        for rung in machines:
            _line(t, rung, of, scale)


def _line(t: Words, rung: Rung, of: str, scale: "_Scale") -> None:
    plan, shown = rung.plan, rung.cells
    kind = "mine" if rung.is_asked else "rented" if plan.ask.price else "owned"
    first, last = (shown.time, shown.cost) if of == "time" else (shown.cost, shown.time)
    with box(f"rung {kind}" + ("" if plan.fits else " unfit"), role="row"):
        with box("name", role="cell"):
            text(with_multiplication_sign(rung.machine), "cut", title=plan.ask.device.title)
            if not plan.fits:
                text(t("plan.fits_not"), "s12 bad")
        with box("track", role="cell"):
            scale.lines()
            scale.bar(_of(plan, of))
        text(first, "num nw value", role="cell")
        text(shown.tokens_per_s, "num right ink2", role="cell")
        text(rung.price, "num right ink2", role="cell")
        text(last, "num right nw value", role="cell")


def _of(plan: Plan, what: str) -> Interval | None:
    return plan.hours if what == "time" else plan.usd


class _Scale:
    """A log scale that holds all values."""

    def __init__(self, t: Words, values: Sequence[Interval], of: str) -> None:
        self.t = t
        low, high = min((v.low for v in values), default=1.0), max((v.high for v in values), default=1.0)
        low = max(low, 1e-9)
        self.start, self.end = math.log(low / 2), math.log(max(high, low) * 1.2)
        if of == "time":
            marks = [(hours, t(f"plan.ticks.{name}")) for name, hours in TIMES_H.items()]
        else:
            sums = (times * 10.0**n for n in range(-2, 13) for times in (1, 2, 5))
            marks = [(usd, formatting.dollars(usd).removesuffix(".00")) for usd in sums]
        self.ticks = [(value, label) for value, label in marks if self.start <= math.log(value) <= self.end]

    def at(self, value: float) -> float:
        """Return the position of a value, in percent of the scale's width."""
        return min(100.0, max(0.0, 100 * (math.log(max(value, 1e-9)) - self.start) / (self.end - self.start)))

    def labels(self) -> None:
        """Add as many labels as fit; a narrow page hides the dense ones."""
        last = last_wide = -100.0
        for value, label in self.ticks:
            here = self.at(value)
            if here - last >= 13:  # else they would touch
                wide = here - last_wide >= 26
                text(label, "tick nw" if wide else "tick nw dense", style=f"left:{here:.2f}%")
                last, last_wide = here, here if wide else last_wide

    def lines(self) -> None:
        for value, _ in self.ticks:
            box("gridline", style=f"left:{self.at(value):.2f}%")

    def bar(self, value: Interval | None) -> None:
        """Add a bar up to the likely value, and a line over the interval that holds four runs in five."""
        if value is None:
            return
        bar(self.at(value.likely) / 100, "ladder-bar")
        low, high = self.at(value.low), self.at(value.high)
        box("whisker", style=f"left:{low:.2f}%;width:{high - low:.2f}%")
