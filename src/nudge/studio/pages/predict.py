"""Predict: text in, a probability for every token of the vocabulary out; and one real update on one example."""

import math
import time
from collections.abc import Sequence
from functools import partial

from nicegui import ui
from nicegui.element import Element

from nudge.look import Prediction, predict
from nudge.studio import charts, layout
from nudge.studio.components import bar, box, card, choice, pairs, text
from nudge.studio.models import Opened
from nudge.studio.pages.predict_curve import N_POINTS, rank_curve
from nudge.studio.pages.predict_nudge import NudgeCard
from nudge.studio.text_entry import first_text, text_field, tokens_of
from nudge.studio.token_search import find_tokens, token_search
from nudge.studio.tokens import Group, Shown, groups, show, show_each
from nudge.studio.visit import Visit
from nudge.util import formatting

N_BARS = 20
SAMPLING = {"temperature": 0.8, "top_k": 50, "top_p": 1.0}


def build(visit: Visit) -> None:
    """Build the page."""

    async def fill(opened: Opened) -> None:
        await PredictPage(visit, opened).build()

    with layout.page(visit):
        layout.with_model(visit, fill)


class PredictPage:
    """One person's view: the text, how much of it the network reads, and the token that is looked at."""

    def __init__(self, visit: Visit, opened: Opened) -> None:
        self.visit, self.opened, self.t = visit, opened, visit.t
        self.tokenizer = opened.model.tokenizer
        self.ids: list[int] = []
        self.begins = 0  # 1 if the first id only starts the document
        self.length = 0  # how many tokens of the text are read
        self.selected: int | None = None  # None: the likeliest
        self.sampled = False
        self.settings = dict(SAMPLING)
        self.prediction: Prediction | None = None

    async def build(self) -> None:
        t = self.t
        first = await first_text(self.visit, self.opened)
        with card():
            with box("fill"):
                text_field(self.visit, first, self._read, label=t("predict.text"))
            self.notes = box("notes")
            self.chips = box("chips", style="margin-top:16px")
            with box("hs wrap", style="gap:16px;margin-top:16px"):
                text(t("predict.context"), "s13 m")
                with box("slw", style="width:280px"):
                    self.slider = ui.slider(min=0, max=1, value=0, on_change=self.visit.handle(self._slid))
                    self.slider.props["aria-label"] = t("predict.context")
                self.length_text = text("", "s13 num nw", aria_live="polite")
                text(t("predict.zero"), "s12 ink3")
                box("gr")
                self.answered = text("", "s12 ink3 nw")
        with box("grid same predict"):
            self._bars_card()
            with box("stack"):
                self._find_card()
                self._curve_card()
            self.nudge_card = NudgeCard(self)
        await self.visit.handle(self._read)(first)

    # What the person does.

    async def _slid(self, event: object) -> None:
        length = min(int(getattr(event, "value", 0)), len(self.ids) - self.begins)
        if length != self.length:
            self.length = length
            self._mark_chips()
            await self.refresh()

    async def select(self, token: int) -> None:
        """Look at one token: in the bars, in the curve, and as the target of an update."""
        self.selected = token
        self._show_prediction()

    async def _read(self, written: str) -> None:
        self.ids = await tokens_of(self.visit, self.opened, written, self.notes)
        self.begins = int(not written or self.ids[:1] == [self.tokenizer.eot])
        self.length = len(self.ids) - self.begins
        self.slider.props["max"] = max(1, self.length)
        self.slider.set_enabled(self.length > 0)
        self.slider.value = self.length
        self._show_chips()
        await self.refresh()

    @property
    def context(self) -> tuple[int, ...]:
        """The ids that the network reads."""
        return tuple(self.ids[: self.begins + self.length])

    async def refresh(self) -> None:
        """Ask the network anew."""
        begun = time.perf_counter()
        top_k = int(self.settings["top_k"]) or None
        self.prediction = await self.visit.ask(
            predict,
            self.opened.network,
            self.tokenizer,
            self.context,
            temperature=self.settings["temperature"],
            top_k=top_k,
            top_p=self.settings["top_p"],
            key="predict",
        )
        self.visit.banner.clear()  # what was wrong before is right now
        took = formatting.duration(time.perf_counter() - begun, self.t.language)
        self.answered.text = self.t("predict.answered", took=took)
        self.nudge_card.forget()
        self._show_prediction()

    # What is shown.

    def shown(self, token: int) -> Shown:
        """How a token is written on the page."""
        return show(self.tokenizer, token, self.t)

    def _show_chips(self) -> None:
        self.chips.clear()
        with self.chips:
            shown = show_each(self.tokenizer, self.ids, self.t)
            self.each_chip = [chip for group in groups(self.tokenizer, self.ids) for chip in self._group(group, shown)]
            with box("chip next"):
                text("?", "t")
                text(self.t("predict.next"), "i")
                self.position = text("", "y")
        self._mark_chips()

    def _mark_chips(self) -> None:
        """Which of the tokens are read."""
        n_read, total = self.begins + self.length, len(self.ids) - self.begins
        self.length_text.text = self.t(
            "predict.of_tokens", n=formatting.whole(self.length), total=formatting.whole(total)
        )
        self.position.text = self.t("predict.position", n=formatting.whole(n_read))
        for at, chip in enumerate(self.each_chip):
            chip.classes(add="" if at < n_read else "off", remove="off" if at < n_read else "")

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
        t, size = self.t, formatting.whole(self.opened.network.config.vocab_size)

        def switch() -> None:
            kinds = {"true": t("predict.true"), "sampled": t("predict.sampled")}
            choice(kinds, "true", self.visit.handle(self._switch), label=t("predict.distribution"))

        with card(t("predict.next_token"), t("predict.top_of", n=N_BARS, size=size), right=switch):
            with box("sampling hs") as self.sampling:
                for name, low, high, step in (
                    ("temperature", 0, 5, 0.1),
                    ("top_k", 0, 100_000, 1),
                    ("top_p", 0.01, 1, 0.05),
                ):
                    with box("fld"):
                        text(t(f"predict.{name}"), "l")
                        field = ui.number(value=self.settings[name], min=low, max=high, step=step)
                        field.props("outlined dense debounce=300").props["aria-label"] = t(f"predict.{name}")
                        field.on_value_change(self.visit.handle(partial(self._set, name)))
            self.sampling.set_visibility(False)
            self.bars = box("bars")

    async def _switch(self, kind: str) -> None:
        self.sampled = kind == "sampled"
        self.sampling.set_visibility(self.sampled)
        self._show_prediction()

    async def _set(self, name: str, event: object) -> None:
        value = getattr(event, "value", None)
        self.settings[name] = SAMPLING[name] if value is None else float(value)
        await self.refresh()

    def _find_card(self) -> None:
        t = self.t
        with card(t("predict.find")):
            hint = t("predict.find_hint")
            token_search(self.visit, self._find, self.shown, self.select, label=t("predict.find"), hint=hint)
            self.facts = box(style="margin-top:16px")

    async def _find(self, wanted: str) -> list[int]:
        """The tokens that a person may mean, the likeliest first."""
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
            size = self.opened.network.config.vocab_size
            if size > N_POINTS:
                text(t("predict.drawn", n=N_POINTS, size=formatting.whole(size)), "s12 ink3")
            self.spread = box(style="margin-top:12px")

    def _show_prediction(self) -> None:
        if self.prediction is None:
            return
        selected = self.selected if self.selected is not None else self.prediction.top(1)[0].token
        self._show_bars(self.prediction, selected)
        self._show_facts(self.prediction, selected)
        self.nudge_card.aim(selected)

    def _show_bars(self, prediction: Prediction, selected: int) -> None:
        t = self.t
        candidates = prediction.top(N_BARS, sampled=self.sampled)
        rest = max(0.0, prediction.rest(N_BARS, sampled=self.sampled))
        largest = max(rest, candidates[0].probability)
        self.bars.clear()
        with self.bars:
            for number, candidate in enumerate(candidates):
                shown = self.shown(candidate.token)
                row = box("pb sel" if candidate.token == selected else "pb", tag="button", type="button")
                row.on("click", self.visit.handle(partial(self.select, candidate.token)))
                with row:
                    text(number + 1, "r")
                    text(shown.label, f"t {shown.kind}", title=f"{shown.id} · {shown.hex}")
                    with box("bg"):
                        bar(candidate.probability / largest)
                    text(formatting.percent(candidate.probability), "p")
            box("hr", style="margin:10px 0")
            n_rest = self.opened.network.config.vocab_size - len(candidates)
            with box("pb rest"):
                text(t("predict.rest"), "s13 m")
                with box("bg"):
                    bar(rest / largest, "hatch")
                text(formatting.percent(rest), "p")
            size = formatting.whole(self.opened.network.config.vocab_size)
            key = "predict.rest_sampled" if self.sampled else "predict.rest_note"
            text(t(key, n=formatting.whole(n_rest), size=size), "s12 ink3", style="margin-top:8px")

    def _show_facts(self, prediction: Prediction, selected: int) -> None:
        t, size = self.t, self.opened.network.config.vocab_size
        probability, rank = prediction.probability(selected), prediction.rank(selected)
        shown = self.shown(selected)
        self.facts.clear()
        with self.facts:
            with box("hs", style="margin-bottom:12px"):
                text(shown.label, f"mono b nw {shown.kind}")
                text(t("predict.id_bytes", id=formatting.whole(shown.id), hex=shown.hex or "–"), "s12 ink3")
            pairs(
                (t("predict.rank"), t("predict.rank_of", rank=formatting.whole(rank), size=formatting.whole(size))),
                (t("predict.probability"), formatting.percent(probability)),
                (t("predict.drawn_with"), formatting.percent(prediction.sampled[selected].item())),
                (t("predict.loss_if"), t("predict.nats", n=formatting.fixed(prediction.loss(selected)))),
                (t("predict.against_uniform"), t("predict.times", n=formatting.significant(probability * size, 2))),
            )
        self.curve.options.update(rank_curve(prediction, selected, shown.label, self.t))
        self.curve.update()
        self.spread.clear()
        with self.spread:
            entropy = prediction.entropy
            pairs(
                (t("predict.entropy"), t("predict.nats", n=formatting.fixed(entropy))),
                (
                    t("predict.like_choosing"),
                    t("predict.n_tokens", n=formatting.significant(math.exp(entropy), 3)),
                ),
            )
