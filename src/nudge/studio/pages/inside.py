"""Inside: every value of one forward pass, from tokens to probabilities."""

import asyncio

from nudge.studio import layout
from nudge.studio.components import box, button, card, slider, text
from nudge.studio.pages.inside_attention import AttentionCard
from nudge.studio.pages.inside_lens import LensCard
from nudge.studio.pages.inside_pipeline import Pipeline
from nudge.studio.pages.inside_view import InsideView
from nudge.studio.tokens import encode_or_empty

KOREAN = "구글에서 시니어 엔지니어를 채용합니다"  # a byte-level vocabulary cuts its syllables apart


class InsidePage(InsideView):
    """The text, the step, and the cards."""

    async def fill(self) -> None:
        await super().fill()
        self.parts.set_visibility(self._trace is not None)

    async def arrange(self) -> None:
        self.ids: list[int] = []
        self.layer = self.opened.network.config.n_layer // 2
        steps = await asyncio.to_thread(self.visit.app.models.steps, self.opened.run)
        with card():
            self._text_row()
            self.notes = box("notes")
            if len(steps) > 1:
                self._step_row(steps)
        with box("grid inside") as self.parts:
            self.pipeline = Pipeline(self)
            with box("stack"):
                self.attention = AttentionCard(self, unfold=self.pipeline.unfold)
                self.lens = LensCard(self)

    def _text_row(self) -> None:
        with box("hs top-aligned", style="gap:16px"):
            area = self.text_field("fill gr")
            if encode_or_empty(self.opened.tokenizer, KOREAN):
                button(self.t("inside.korean"), lambda: area.set_value(KOREAN), kind="ghost", lang="ko")

    def _step_row(self, steps: list[int]) -> None:
        """Add the choice of another checkpoint: the same text, as the model was then."""
        t, last = self.t, len(steps) - 1
        go = self.visit.handle(lambda at: self._go_to(steps[int(at)]))
        with box("hs wrap", style="gap:16px;margin-top:12px"):
            here = steps.index(self.opened.step) if self.opened.step in steps else last
            slider(t("inside.checkpoint"), go, width=240, last=last, at=here)
            self.step_text = text(t("ui.step", step=self.opened.step), "s13 num nw", aria_live="polite")
            text(t("inside.checkpoints", n=len(steps)), "s12 ink3")

    async def _go_to(self, step: int) -> None:
        if step == self.opened.step:
            return
        self.opened = await self.visit.ask(self.visit.app.models.open, self.opened.run, step, key="step")
        self.visit.query["step"] = str(step)
        self.step_text.text = self.t("ui.step", step=step)
        layout.readdress(self.visit, self.visit.href())
        if self.ids:  # else the page keeps showing what is wrong with the text
            await self._show()

    async def read(self, written: str) -> None:
        self.ids = await self.tokens_of(written)
        await self._show()

    async def _show(self) -> None:
        """Show the forward pass over the text."""
        self.visit.banner.clear()
        await self.look_into(self.ids)
        self.parts.set_visibility(True)
        await self.show_in_turn(self.pipeline.show, self.attention.show, self.lens.show)
