"""Plan: the background of its numbers: every formula, the accuracy of such forecasts, and the lecture's figures."""

from collections.abc import Callable
from functools import partial

from nudge.plan import lecture, published, speed, tables
from nudge.plan.explain import formulas
from nudge.plan.planner import Plan
from nudge.plan.speed import WITHIN
from nudge.studio.components import box, icon, refill, table, text
from nudge.studio.pages.plan_result import with_multiplication_sign
from nudge.studio.visit import Visit
from nudge.util import formatting

_WIDEST = 0.5  # at the ends of the scale of errors


class Fold:
    """A card that opens. `fill` adds its content when it is opened."""

    def __init__(self, title: str, note: str, fill: Callable[[], None]) -> None:
        self.fill, self.is_open = fill, False
        with box("card fold", tag="details") as details:
            with box("", tag="summary"):
                text(title, "ct", tag="h2")
                text(note, "s12 ink3 gr")
                icon("expand_more", "chev")
            self.place = box("stack folded")
        details.on("toggle", self._toggled, js_handler="(event) => emit(event.target.open)")

    def _toggled(self, event: object) -> None:
        self.is_open = bool(getattr(event, "args", False))
        self.refresh()

    def refresh(self) -> None:
        """Fill the card again if it is open."""
        with refill(self.place):
            if self.is_open:
                self.fill()


class Behind:
    """Three cards that open."""

    def __init__(self, visit: Visit) -> None:
        self.t = t = visit.t
        self.plan: Plan | None = None
        self.formulas, *_ = (
            Fold(t(f"plan.{name}"), t(f"plan.{name}_note"), fill)
            for name, fill in (
                ("formulas", self._formulas),
                ("validation", self._validation),
                ("lecture", self._lecture),
            )
        )

    def show(self, plan: Plan) -> None:
        """Show the formulas of a plan. The other cards do not depend on the plan."""
        self.plan = plan
        self.formulas.refresh()

    def _heads(self, of: str, *names: str) -> list[str]:
        return [self.t(f"plan.of_{of}.{name}") for name in names]

    def _formulas(self) -> None:
        if self.plan is None:
            return
        with box("formulas", tag="dl"):
            for formula in formulas(self.plan):
                text(self.t(f"plan.formula.{formula.name}"), tag="dt")
                with box(tag="dd"):
                    with box("expression"):
                        text(f"{formula.expression} =", "mono s12 ink2", tag="span")
                        text(formula.shown, "mono s13 acc m nw", tag="span")
                    text(formula.source, "s12 ink3", lang="en")

    def _validation(self) -> None:
        """Show the accuracy of such forecasts."""
        t, found = self.t, speed.validate()
        with box("verdict"):
            for other_codes, name in ((False, "alone"), (True, "strangers")):
                with box():
                    text(t(f"plan.held_out.{name}"), "eyebrow")
                    with box("v"):
                        text(f"{found.median_error(other_codes=other_codes):.0%}", "b", tag="span")
                        text(t("plan.median"), "u", tag="span")
                    share = f"{found.share_within(other_codes=other_codes):.0%}"
                    text(t("plan.within", share=share, within=f"{WITHIN:.0%}"), "s12 ink2")
                    box(f"sw dot {name}")
        heads = self._heads("run", "run", "unit", "published", "alone", "error", "strangers", "error")
        with box("scroll"), table(*heads, t("plan.of_run.dots", most=f"{_WIDEST:.0%}"), classes="validation"):
            for row in found.rows:
                name, *shown = tables.forecast(row)
                with box(tag="tr"):
                    text(with_multiplication_sign(name), tag="th", scope="row", title=row.run.source)
                    for cell in shown:
                        text(cell, tag="td")
                    _dots(row.error, row.error_by_other_codes)
        with box("vs left-out"):
            for run in found.left_out:
                text(t("plan.left_out", run=with_multiplication_sign(run.name), why=run.why_left_out), "s12 ink3")

    def _lecture(self) -> None:
        t = self.t
        text(t("plan.lecture_costs"), "b s13", tag="h3")
        self._costs()
        text(t("plan.corrections"), "b s13", tag="h3")
        with box("corrections", tag="dl"):
            for n, correction in enumerate(published.CORRECTIONS):
                text(t(f"plan.said.{n}"), "ink2", tag="dt")
                with box(tag="dd"):
                    text(t(f"plan.right.{n}"))
                    text(correction.source, "s12 ink3", lang="en")
        text(t("plan.models"), "b s13", tag="h3")
        self._models()

    def _costs(self) -> None:
        t = self.t
        heads = self._heads("gpt2", "when", "price", "on", "took", "status", "source")
        with box("scroll"), table(*heads, classes="lecture"):
            for cost in published.LECTURE_COSTS:
                took = formatting.about(cost.hours, t.language) if cost.hours else tables.NONE
                when = t(f"plan.when.{cost.when}") if t.has(f"plan.when.{cost.when}") else cost.when
                machine = with_multiplication_sign(cost.machine) if cost.hours else tables.NONE
                numbers = (formatting.dollars(cost.usd), machine, took)
                self._cost_row(when, numbers, cost.status, with_multiplication_sign(cost.source))
            today = lecture.gpt2_today()
            if today.usd:
                shown = tables.cells(today, t.language)
                took, price = f"{shown.time} ({shown.time_interval})", f"{shown.cost} ({shown.cost_interval})"
                numbers = (price, f"{today.ask.count} × H100", took)
                self._cost_row(t("plan.forecast"), numbers, "forecast", "nudge plan gpt2_xl")

    def _cost_row(self, when: str, numbers: tuple[str, ...], status: str, source: str) -> None:
        with box(tag="tr"):
            text(when, tag="th", scope="row")
            for cell in numbers:
                text(cell, "nw", tag="td")
            with box(tag="td"):
                text(self.t(f"plan.status.{status}"), "tag nw", tag="span")
            text(source, "s12 ink3", tag="td", lang="en")

    def _models(self) -> None:
        heads = self._heads("model", "name", "year", "parameters", "context", "tokens", "ratio", "work")
        with box("scroll"), table(*heads, classes="models"):
            for model, compared in tables.models(partial(formatting.count, language=self.t.language)):
                with box(tag="tr"):
                    text(model.name, tag="th", scope="row", title=model.source)
                    text(str(model.year), tag="td")
                    for shown, times in compared:
                        with box("nw", tag="td"):
                            text(shown, tag="span")
                            if times:
                                text(f" {times}×", "acc s12", tag="span")
        text(" · ".join(f"{model.name}: {model.source}" for model in lecture.MODELS), "s12 ink3", lang="en")


def _dots(*errors: float) -> None:
    """Add both errors on a line from -50% to +50%, in front of the band that should contain nine of ten errors."""
    with box("dots", tag="td", aria_hidden="true"), box("error-line"):
        box("band", style=f"left:{_at(-WITHIN):.1f}%;width:{_at(WITHIN) - _at(-WITHIN):.1f}%")
        box("zero")
        for error, name in zip(errors, ("alone", "strangers"), strict=True):
            box(f"at {name}", style=f"left:{_at(error):.1f}%")


def _at(error: float) -> float:
    return 50 + 50 * min(1.0, max(-1.0, error / _WIDEST))
