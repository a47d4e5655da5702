"""Knobs: the result. The next token as trained and as turned, and the distance between the two."""

import math
from collections.abc import Sequence
from functools import partial

from nudge.look import Moved, Turned
from nudge.studio.components import bar, box, card, legend, pairs, refill, text
from nudge.studio.models import Opened
from nudge.studio.tokens import show
from nudge.studio.visit import Visit
from nudge.studio.words import Words
from nudge.util import formatting

N_TOP = 10
LOW, HIGH = -3, 1  # powers of ten of nats: the ends of the bar of KL
ROUNDING = 1e-10  # nats: float32 rounds logits by about 1e-6, and KL grows with the square of that


class NextToken:
    """Two bars for each of the likeliest tokens. Those of the base keep their places; new ones stand below."""

    def __init__(self, visit: Visit, opened: Opened) -> None:
        self.t, self.opened = visit.t, opened
        t = self.t
        sides = (t("knobs.base"), "var(--muted-bar)", "square"), (t("knobs.changed"), "var(--accent)", "square")
        with card(t("knobs.next_token"), classes="gr", right=partial(legend, *sides)):
            self.note = text("", "s12 ink3 cut", style="margin:-12px 0 8px")
            self.rows = box("two-bars", aria_live="off")

    def after(self, tail: str) -> None:
        """Show the end of the text that the token follows."""
        self.note.text = self.t("knobs.after", text=tail) if tail else self.t("knobs.start")

    def show(self, turned: Turned, top: Sequence[Moved]) -> None:
        t = self.t
        largest = max(max(moved.before, moved.after) for moved in top)
        with refill(self.rows):
            for place, moved in enumerate(top):
                if place == N_TOP:
                    text(t("knobs.newcomers"), "s12 ink3 newcomers")
                shown = show(self.opened.tokenizer, moved.token, t)
                with box("row"):
                    text(shown.label, f"t {shown.kind}", title=shown.title)
                    _compare(moved.before, moved.after, largest, t)
            if len(top) < len(turned.base):
                before, after = turned.rest(moved.token for moved in top)
                box("hr", style="margin:8px 0")
                with box("row rest"):
                    text(t("knobs.rest"), "s13")
                    _compare(before, after, max(before, after), t)


def _compare(before: float, after: float, largest: float, t: Words) -> None:
    with box("bars"):
        bar(before / largest, "base")
        bar(after / largest, "changed")
    text(formatting.percent(before), "p a", title=t("knobs.base"))
    text(formatting.percent(after), "p b", title=t("knobs.changed"))
    change = formatting.points(after - before)
    way = {"+": "up", formatting.MINUS: "down"}.get(change[0], "")
    text(change if way else "–", f"d {way}", title=t("knobs.points"))


class Distance:
    """KL from the base to the turned network, what was turned, and how long the answer took."""

    def __init__(self, t: Words) -> None:
        self.t = t
        with card(t("knobs.distance")):
            with box("hs wrap", style="align-items:baseline"):
                self.kl = text("0.000", "num kl", aria_live="polite")
                text(t("knobs.kl_note"), "s13 ink2")
            with box("bar kl-bar"):
                self.bar = box()
            with box("hs between"):
                for power in range(LOW, HIGH + 1):
                    text(formatting.significant(10.0**power, 1), "s11 ink3 num")
            self.exact = text("", "exact s12 ink3", style="margin-top:12px")
            with box(style="margin-top:12px"):
                self.moved, self.took = pairs((t("knobs.moved.label"), "–"), (t("knobs.answer"), "–"))

    def show(self, turned: Turned, moved: str, *, took_s: float) -> None:
        t, lowest = self.t, 10.0**LOW
        self.kl.text = formatting.fixed(turned.kl, 3)
        share = (math.log10(max(turned.kl, lowest)) - LOW) / (HIGH - LOW)
        self.bar.style(f"width:{100 * min(1.0, share):.2f}%;background:var(--accent)")
        if turned.same:
            self.exact.text = t("knobs.same")
        elif turned.kl < lowest / 2:  # shown as 0.000
            key = "knobs.rounding" if turned.kl < ROUNDING else "knobs.more_exactly"
            self.exact.text = t(key, n=formatting.significant(turned.kl, 2))
        else:
            self.exact.text = t("knobs.measured")
        self.moved.text = moved
        self.took.text = t("knobs.took", took=formatting.duration(took_s, t.language))
