"""Inside: the logit lens, what each block would say next if it were the last one."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from nicegui import ui
from nicegui.element import Element

from nudge.look import Lens, Trace, lens
from nudge.studio.components import bar, box, card, text
from nudge.studio.pictures import cividis
from nudge.studio.tokens import show
from nudge.util import formatting

if TYPE_CHECKING:
    from nudge.studio.pages.inside import InsidePage

N_POSITIONS = 8
_BRIGHT = 0.18  # luminance, from which black has more contrast than white


class LensCard:
    """Layers x positions; a cell is the likeliest token, its colour the probability."""

    def __init__(self, page: "InsidePage") -> None:
        self.page, self.t = page, page.t
        self.first = 0  # of the positions that are shown
        self.chosen: tuple[int, int] | None = None  # layer, position
        self.found: Lens | None = None
        self.trace: Trace | None = None  # that it was found in
        self.cells: dict[tuple[int, int], Element] = {}
        t = self.t
        with card(t("inside.lens"), t("inside.lens_note"), classes="gr", right=self._window):
            self.grid = box("lens")
            self.detail = box("lens-detail", aria_live="polite")

    def _window(self) -> None:
        """Which positions are shown, when there are more."""
        with box("slw", style="width:120px") as self.scroll:
            self.slider = ui.slider(min=0, max=1, value=0).on_value_change(self.page.visit.handle(self._moved))
            self.slider.props["aria-label"] = self.t("inside.lens_positions")

    async def _moved(self, event: object) -> None:
        first = int(getattr(event, "value", 0))
        if first != self.first:
            self.first = first
            await self._ask()

    async def show(self) -> None:
        """The last positions of another trace."""
        last = max(0, len(self.page.trace.tokens) - N_POSITIONS)
        self.first, self.chosen = last, None
        self.slider.props["max"] = max(1, last)
        self.slider.value = last
        self.scroll.set_visibility(last > 0)
        await self._ask()

    async def _ask(self) -> None:
        T = len(self.page.trace.tokens)
        positions = range(self.first, min(T, self.first + N_POSITIONS))
        found = await self.page.ask(_look, positions, key="lens")
        self.found, self.trace = found, self.page.trace
        self._draw(found)

    def _draw(self, found: Lens) -> None:
        n = len(found.positions)
        self.grid.clear()
        self.cells.clear()
        self.grid.style(f"grid-template-columns:minmax(64px,max-content) repeat({n},minmax(0,1fr))")
        with self.grid:
            text("")
            for position in found.positions:
                text(self.page.labels[position], "s12 ink3 mono cut over", title=str(position))
            for layer, name in enumerate(found.layers):
                text(self._layer(layer), "s12 ink3 nw layer", title=name)
                for column in range(n):
                    self._cell(found, layer, column)
        L, last = len(found.layers) - 1, n - 1
        layer, position = self.chosen or (L, found.positions[last])
        self._detail(layer, min(max(position, found.positions[0]), found.positions[last]))

    def _layer(self, layer: int) -> str:
        """Row 0 is before the first block."""
        return self.t("inside.block", n=layer - 1) if layer else self.t("inside.embedding")

    def _cell(self, found: Lens, layer: int, column: int) -> None:
        probability = found.probabilities[layer, column, 0].item()
        shown = show(self.page.tokenizer, int(found.tokens[layer, column, 0]), self.t)
        background, ink = colours(probability)
        position = found.positions[column]
        said = self.t(
            "inside.lens_cell",
            layer=self._layer(layer),
            token=self.page.labels[position],
            next=shown.label,
            p=formatting.percent(probability),
        )
        cell = text(
            shown.label,
            "c cut",
            tag="button",
            type="button",
            style=f"background:{background};color:{ink}",
            title=formatting.percent(probability),
            aria_label=said,
        )
        self.cells[layer, position] = cell
        cell.on("click", self.page.visit.handle(partial(self._detail, layer, position)))

    def _detail(self, layer: int, position: int) -> None:
        """The likeliest tokens of one cell, and the rank of the one that really came."""
        if self.found is None or self.trace is not self.page.trace:  # of another text, which is still shown
            return
        t, found = self.t, self.found
        if self.chosen in self.cells:
            self.cells[self.chosen].classes(remove="on").props["aria-pressed"] = "false"
        self.chosen = (layer, position)
        self.cells[self.chosen].classes("on").props["aria-pressed"] = "true"
        column = position - found.positions[0]
        probabilities = found.probabilities[layer, column].tolist()
        self.detail.clear()
        with self.detail:
            said = t("inside.lens_says", layer=self._layer(layer), token=self.page.labels[position])
            text(said, "s13 m", style="margin-bottom:8px")
            for token, probability in zip(found.tokens[layer, column].tolist(), probabilities, strict=True):
                with box("lens-bar"):
                    text(show(self.page.tokenizer, token, t).label, "mono s12 cut")
                    with box():
                        bar(probability / (probabilities[0] or 1.0), "thin")
                    text(formatting.percent(probability), "s12 num right")
            text(self._came(found, layer, position), "s12 ink2", style="margin-top:8px")

    def _came(self, found: Lens, layer: int, position: int) -> str:
        tokens = self.page.trace.tokens
        if position + 1 == len(tokens) or found.target_ranks is None:
            return self.t("inside.lens_end")
        rank = int(found.target_ranks[layer, position - found.positions[0]])
        size = self.page.opened.network.config.vocab_size
        return self.t(
            "inside.lens_came",
            token=self.page.labels[position + 1],
            rank=formatting.whole(rank),
            size=formatting.whole(size),
        )


def _look(trace: Trace, positions: range) -> Lens:
    # The last token has no next one yet; it gets any token as its target, and that rank is not shown.
    following = (*trace.tokens[1:], trace.tokens[0])
    k = min(5, trace.network.config.vocab_size)
    return lens(trace, k=k, positions=positions, targets=[following[position] for position in positions])


def colours(probability: float) -> tuple[str, str]:
    """A background for a probability, and letters that can be read on it."""
    red, green, blue = (int(part) for part in cividis(np.array([probability]))[0, :3])
    luminance = float(np.dot((0.2126, 0.7152, 0.0722), (np.array([red, green, blue]) / 255) ** 2.2))
    return f"rgb({red},{green},{blue})", "#000" if luminance > _BRIGHT else "#fff"
