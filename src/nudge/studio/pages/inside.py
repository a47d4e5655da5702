"""Inside: every value of one forward pass, from tokens to probabilities."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from nicegui import ui

from nudge.errors import TokenizerError
from nudge.look import Trace
from nudge.studio import layout
from nudge.studio.components import box, button, card, text
from nudge.studio.models import Opened
from nudge.studio.pages.inside_attention import AttentionCard
from nudge.studio.pages.inside_lens import LensCard
from nudge.studio.pages.inside_pipeline import Pipeline
from nudge.studio.text_entry import first_text, text_field, tokens_of
from nudge.studio.tokens import show_each, words_of
from nudge.studio.visit import Visit
from nudge.studio.worker import SupersededError
from nudge.util import formatting
from nudge.util.terminal_text import shown

KOREAN = "구글에서 시니어 엔지니어를 채용합니다"  # a byte-level vocabulary cuts its syllables apart

Answer = TypeVar("Answer")
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def build(visit: Visit) -> None:
    """Build the page."""

    async def fill(opened: Opened) -> None:
        await InsidePage(visit, opened).build()

    with layout.page(visit):
        layout.with_model(visit, fill)


class InsidePage:
    """One person's view: a text inside a model, and the head that is open."""

    def __init__(self, visit: Visit, opened: Opened) -> None:
        self.visit, self.opened, self.t = visit, opened, visit.t
        self.tokenizer = opened.model.tokenizer
        self.layer, self.head = opened.network.config.n_layer // 2, 0
        self.ids: list[int] = []
        self._trace: Trace | None = None
        self.labels: list[str] = []  # of the tokens
        self.word_labels: list[str] = []
        self.word_sizes: tuple[int, ...] = ()  # tokens of each word

    async def build(self) -> None:
        first = await first_text(self.visit, self.opened)
        steps = await asyncio.to_thread(self.visit.house.models.steps, self.opened.run)
        with card():
            self._text_row(first)
            self.notes = box("notes")
            if len(steps) > 1:
                self._step_row(steps)
        self.parts = box("grid inside")
        with self.parts:
            self.pipeline = Pipeline(self)
            with box("stack"):
                self.attention = AttentionCard(self)
                self.lens = LensCard(self)
        await self.visit.handle(self._read)(first)  # whatever is wrong with the text, the page stays and says so
        self.parts.set_visibility(self._trace is not None)

    @property
    def trace(self) -> Trace:
        """The forward pass that is looked at. Raises: SupersededError before there is one."""
        if self._trace is None:
            raise SupersededError
        return self._trace

    def _text_row(self, first: str) -> None:
        t = self.t
        with box("hs top-aligned", style="gap:16px"):
            with box("fill gr"):
                area = text_field(self.visit, first, self._read, label=t("inside.text"))
            if self._can_read(KOREAN):
                button(t("inside.korean"), lambda: area.set_value(KOREAN), kind="ghost", lang="ko")

    def _can_read(self, written: str) -> bool:
        try:
            return bool(self.tokenizer.encode(written))
        except TokenizerError:  # a vocabulary of characters that has not all of them
            return False

    def _step_row(self, steps: list[int]) -> None:
        """Another checkpoint of the run: the same text inside the model as it was then."""
        t = self.t
        with box("hs wrap", style="gap:16px;margin-top:12px"):
            text(t("inside.checkpoint"), "s13 m")
            with box("slw", style="width:240px"):
                here = steps.index(self.opened.step) if self.opened.step in steps else len(steps) - 1
                slider = ui.slider(min=0, max=len(steps) - 1, value=here)
                slider.props["aria-label"] = t("inside.checkpoint")
            self.step_text = text(self._step_said(), "s13 num nw", aria_live="polite")
            text(t("inside.checkpoints", n=len(steps)), "s12 ink3")

            async def go(event: object) -> None:
                await self._go_to(steps[int(getattr(event, "value", 0))])

            slider.on_value_change(self.visit.handle(go))

    def _step_said(self) -> str:
        return self.t("ui.step", step=formatting.whole(self.opened.step))

    async def _go_to(self, step: int) -> None:
        if step == self.opened.step:
            return
        self.opened = await self.visit.ask(self.visit.house.models.open, self.opened.run, step, key="step")
        self.visit.query["step"] = str(step)
        self.step_text.text = self._step_said()
        layout.show_bar(self.visit)
        ui.navigate.history.replace(self.visit.href())
        if self.ids:  # else there is something wrong with the text, which the page goes on to say
            await self._open()

    async def _read(self, written: str) -> None:
        self.ids = await tokens_of(self.visit, self.opened, written, self.notes)
        await self._open()

    async def _open(self) -> None:
        """Open the forward pass over the text."""
        ids = self.ids
        self.visit.banner.clear()
        self._trace = await self.visit.ask(self.opened.trace, tuple(ids), key="trace")
        self.parts.set_visibility(True)
        self.labels = told_apart([token.label for token in show_each(self.tokenizer, ids, self.t)])
        words = words_of(self.tokenizer, ids)
        self.word_sizes = tuple(len(word.tokens) for word in words)
        self.word_labels = told_apart(
            [shown(word.text.encode()) if word.text else self.labels[word.first] for word in words]
        )
        await self.show_in_turn(self.pipeline.show, self.attention.show, self.lens.show)

    async def show_in_turn(self, *parts: Callable[[], Awaitable[None]]) -> None:
        """Let one part after the other show the trace. One that a person's click was quicker than is up to date by it.

        Raises: SupersededError if another trace is looked at by then: its parts show themselves.
        """
        trace = self.trace
        for show in parts:
            with contextlib.suppress(SupersededError):
                await show()
            if self.trace is not trace:
                raise SupersededError

    async def ask(self, function: Callable[..., Answer], *args: Any, key: Hashable) -> Answer:
        """Let the worker call `function(trace, *args)`. Raises: SupersededError if another trace is looked at by then.

        So whatever goes on with the answer goes on with the trace that it is about.
        """
        trace = self.trace
        answer = await self.visit.ask(function, trace, *args, key=key)
        if trace is not self._trace:
            raise SupersededError
        return answer


def told_apart(labels: list[str]) -> list[str]:
    """The labels; those that are there several times with their position: the₁ dog the₃."""
    n_times = Counter(labels)
    return [label + str(at).translate(_SUBSCRIPTS) if n_times[label] > 1 else label for at, label in enumerate(labels)]
