"""Inside: a large picture of one attention head. A row has a token's weights; a click shows a cell's arithmetic."""

import math
from dataclasses import dataclass
from functools import partial
from typing import TypeGuard

import numpy as np
from torch import Tensor

from nudge.look import Arithmetic, Habit, Trace, explain, explain_fold, fold, habit, shrink
from nudge.studio.components import box, card, choice, pressable, refill, text
from nudge.studio.pages.inside_arithmetic import show_arithmetic
from nudge.studio.pages.inside_cells import Cells, drawn
from nudge.studio.pages.inside_view import InsideView
from nudge.studio.pictures import Values, sizes_png
from nudge.util import formatting

SIDE = 280  # pixels of the map; with more tokens than this, a pixel stands for several cells
LABEL_HEIGHT = 15  # pixels that a label needs
N_LOOKED_AT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A head's pattern [N, N], of tokens or of words, its picture, and its habit."""

    trace: Trace
    words: bool
    pattern: Tensor
    picture: str
    habit: Habit | None


class HeadView:
    """The map of a head with its labels, and the card about one of its cells."""

    def __init__(self, view: InsideView) -> None:
        self.view, self.t = view, view.t
        self.words = False  # folded to whole words
        self.seen: Seen | None = None
        self.last = (0, 0)  # the chosen cell
        self.row = 0  # the row with listed weights
        self.labeled: list[str] = []  # the labels along the sides
        t, handle = self.t, view.visit.handle
        with box("head-view"):
            with box("hs wrap", style="gap:8px"):
                self.title = text("", "b s13", tag="h3")
                self.tag = text("", "tag bl")
            kinds = {"tokens": t("inside.tokens"), "words": t("inside.words")}
            choice(kinds, "tokens", handle(self._fold), label=t("inside.fold"), classes="fold")
            with box("map", style=f"--side:{SIDE}px"):
                self.above = box("above")
                self.left = box("beside")
                self.cells = Cells(self._cell, label=t("inside.map"), handle=handle, hovered=self._hovered)
                with self.cells.element:
                    self.outline = box("outline")
            self.sentence = text("", "s13 ink2 looks", aria_live="polite")
            self.note = text("", "s12 ink3")

    def add_arithmetic(self) -> None:
        """Add the card below."""
        with card(self.t("inside.made")) as self.card:
            self.place = text("", "s12 ink3 cut", style="margin:-12px 0 16px")
            self.made = box()

    @property
    def labels(self) -> list[str]:
        return self.view.word_labels if self.words else self.view.labels

    async def _fold(self, kind: str) -> None:
        self.words = kind == "words"
        await self.show()

    async def show(self) -> None:
        """Show the chosen head over the current trace."""
        t, layer, head = self.t, self.view.layer, self.view.head
        sizes = self.view.word_sizes if self.words else None
        seen = await self.view.ask(see, layer, head, sizes, key="head")
        if (layer, head, self.words) != (self.view.layer, self.view.head, seen.words):  # chosen meanwhile
            return
        self.seen, n = seen, len(seen.pattern)
        self.title.text = t("inside.block_head", layer=layer, head=head)
        self.tag.set_visibility(seen.habit is not None)
        if seen.habit is not None:
            share = formatting.percent(seen.habit.share)
            self.tag.text = t(f"inside.habit.{seen.habit.kind}", share=share)
            self.tag.props["title"] = t("inside.habit_rule")
        if self.labeled != self.labels:
            self._show_labels()
            self.row = n - 1
        alt = t("inside.map_of", layer=layer, head=head, n=n)
        self.cells.show(seen.picture, n, n, alt=alt, square=square_of(n))
        notes = [t("inside.fold_note")] if self.words else []
        if n > SIDE:
            notes.append(t("inside.map_small", n=square_of(n)))
        self.note.text = " ".join(notes)
        await self._row(self.row)  # the same row as before if only the head changed

    def _show_labels(self) -> None:
        """Show as many labels along both sides as there is room for."""
        self.labeled = labels = self.labels
        handle = self.view.visit.handle
        every = math.ceil(LABEL_HEIGHT * len(labels) / SIDE)
        side = drawn(len(labels), square_of(len(labels)))
        self.left.clear()
        self.above.clear()
        for at in range(0, len(labels), every):
            middle = 100 * (at + 0.5) / side
            with self.above:
                text(labels[at], "mono s11 ink2 cut", style=f"left:{middle:.3f}%", aria_hidden="true")
            with self.left:
                clicked, hovered = (handle(partial(action, at)) for action in (self._row, self._hovered))
                label = pressable(clicked, labels[at], "mono s11 cut", style=f"top:{middle:.3f}%")
                for event in ("mouseenter", "focus"):
                    label.on(event, hovered, args=[])

    def _hovered(self, row: int) -> None:
        """List the tokens that a token attends to most."""
        if not self._is_current(self.seen):
            return
        self.row, labels, side = row, self.labels, self.cells.rows_drawn
        weights = self.seen.pattern[row, : row + 1]
        best = weights.topk(min(N_LOOKED_AT, row + 1))
        looked_at = (
            f"{labels[at]} {formatting.percent(weight)}"
            for at, weight in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        )
        self.sentence.text = self.t("inside.looks", token=labels[row], list=", ".join(looked_at))
        self.outline.style(f"top:{100 * row / side:.4f}%;height:{100 / side:.4f}%;width:{100 * (row + 1) / side:.4f}%")

    def _is_current(self, seen: Seen | None) -> TypeGuard[Seen]:
        """Return whether `seen` belongs to the current text and fold; if not, the next answer will come soon."""
        return seen is not None and seen.trace is self.view.trace and seen.words == self.words

    async def _row(self, row: int) -> None:
        if not self._is_current(self.seen):
            return
        await self._look_at(row, int(self.seen.pattern[row].argmax()))

    async def _cell(self, row: int, column: int) -> None:
        """Choose a cell. If a pixel stands for several cells, choose the largest."""
        if not self._is_current(self.seen):
            return
        square = square_of(len(self.seen.pattern))
        if square > 1 and abs(row - self.last[0]) + abs(column - self.last[1]) > 1:  # by a click, not by an arrow key
            top, left = row // square * square, column // square * square
            part = self.seen.pattern[top : top + square, left : left + square]
            down, right = divmod(int(part.argmax()), part.size(1))
            row, column = top + down, left + right
        await self._look_at(row, min(row, column))

    async def _look_at(self, row: int, column: int) -> None:
        self.last = (row, column)
        self.cells.move(row, column)
        self._hovered(row)
        labels, layer, head = self.labels, self.view.layer, self.view.head
        self.place.text = self.t("inside.from_to_token", layer=layer, head=head, row=labels[row], column=labels[column])
        await (self._show_folded if self.words else self._show_cell)(layer, head, row, column)

    async def _show_cell(self, layer: int, head: int, row: int, column: int) -> None:
        """Show the steps of a cell: query . key, / sqrt(K), e^, share."""
        t = self.t
        score, share = await self.view.ask(_arithmetic, layer, head, row, column, key="pattern cell")
        at = {term.label: term.value for term in share.terms}
        config = self.view.opened.network.config
        K = config.n_embd // config.n_head
        steps = (
            (t("inside.query_key", n=K), formatting.significant(score.value * math.sqrt(K), 4)),
            (t("inside.divided", n=K), formatting.significant(score.value, 4)),
            (t("inside.power"), formatting.significant(math.exp(score.value - at["largest"]), 3)),
            (t("inside.share"), formatting.percent(share.value)),
        )
        with refill(self.made):
            with box("steps"):
                for label, value in steps:
                    with box("vs"):
                        text(label, "s12 ink3")
                        text(value, "num step")
            largest, total = (formatting.significant(at[name], 4) for name in ("largest", "sum"))
            text(t("inside.softmax_note", largest=largest, sum=total), "s12 ink3", style="margin:12px 0 16px")
            show_arithmetic(score, t, self.view.labels, place=t("inside.products", n=K))

    async def _show_folded(self, layer: int, head: int, row: int, column: int) -> None:
        """Show the tokens of the column's word, each with its weight for the row's word."""
        sizes = self.view.word_sizes
        made = await self.view.ask(explain_fold, layer, head, sizes, (row, column), key="pattern cell")
        with refill(self.made):
            note = self.t("inside.fold_made", rows=sizes[row], columns=sizes[column])
            text(note, "s13 ink2", style="margin-bottom:8px")
            show_arithmetic(made, self.t, self.view.labels, place=formatting.percent(made.value))


def square_of(n: int) -> int:
    """Return the number of cells along each side of a pixel in the map of n tokens."""
    return math.ceil(n / SIDE)


def see(trace: Trace, layer: int, head: int, sizes: tuple[int, ...] | None) -> Seen:
    """Return a head's pattern, folded to words if `sizes`, the tokens of each word, are given."""
    pattern = trace.pattern(layer, head)
    shown = pattern if sizes is None else fold(pattern, sizes)
    return Seen(
        trace=trace,
        words=sizes is not None,
        pattern=shown,
        picture=sizes_png(mask_future(shrink(shown, SIDE))),
        habit=habit(pattern),
    )


def mask_future(pattern: Tensor) -> Values:
    """Return the pattern with NaN above the diagonal, so that the future is transparent."""
    values: Values = pattern.float().cpu().numpy().copy()
    values[np.triu_indices(len(values), 1)] = np.nan
    return values


def _arithmetic(trace: Trace, layer: int, head: int, row: int, column: int) -> tuple[Arithmetic, Arithmetic]:
    at, name = (head, row, column), f"blocks.{layer}.attn"
    return explain(trace, f"{name}.scores", at), explain(trace, f"{name}.pattern", at)
