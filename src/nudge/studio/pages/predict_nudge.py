"""Predict: the card that makes one real update on a copy, and shows its effect."""

import math
from collections.abc import Awaitable, Callable
from functools import partial

from nicegui import ui

from nudge.look import Nudge, Prediction, control_contexts, nudge_once
from nudge.studio.components import box, button, card, choice, diverging, field, named, pairs, refill, text, track
from nudge.studio.models import Opened
from nudge.studio.tokens import show
from nudge.studio.visit import Visit
from nudge.util import formatting

RATES = {"sgd": (-4.0, 1.0, -3.0), "adamw": (-6.0, -1.0, -4.0)}  # log10: lowest, highest, initial
N_MOVED = 6


class NudgeCard:
    """Target, learning rate and optimizer; below, before and after. `changed` is called when the network changes."""

    def __init__(self, visit: Visit, opened: Opened, changed: Callable[[], Awaitable[None]]) -> None:
        self.visit, self.opened, self.t, self.changed = visit, opened, visit.t, changed
        self.prediction: Prediction | None = None  # in the context of the target
        self.target: int | None = None
        self.optimizer = "sgd"
        self.done: Nudge | None = None
        self.base = opened.network  # the network before the update
        t = self.t
        with card(t("nudge.title"), t("nudge.note")):
            with box("grid halves"):
                with field(t("nudge.target"), tag="div"):
                    self.target_text = text("", "target mono")
                with field(t("nudge.optimizer"), tag="div"):
                    kinds = {"sgd": "SGD", "adamw": "AdamW"}
                    choice(kinds, "sgd", self.visit.handle(self._choose), label=t("nudge.optimizer"), classes="wide")
            text(t("nudge.choose"), "s12 ink3", style="margin-top:8px")
            with box("hs between", style="margin-top:16px"):
                text(t("nudge.rate"), "s13 ink2 m")
                self.rate_text = text("", "s13 num b")
            low, high, start = RATES["sgd"]
            slider = ui.slider(min=low, max=high, step=0.05, value=start, on_change=self._show_rate)
            self.slider = named(slider, t("nudge.rate"))
            with box("hs between", style="margin-top:-4px"):
                text(t("nudge.gentle"), "s11 ink3")
                text(t("nudge.overshoots"), "s11 ink3")
            button(t("nudge.once"), self.visit.handle(lambda: self._update(self.rate)), kind="prim full")
            button(t("nudge.lecture"), self.visit.handle(lambda: self._update(None)), kind="quiet small full")
            self.result = box()
            self.kept = box()
        self._show_rate()
        self._show_kept()

    @property
    def rate(self) -> float:
        return float(10.0 ** float(self.slider.value))

    def aim(self, prediction: Prediction, token: int) -> None:
        """Make a token the target. The result for another target is removed."""
        self.prediction, self.target = prediction, token
        self.target_text.text = self._label(token)
        if self.done is not None and self.done.target != token:
            self.forget()

    def _label(self, token: int) -> str:
        return show(self.opened.tokenizer, token, self.t).label

    def forget(self) -> None:
        """Remove the result."""
        self.done = None
        self.result.clear()
        self._show_kept()

    def _show_rate(self, _: object = None) -> None:
        self.rate_text.text = formatting.significant(self.rate, 2)

    async def _choose(self, optimizer: str) -> None:
        self.optimizer = optimizer
        low, high, start = RATES[optimizer]
        self.slider.props.update({"min": low, "max": high})
        self.slider.value = start

    async def _update(self, lr: float | None) -> None:
        target, prediction, model = self.target, self.prediction, self.opened.model
        if target is None or prediction is None:
            return
        context, kind = prediction.context, self.optimizer
        controls = await self.visit.ask(control_contexts, model, context)
        done = await self.visit.ask(
            nudge_once, model.network, context, target, lr, optimizer=kind, controls=controls, key="nudge"
        )
        same = target == self.target and prediction is self.prediction and model is self.opened.model
        if not same:  # meanwhile the user has moved on
            return
        self.done, self.base = done, model.network
        low, high, _ = RATES[self.optimizer]
        self.slider.value = min(high, max(low, math.log10(max(done.lr, 1e-12))))
        self._show(done)

    def _show(self, done: Nudge) -> None:
        t = self.t
        with refill(self.result):
            box("hr", style="margin:20px 0 16px")
            with box("ba"):
                text("")
                text(t("nudge.before"), "s12 ink3 right")
                text("")
                text(t("nudge.after"), "s12 ink3 right")
                percent, whole, fixed = formatting.percent, formatting.whole, partial(formatting.fixed, decimals=3)
                for name, before, after, written in (
                    ("probability", done.probability_before, done.probability_after, percent),
                    ("rank", done.rank_before, done.rank_after, whole),
                    ("loss", done.loss_before, done.loss_after, fixed),
                ):
                    text(t(f"nudge.{name}"), "s13 ink2")
                    text(written(before), "bf")
                    text("→", "ar", aria_hidden="true")
                    text(written(after), "af acc")
            self._show_change(done)
            self._show_moved(done)
            relative = formatting.percent(done.total_relative_change)
            rows = [(t("nudge.rate"), formatting.significant(done.lr)), (t("nudge.moved_weights"), relative)]
            if done.drift:
                drift = formatting.significant(max(drift.kl for drift in done.drift), 2)
                rows.append((t("nudge.drift", n=len(done.drift)), f"KL {drift}"))
            with box(style="margin-top:16px"):
                pairs(*rows)
            with box("hs", style="margin-top:20px"):
                button(t("nudge.keep"), self.visit.handle(self._keep), kind="ghost small gr")
                button(t("nudge.discard"), self.visit.handle(self.forget), kind="ghost small gr")

    def _show_change(self, done: Nudge) -> None:
        t = self.t
        text(t("nudge.change"), "b s13", style="margin:20px 0 8px")
        if done.loss_change > 0:
            text(t("nudge.too_far"), "tag bad", style="margin-bottom:8px")
        largest = max(abs(done.predicted_loss_change), abs(done.loss_change)) or 1.0
        formula = t("nudge.predicted") if done.optimizer == "adamw" else t("nudge.predicted_sgd")
        for name, value, look in (
            (formula, done.predicted_loss_change, "hatch"),
            (t("nudge.actual"), done.loss_change, ""),
        ):
            with box("change"):
                text(name, "s12 ink2")
                track(abs(value) / largest, f"thin {look} {'bad' if value > 0 else ''}", place="", style="height:10px")
                text(formatting.change(value), "s13 num right m")

    def _show_moved(self, done: Nudge) -> None:
        text(self.t("nudge.moved"), "b s13", style="margin:20px 0 8px")
        changes = [(moved.token, moved.after - moved.before) for moved in done.moved[:N_MOVED]]
        largest = max((abs(change) for _, change in changes), default=1.0) or 1.0
        for token, change in changes:
            with box("div2"):
                text(self._label(token), "mono s12 cut")
                diverging(change, largest, ("neg", "pos"), places=("mid", ""))
                text(f"{formatting.points(change)} {self.t('nudge.points')}", "s12 num right nw")

    async def _keep(self) -> None:
        done, self.done = self.done, None  # so that a second click does nothing
        if done is not None:
            await self.visit.ask(self.opened.keep, done, self.base)
            await self.changed()

    def _show_kept(self) -> None:
        with refill(self.kept):
            if self.opened.nudges:
                with box("callout", style="margin-top:16px"):
                    text(self.t("nudge.kept", n=self.opened.nudges))
                    button(self.t("nudge.back"), self.visit.handle(self._back), kind="ghost small")

    async def _back(self) -> None:
        await self.visit.ask(self.opened.discard)
        await self.changed()
