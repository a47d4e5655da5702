"""Weights: which tokens have rows like a token's, and that row itself: a vector."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from nicegui import ui

from nudge.data.tokenizer import Tokenizer
from nudge.errors import NudgeError
from nudge.look import Neighbour, Weights, neighbours
from nudge.studio import numbers
from nudge.studio.kit import bar, box, card, icon, image, text
from nudge.studio.pages.predict_find import find
from nudge.studio.pictures import signs_png
from nudge.studio.tokens import show

if TYPE_CHECKING:
    from nudge.studio.pages.weights import WeightsPage

N_NUMBERS = 6
TABLE = "wte.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A token's row of the table, and the tokens nearest to it."""

    values: npt.NDArray[np.float32]  # [C]
    nearest: tuple[Neighbour, ...]


def row_of(opened: Weights, token: int) -> Row:
    """Load the table, and nothing else. Raises: CheckpointError, ConfigError."""
    table = opened.tensor(TABLE).float()
    return Row(nearest=neighbours(table, token, k=8), values=table[token].numpy().copy())


def first_token(tokenizer: Tokenizer, size: int) -> int:
    """A token to begin with: an early one that is a word, so that training saw it often."""
    for token in range(min(size, tokenizer.vocab_size)):
        data = tokenizer.token_bytes(token) or b""
        word = data.decode("utf-8", "ignore").strip()
        if word.isalpha() and len(data) >= 5:
            return token
    return 0


class NeighboursCard:
    """A token to type, its row as a strip, and the nearest rows by angle."""

    def __init__(self, page: "WeightsPage") -> None:
        self.page, self.t, self.visit = page, page.t, page.visit
        self.tokenizer: Tokenizer | None = None
        t = self.t
        with card(t("weights.nearest"), t("weights.by_angle")):
            with box("fill"):
                self.entry = ui.input(placeholder=t("predict.find_hint"), on_change=self.visit.handle(self._search))
                self.entry.props("outlined dense clearable debounce=250 maxlength=200")
                self.entry.props["aria-label"] = t("weights.token")
                with self.entry.add_slot("prepend"):
                    icon("search")
            self.found = box("found")
            self.result = box("neighbours")

    async def begin(self) -> None:
        """Show a first token; say so if the file has no vocabulary beside it."""
        try:
            self.tokenizer = await self.visit.ask(self.page.opened.tokenizer)
        except NudgeError as error:
            self.entry.set_enabled(False)
            with self.result:
                text(error.message, "s13 ink2")
            return
        await self._show(first_token(self.tokenizer, self._size))

    @property
    def _size(self) -> int:
        return self.page.opened.parameter(TABLE).shape[0]

    async def _search(self, event: object) -> None:
        wanted = str(getattr(event, "value", "") or "")
        if self.tokenizer is None:
            return
        tokens = await self.visit.ask(find, self.tokenizer, wanted, size=self._size, key="find") if wanted else []
        self.found.clear()
        with self.found:
            for token in tokens:
                shown = show(self.tokenizer, token, self.t)
                chip = text(shown.label, f"pick {shown.kind}", tag="button", type="button")
                chip.on("click", self.visit.handle(partial(self._show, token)))
            if wanted and not tokens:
                text(self.t("predict.not_found"), "s12 ink3")
        if tokens:
            await self._show(tokens[0])

    async def _show(self, token: int) -> None:
        assert self.tokenizer is not None, "a token is only chosen from a vocabulary"
        row = await self.visit.ask(row_of, self.page.opened, token, key="row")
        t, shown = self.t, show(self.tokenizer, token, self.t)
        self.result.clear()
        with self.result:
            with box("hs"):
                text(shown.label, f"mono b {shown.kind}")
                text(t("predict.id_bytes", id=numbers.whole(shown.id), hex=shown.hex or "–"), "s12 ink3")
            image(signs_png(row.values[None, :]), "px vector", alt=t("weights.vector_of", token=shown.label))
            some = ", ".join(numbers.fixed(float(value), 3) for value in row.values[:N_NUMBERS])
            text(f"[{some}, …]", "mono s12 ink2")
            text(t("weights.vector", n=numbers.whole(len(row.values))), "s12 ink3")
            for near in row.nearest:
                label = show(self.tokenizer, near.token, self.t)
                with box("near"):
                    text(label.label, f"mono s13 cut {label.kind}", title=f"{label.id} · {label.hex}")
                    bar(max(0.0, near.cosine), "thin")
                    text(numbers.fixed(near.cosine), "s13 num right")
            if not row.nearest:
                text(t("weights.no_direction"), "s13 ink2")
