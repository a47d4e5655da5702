"""Predict: the probability of every token of the vocabulary after a text, and one real update on one example."""

import math
import time
from collections.abc import Sequence
from functools import partial

from nicegui.element import Element

from nudge.look import Prediction, predict
from nudge.studio import charts
from nudge.studio.components import (
    Number,
    box,
    card,
    choice,
    entry,
    mark,
    pairs,
    pressable,
    refill,
    slider,
    text,
    track,
)
from nudge.studio.page import TextPage
from nudge.studio.pages.predict_curve import N_POINTS, rank_curve
from nudge.studio.pages.predict_nudge import NudgeCard
from nudge.studio.token_search import find_tokens, token_search
from nudge.studio.tokens import Group, Shown, groups, show, show_each
from nudge.util import formatting

N_BARS = 20
_SAMPLING: dict[str, dict[str, float]] = {
    "temperature": {"value": 0.8, "min": 0, "max": 5, "step": 0.1},
    "top_k": {"value": 50, "min": 0, "max": 100_000, "step": 1},
    "top_p": {"value": 1.0, "min": 0.01, "max": 1, "step": 0.05},
}


class PredictPage(TextPage):
    """A text, the length that the network reads, and the selected token."""

    ids: Sequence[int] = ()
    begins = 0  # 1 if the first id is the start-of-document token
    length = 0  # how many tokens of the text are read
    selected: int | None = None  # None: the likeliest
    sampled = False
    prediction: Prediction | None = None

    async def arrange(self) -> None:
        t = self.t
        self.tokenizer = self.opened.tokenizer
        self.settings = {name: number["value"] for name, number in _SAMPLING.items()}
        self.size = self.opened.network.config.vocab_size
        with card():
            self.text_field()
            self.notes = box("notes")
            self.chips = box("chips", style="margin-top:16px")
            with box("hs wrap", style="gap:16px;margin-top:16px"):
                self.slider = slider(t("predict.context"), self.visit.handle(self._slid), width=280)
                self.length_text = text("", "s13 num nw", aria_live="polite")
                text(t("predict.zero"), "s12 ink3")
                box("gr")
                self.answered = text("", "s12 ink3 nw")
        with box("grid same predict"):
            self._bars_card()
            with box("stack"):
                self._find_card()
                self._curve_card()
            self.nudge_card = NudgeCard(self.visit, self.opened, changed=self.refresh)

    async def _slid(self, place: float) -> None:
        length = min(int(place), len(self.ids) - self.begins)
        if length != self.length:
            self.length = length
            self._mark_chips()
            await self.refresh()

    async def select(self, token: int) -> None:
        """Select a token: in the bars, in the curve, and as the target of an update."""
        self.selected = token
        self._show_prediction()

    async def read(self, written: str) -> None:
        self.ids = await self.tokens_of(written)
        self.begins = int(not written or self.ids[:1] == [self.tokenizer.eot])
        self.length = len(self.ids) - self.begins
        self.slider.props["max"] = max(1, self.length)
        self.slider.set_enabled(self.length > 0)
        self.slider.value = self.length
        self._show_chips()
        await self.refresh()

    async def refresh(self) -> None:
        """Run the network again."""
        begun = time.perf_counter()
        context = tuple(self.ids[: self.begins + self.length])  # the ids that the network reads
        settings = {**self.settings, "top_k": int(min(self.settings["top_k"], self.size)) or None}
        self.prediction = await self.visit.ask(
            predict, self.opened.network, self.tokenizer, context, **settings, key="predict"
        )
        self.visit.banner.clear()  # an earlier error is over
        took = formatting.duration(time.perf_counter() - begun, self.t.language)
        self.answered.text = self.t("predict.answered", took=took)
        self.nudge_card.forget()
        self._show_prediction()

    def shown(self, token: int) -> Shown:
        """Return a token in readable form."""
        return show(self.tokenizer, token, self.t)

    def _show_chips(self) -> None:
        with refill(self.chips):
            shown = show_each(self.tokenizer, self.ids, self.t)
            self.each_chip = [chip for group in groups(self.tokenizer, self.ids) for chip in self._group(group, shown)]
            with box("chip next"):
                text("?", "t")
                text(self.t("predict.next"), "i")
                self.position = text("", "y")
        self._mark_chips()

    def _mark_chips(self) -> None:
        """Show which of the tokens are read."""
        n_read, total = self.begins + self.length, len(self.ids) - self.begins
        self.length_text.text = self.t("predict.of_tokens", n=self.length, total=total)
        self.position.text = self.t("predict.position", n=n_read)
        for at, chip in enumerate(self.each_chip):
            mark(chip, at >= n_read, "off")

    def _group(self, group: Group, shown: Sequence[Shown]) -> list[Element]:
        if len(group.tokens) == 1:
            return [self._chip(shown[group.first])]
        with box("syl"):
            with box("in"):
                chips = [self._chip(shown[at]) for at in range(group.first, group.after)]
            box("brk")
            n_bytes = len(group.text.encode("utf-8", "replace"))
            text(self.t("predict.syllable", text=group.text, bytes=n_bytes, tokens=len(group.tokens)), "s11 blue nw")
        return chips

    def _chip(self, shown: Shown) -> Element:
        with box("chip") as chip:
            text(shown.label, f"t {shown.kind}")
            text(formatting.whole(shown.id), "i")
            text(shown.hex if len(shown.hex) <= 11 else f"{shown.hex[:9]}…", "y")
        return chip

    def _bars_card(self) -> None:
        t = self.t
        kinds = {"true": t("predict.true"), "sampled": t("predict.sampled")}
        switch = partial(choice, kinds, "true", self.visit.handle(self._switch), label=t("predict.distribution"))
        with card(t("predict.next_token"), t("predict.top_of", n=N_BARS, size=self.size), right=switch):
            with box("sampling hs") as self.sampling:
                for name, number in _SAMPLING.items():
                    changed = self.visit.handle(partial(self._set, name))
                    entry(Number, t(f"predict.{name}"), "debounce=300", on_change=changed, **number)
            self.sampling.set_visibility(False)
            self.bars = box("bars")

    async def _switch(self, kind: str) -> None:
        self.sampled = kind == "sampled"
        self.sampling.set_visibility(self.sampled)
        self._show_prediction()

    async def _set(self, name: str, value: float | None) -> None:
        self.settings[name] = _SAMPLING[name]["value"] if value is None else float(value)
        await self.refresh()

    def _find_card(self) -> None:
        t = self.t
        with card(t("predict.find")):
            hint = t("predict.find_hint")
            token_search(self.visit, self._find, self.shown, self.select, label=t("predict.find"), hint=hint)
            self.facts = box(style="margin-top:16px")

    async def _find(self, wanted: str) -> list[int]:
        """Return the tokens that match a text, the likeliest first."""
        if self.prediction is None:
            return []
        chances = self.prediction.probabilities
        return await self.visit.ask(
            find_tokens, self.tokenizer, wanted, len(chances), by=lambda token: -chances[token].item(), key="find"
        )

    def _curve_card(self) -> None:
        t = self.t
        with card(t("predict.by_rank"), classes="gr"):
            self.curve = charts.chart({}, height=380, label=t("predict.by_rank"))
            if self.size > N_POINTS:
                text(t("predict.drawn", n=N_POINTS, size=self.size), "s12 ink3")
            self.spread = box(style="margin-top:12px")

    def _show_prediction(self) -> None:
        if self.prediction is None:
            return
        selected = self.selected if self.selected is not None else self.prediction.top(1)[0].token
        self._show_bars(self.prediction, selected)
        self._show_facts(self.prediction, selected)
        self.nudge_card.aim(self.prediction, selected)

    def _show_bars(self, prediction: Prediction, selected: int) -> None:
        t = self.t
        candidates = prediction.top(N_BARS, sampled=self.sampled)
        rest = max(0.0, prediction.rest(N_BARS, sampled=self.sampled))
        largest = max(rest, candidates[0].probability)
        with refill(self.bars):
            for number, candidate in enumerate(candidates, start=1):
                shown = self.shown(candidate.token)
                clicked = self.visit.handle(partial(self.select, candidate.token))
                with pressable(clicked, "", "pb sel" if candidate.token == selected else "pb"):
                    text(number, "r")
                    text(shown.label, f"t {shown.kind}", title=shown.title)
                    track(candidate.probability / largest)
                    text(formatting.percent(candidate.probability), "p")
            box("hr", style="margin:10px 0")
            with box("pb rest"):
                text(t("predict.rest"), "s13 m")
                track(rest / largest, "hatch")
                text(formatting.percent(rest), "p")
            key = "predict.rest_sampled" if self.sampled else "predict.rest_note"
            text(t(key, n=self.size - len(candidates), size=self.size), "s12 ink3", style="margin-top:8px")

    def _show_facts(self, prediction: Prediction, selected: int) -> None:
        t, size, shown = self.t, self.size, self.shown(selected)
        probability, rank = prediction.probability(selected), prediction.rank(selected)
        with refill(self.facts):
            with box("hs", style="margin-bottom:12px"):
                text(shown.label, f"mono b nw {shown.kind}")
                text(t("predict.id_bytes", id=shown.id, hex=shown.hex or "–"), "s12 ink3")
            pairs(
                (t("predict.rank"), t("predict.rank_of", rank=rank, size=size)),
                (t("predict.probability"), formatting.percent(probability)),
                (t("predict.drawn_with"), formatting.percent(prediction.sampled[selected].item())),
                (t("predict.loss_if"), t("predict.nats", n=formatting.fixed(prediction.loss(selected)))),
                (t("predict.against_uniform"), t("predict.times", n=formatting.significant(probability * size, 2))),
            )
        self.curve.options.update(rank_curve(prediction, selected, shown.label, self.t))
        self.curve.update()
        with refill(self.spread):
            entropy, alike = prediction.entropy, formatting.significant(math.exp(prediction.entropy), 3)
            pairs(
                (t("predict.entropy"), t("predict.nats", n=formatting.fixed(entropy))),
                (t("predict.like_choosing"), t("predict.n_tokens", n=alike)),
            )
