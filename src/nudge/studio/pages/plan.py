"""Plan: the needs of a training run. The address holds the form's state, so that users can share a plan."""

from nudge.errors import ConfigError
from nudge.plan.planner import Plan, plan
from nudge.plan.speed import validate
from nudge.studio import layout
from nudge.studio.components import box, mark, refill, text
from nudge.studio.page import Page
from nudge.studio.pages import plan_result
from nudge.studio.pages.plan_behind import Behind
from nudge.studio.pages.plan_form import PlanForm
from nudge.studio.pages.plan_ladder import ladder
from nudge.studio.pages.plan_memory import memory
from nudge.studio.pages.plan_question import FIELDS, opening, to_ask


class PlanPage(Page):
    """The form at the left, the result at the right."""

    ladder_of = "time"

    def build(self) -> None:
        visit, found, written = self.visit, validate(), opening(self.visit.query)
        alone, strangers = (f"{found.median_error(other_codes=value):.0%}" for value in (False, True))
        with self.title_row, box("hs"):
            text(self.t("plan.accuracy", alone=alone, strangers=strangers), "s12 ink3 right")
        with box("grid plan"):
            with box("stack"):
                self.form = PlanForm(visit, written, self._changed)
                self.costs = box("stack")
            with box("stack"):
                self.wrong = box("wrong", aria_live="polite")
                self.place = box("stack result")
        self.behind = Behind(visit)
        self._answer(written)

    def _changed(self, written: dict[str, str]) -> None:
        """Update the address, all links to this page, and the result."""
        visit = self.visit
        others = {name: value for name, value in visit.query.items() if name not in FIELDS}
        visit.query = {**others, **written}
        layout.readdress(visit)
        self._answer(written)

    def _answer(self, written: dict[str, str]) -> None:
        answer = None
        with refill(self.wrong):
            try:
                answer = plan(to_ask(written))
            except ConfigError as error:
                self.visit.failure(error)
        for place in (self.place, self.costs):
            mark(place, answer is None, "outdated")
        if answer is not None:
            self._show(answer)

    def _show(self, answer: Plan) -> None:
        t = self.t
        self.form.show(answer)
        with refill(self.costs):
            plan_result.costs(t, answer)
        with refill(self.place):
            plan_result.figures(t, answer)
            memory(t, answer)
            ladder(t, answer, self.ladder_of, self._ladder_turned)
            plan_result.one_change(t, answer)
            plan_result.progress_card(t, answer)
        self.behind.show(answer)

    def _ladder_turned(self, of: str) -> None:
        self.ladder_of = of
