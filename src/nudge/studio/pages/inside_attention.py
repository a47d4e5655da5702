"""Inside: the attention wall, a small picture of every head of every layer; a click opens a head."""

from collections.abc import Awaitable, Callable
from functools import partial

import numpy as np
from nicegui.element import Element

from nudge.look import Trace
from nudge.studio.components import box, card, image, mark, text
from nudge.studio.pages.inside_head import HeadView, mask_future
from nudge.studio.pages.inside_view import InsideView
from nudge.studio.pictures import sizes_png

N_AT_ONCE = 64  # tokens up to which the whole wall is one question: 144 heads take a tenth of a second
WIDTH, SMALLEST, LARGEST, GAP = 304, 16, 56, 4  # pixels of a row of heads, of one, and between two


class AttentionCard:
    """The wall at the left, one head at the right, and the arithmetic of one of its cells below.

    `unfold` opens a block of the pipeline.
    """

    def __init__(self, view: InsideView, unfold: Callable[[int], Awaitable[None]]) -> None:
        self.view, self.t, self.unfold = view, view.t, unfold
        t, config = self.t, view.opened.network.config
        note = t("inside.wall_note", blocks=config.n_layer, heads=config.n_head)
        with card(t("inside.wall"), note, right=self._scale), box("attention"):
            with box("wall-place"):
                side = min(LARGEST, max(SMALLEST, WIDTH // config.n_head - GAP))
                columns = f"grid-template-columns:max-content repeat({config.n_head},{side}px)"
                with box("wall", style=columns):
                    text("")
                    for head in range(config.n_head):
                        text(t("inside.head_n", n=0) if not head and config.n_head < 9 else head, "s12 ink3 nw mid")
                    self.thumbs = [self._layer(i) for i in range(config.n_layer)]
                text(t("inside.wall_hint"), "s12 ink3 hint")
            self.head_view = HeadView(view)
        self.head_view.add_arithmetic()

    def _scale(self) -> None:
        text("0", "s12 ink3")
        image(sizes_png(np.linspace(0, 1, 64)[None]), "px scale", alt=self.t("inside.scale"))
        text("1", "s12 ink3")

    def _layer(self, layer: int) -> list[Element]:
        text(self.t("inside.block", n=layer), "s12 ink3 nw of")
        thumbs = []
        for head in range(self.view.opened.network.config.n_head):
            # A button that is a picture is one element instead of two, which matters for 144 of them.
            label = self.t("inside.block_head", layer=layer, head=head)
            thumb = box("thumb", tag="input", type="image", alt=label, title=label, aria_pressed="false")
            thumb.on("click", self.view.visit.handle(partial(self.choose, layer, head)), args=[])
            thumbs.append(thumb)
        return thumbs

    async def show(self) -> None:
        """Show the patterns of another trace, the open head first."""
        self._mark(on=True)
        await self.view.show_in_turn(self.head_view.show, self._show_wall)

    async def _show_wall(self) -> None:
        n_layer = self.view.opened.network.config.n_layer
        step = n_layer if len(self.view.trace.tokens) <= N_AT_ONCE else 1
        for first in range(0, n_layer, step):
            layers = range(first, min(n_layer, first + step))
            rows = await self.view.ask(_thumbnails, layers, key="wall")
            for layer, sources in zip(layers, rows, strict=True):
                for thumb, source in zip(self.thumbs[layer], sources, strict=True):
                    thumb.props["src"] = source

    async def choose(self, layer: int, head: int) -> None:
        """Open a head and its block."""
        self._mark(on=False)
        self.view.layer, self.view.head = layer, head
        self._mark(on=True)
        await self.head_view.show()
        await self.unfold(layer)

    def _mark(self, *, on: bool) -> None:
        mark(self.thumbs[self.view.layer][self.view.head], on, aria="pressed")


def _thumbnails(trace: Trace, layers: range) -> list[list[str]]:
    heads = range(trace.network.config.n_head)
    return [[sizes_png(mask_future(trace.pooled(layer, head))) for head in heads] for layer in layers]
