"""Knobs: turn a part of a network up, down or off, and see how the prediction changes."""

import dataclasses
import time

from nicegui import ui
from nicegui.events import KeyEventArguments

from nudge.look import Knobs, Moved, Prediction, Turned, predict, turn
from nudge.model.gpt import GPT
from nudge.studio.components import box, button, card, choice, mark
from nudge.studio.page import TextPage
from nudge.studio.pages.knobs_desk import Desk
from nudge.studio.pages.knobs_parameters import AnyParameter
from nudge.studio.pages.knobs_prediction import N_TOP, Distance, NextToken
from nudge.studio.pages.knobs_smallest import smallest_networks
from nudge.util.terminal_text import visible_bytes

N_TAIL = 24  # characters of the text beside "Next token"


class KnobsPage(TextPage):
    """A text, the knobs, and the next token as trained (A) and as turned (B)."""

    ids: tuple[int, ...] = ()
    base: tuple[GPT, Prediction] | None = None  # the prediction as trained; it stays while knobs are turned

    async def arrange(self) -> None:
        self._text_card()
        refresh = self.visit.handle(self.refresh)
        with box("knobs-grid"):
            self.desk = Desk(self.visit, self.opened.network.config, refresh)
            with box("stack prediction") as self.prediction:
                self.distance = Distance(self.t)
                self.next_token = NextToken(self.visit, self.opened)
            self.parameters = AnyParameter(self.visit, self.opened, refresh)
        smallest_networks(self.visit)
        ui.keyboard(self._key, repeating=False, ignore=["input", "textarea", "select"])

    def _text_card(self) -> None:
        t = self.t
        with card(classes="tight"):
            with box("hs knobs-text"):
                self.text_field("fill gr")
                sides = {"a": t("knobs.side_a"), "b": t("knobs.side_b")}
                self.show_side = choice(sides, "b", self._show, label=t("knobs.compare"))
                button(t("knobs.reset"), self.visit.handle(self._reset), icon="restart_alt")
            self.notes = box("notes")

    async def read(self, written: str) -> None:
        self.ids = tuple(await self.tokens_of(written))
        tail = visible_bytes(written[-N_TAIL:].encode("utf-8", "replace"))
        self.next_token.after(tail if len(written) <= N_TAIL else f"…{tail}")
        await self.refresh()

    async def _reset(self) -> None:
        self.desk.reset()
        self.parameters.reset()
        await self.refresh()

    def _key(self, event: KeyEventArguments) -> None:
        """Show the base while the key A is held, on any keyboard layout."""
        if event.key.code == "KeyA" and not (event.modifiers.ctrl or event.modifiers.meta or event.modifiers.alt):
            side = "a" if event.action.keydown else "b"
            self.show_side(side)
            self._show(side)

    def _show(self, side: str) -> None:
        mark(self.prediction, side == "a", "side-a")

    @property
    def knobs(self) -> Knobs:
        """Return the current positions of all knobs of the page."""
        factors, weights = dict(self.parameters.factors), dict(self.parameters.weights)
        return dataclasses.replace(self.desk.knobs, parameters=factors, weights=weights)

    async def refresh(self) -> None:
        """Run the network with the knobs. Only the newest of several questions is answered."""
        begun, moved = time.perf_counter(), self._moved()
        turned, top = await self.visit.ask(self._turn, self.ids, self.knobs, key="turn")
        self.visit.banner.clear()  # an error about the knobs is over
        self.next_token.show(turned, top)
        self.distance.show(turned, moved, took_s=time.perf_counter() - begun)

    def _turn(self, ids: tuple[int, ...], knobs: Knobs) -> tuple[Turned, tuple[Moved, ...]]:
        """Run in the worker's thread. The base is computed once per text, and again if an update is kept."""
        network, tokenizer = self.opened.network, self.opened.tokenizer
        if self.base is None or self.base[0] is not network or self.base[1].context != ids:
            self.base = network, predict(network, tokenizer, ids)
        turned = turn(network, tokenizer, ids, knobs, base=self.base[1])
        return turned, turned.top(N_TOP)

    def _moved(self) -> str:
        """Return a text about the knobs that are not as trained: dials: 2, heads: 1."""
        counts = {**self.desk.moved, **self.parameters.moved}
        parts = [self.t(f"knobs.moved.{name}", n=n) for name, n in counts.items() if n]
        return ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts) or self.t("knobs.moved.none")
