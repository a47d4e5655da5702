"""Inside: the logit lens, the token that each block would predict if it were the last one."""

from functools import partial

import numpy as np
from nicegui import ui
from nicegui.element import Element

from nudge.look import Lens, Trace, lens
from nudge.studio.components import box, card, mark, named, pressable, refill, text, track
from nudge.studio.pages.inside_view import InsideView
from nudge.studio.pictures import cividis
from nudge.studio.tokens import show
from nudge.util import formatting

N_POSITIONS = 8
_BRIGHT = 0.18  # luminance from which on black has more contrast than white


class LensCard:
    """Layers x positions; a cell is the likeliest token, its color the probability."""

    def __init__(self, view: InsideView) -> None:
        self.view, self.t = view, view.t
        self.first = 0  # of the positions that are shown
        self.chosen: tuple[int, int] | None = None  # layer, position
        self.found: Lens | None = None
        self.trace: Trace | None = None  # of `found`
        self.cells: dict[tuple[int, int], Element] = {}
        t = self.t
        with card(t("inside.lens"), t("inside.lens_note"), classes="gr", right=self._window):
            self.grid = box("lens")
            self.detail = box("lens-detail", aria_live="polite")

    def _window(self) -> None:
        """Add the slider that chooses the positions, if there are more than fit."""
        with box("slw", style="width:120px") as self.scroll:
            slider = ui.slider(min=0, max=1, value=0, on_change=self.view.visit.handle(self._moved))
            self.slider = named(slider, self.t("inside.lens_positions"))

    async def _moved(self, first: float) -> None:
        if first != self.first:
            self.first = int(first)
            await self._ask()

    async def show(self) -> None:
        """Show the last positions of another trace."""
        last = max(0, len(self.view.trace.tokens) - N_POSITIONS)
        self.first, self.chosen = last, None
        self.slider.props["max"] = max(1, last)
        self.slider.value = last
        self.scroll.set_visibility(last > 0)
        await self._ask()

    async def _ask(self) -> None:
        T = len(self.view.trace.tokens)
        positions = range(self.first, min(T, self.first + N_POSITIONS))
        found = await self.view.ask(_look, positions, key="lens")
        self.found, self.trace = found, self.view.trace
        self._draw(found)

    def _draw(self, found: Lens) -> None:
        n = len(found.positions)
        self.cells.clear()
        self.grid.style(f"grid-template-columns:minmax(64px,max-content) repeat({n},minmax(0,1fr))")
        with refill(self.grid):
            text("")
            for position in found.positions:
                text(self.view.labels[position], "s12 ink3 mono cut over", title=str(position))
            for layer, name in enumerate(found.layers):
                text(self._layer(layer), "s12 ink3 nw layer", title=name)
                for column in range(n):
                    self._cell(found, layer, column)
        first, last = found.positions[0], found.positions[-1]
        layer, position = self.chosen or (len(found.layers) - 1, last)
        self._detail(layer, min(max(position, first), last))

    def _layer(self, layer: int) -> str:
        """Return a layer's label; layer 0 is before the first block."""
        return self.t("inside.block", n=layer - 1) if layer else self.t("inside.embedding")

    def _cell(self, found: Lens, layer: int, column: int) -> None:
        probability = found.probabilities[layer, column, 0].item()
        label = show(self.view.opened.tokenizer, int(found.tokens[layer, column, 0]), self.t).label
        background, ink = colors(probability)
        position, percent = found.positions[column], formatting.percent(probability)
        words = {"layer": self._layer(layer), "token": self.view.labels[position], "next": label, "p": percent}
        look = {"style": f"background:{background};color:{ink}", "title": percent}
        clicked = self.view.visit.handle(partial(self._detail, layer, position))
        cell = pressable(clicked, label, "c cut", aria_label=self.t("inside.lens_cell", **words), **look)
        self.cells[layer, position] = cell

    def _detail(self, layer: int, position: int) -> None:
        """Show the likeliest tokens of one cell, and the rank of the token that came."""
        if self.found is None or self.trace is not self.view.trace:  # still of another text
            return
        t, found = self.t, self.found
        if self.chosen in self.cells:
            mark(self.cells[self.chosen], False, aria="pressed")
        self.chosen = (layer, position)
        mark(self.cells[self.chosen], True, aria="pressed")
        column = position - found.positions[0]
        probabilities = found.probabilities[layer, column].tolist()
        with refill(self.detail):
            title = t("inside.lens_says", layer=self._layer(layer), token=self.view.labels[position])
            text(title, "s13 m", style="margin-bottom:8px")
            for token, probability in zip(found.tokens[layer, column].tolist(), probabilities, strict=True):
                with box("lens-bar"):
                    text(show(self.view.opened.tokenizer, token, t).label, "mono s12 cut")
                    track(probability / (probabilities[0] or 1.0), "thin", place="")
                    text(formatting.percent(probability), "s12 num right")
            text(self._came(found, layer, position), "s12 ink2", style="margin-top:8px")

    def _came(self, found: Lens, layer: int, position: int) -> str:
        tokens = self.view.trace.tokens
        if position + 1 == len(tokens) or found.target_ranks is None:
            return self.t("inside.lens_end")
        rank = int(found.target_ranks[layer, position - found.positions[0]])
        size = self.view.opened.network.config.vocab_size
        return self.t("inside.lens_came", token=self.view.labels[position + 1], rank=rank, size=size)


def _look(trace: Trace, positions: range) -> Lens:
    # No token follows the last one yet. It gets any token as its target, and that rank is not shown.
    following = (*trace.tokens[1:], trace.tokens[0])
    k = min(5, trace.network.config.vocab_size)
    return lens(trace, k=k, positions=positions, targets=[following[position] for position in positions])


def colors(probability: float) -> tuple[str, str]:
    """Return a background for a probability, and a readable text color on it."""
    red, green, blue = (int(part) for part in cividis(np.array([probability]))[0, :3])
    luminance = float(np.dot((0.2126, 0.7152, 0.0722), (np.array([red, green, blue]) / 255) ** 2.2))
    return f"rgb({red},{green},{blue})", "#000" if luminance > _BRIGHT else "#fff"
