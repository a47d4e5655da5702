"""Weights: one row of the token table, which is a vector, and the tokens whose rows point the same way."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from nudge.data.tokenizer import Tokenizer, bytes_of
from nudge.errors import NudgeError
from nudge.look import Neighbour, Weights, neighbours
from nudge.studio.components import box, card, image, pressable, refill, shape_of, text, track
from nudge.studio.pages.weights_tensor import color_values
from nudge.studio.token_search import find_tokens, token_search
from nudge.studio.tokens import Shown, matching_tokens, show
from nudge.studio.visit import Visit
from nudge.studio.weight_files import WeightFiles
from nudge.util import formatting

TABLE = "wte.weight"
N_NEAREST = 8
N_NUMBERS = 8
_EXAMPLES = ("·dog", "채용", "·the", "에서", "니다", "def", "e")  # the first of them that is a token is shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One token's row of the table, and the nearest rows."""

    token: int
    values: tuple[float, ...]  # the first of them
    picture: str
    nearest: tuple[Neighbour, ...]


def table_of(weights: Weights) -> tuple[int, int] | None:
    """Return the sizes [V, C] of the token table; None if there is none."""
    shapes = [parameter.shape for parameter in weights.parameters if parameter.name == TABLE and parameter.n]
    return (shapes[0][0], shapes[0][1]) if shapes and len(shapes[0]) == 2 else None


def look(files: WeightFiles, name: str, token: int) -> Row:
    """Return a token's row. Raises: NudgeError's children; ConfigError if the table has no such row."""
    table: Tensor = files.open(name).tensor(TABLE)
    nearest = neighbours(table, token, N_NEAREST)
    values = table[token].double()
    picture, _ = color_values(values[None].numpy())
    return Row(token=token, values=tuple(values[:N_NUMBERS].tolist()), picture=picture, nearest=nearest)


def find(tokenizer: Tokenizer | None, wanted: str, size: int) -> list[int]:
    """Return the tokens that match a text: exact matches, then those that contain it, the shortest first."""
    if tokenizer is None:
        number = wanted.removeprefix("#")
        return [int(number)] if number.isdecimal() and len(number) < 10 and int(number) < size else []
    return find_tokens(tokenizer, wanted, size, by=lambda token: len(bytes_of(tokenizer, token) or b""))


def first_token(tokenizer: Tokenizer | None, size: int) -> int:
    """Return the token to show first."""
    found = (matching_tokens(tokenizer, example, size)[0] for example in _EXAMPLES) if tokenizer else iter(())
    return next((tokens[0] for tokens in found if tokens), 0)


class RowCard:
    """The card about one token's row."""

    def __init__(self, visit: Visit) -> None:
        self.visit, self.t = visit, visit.t
        self.name = ""
        self.tokenizer: Tokenizer | None = None
        self.token: int | None = None
        self.sizes = (0, 0)
        t = self.t
        with card(t("weights.row_title"), t("weights.row_note")) as self.card:
            hint = t("weights.find_hint")
            token_search(visit, self._find, self._shown, self.choose, label=t("weights.find"), hint=hint)
            self.place = box("token-row", aria_live="polite")

    async def show(self, name: str, weights: Weights) -> None:
        """Show the table of another file, at the same token if it has one."""
        sizes = table_of(weights)
        self.card.set_visibility(sizes is not None)
        if sizes is None:
            return
        self.name, self.sizes = name, sizes
        try:
            self.tokenizer = await self.visit.ask(self.visit.app.weight_files.tokenizer, name, key="tokenizer")
        except NudgeError:  # there is none, or it is damaged
            self.tokenizer = None
        if self.token is None or self.token >= sizes[0]:
            self.token = await self.visit.ask(first_token, self.tokenizer, sizes[0], key="find")
        await self.choose(self.token)

    async def _find(self, wanted: str) -> list[int]:
        return await self.visit.ask(find, self.tokenizer, wanted, self.sizes[0], key="find")

    async def choose(self, token: int) -> None:
        """Show one token's row."""
        row = await self.visit.ask(look, self.visit.app.weight_files, self.name, token, key="row")
        self.token = token
        with refill(self.place):
            self._show_row(row)
            self._show_nearest(row)

    def _shown(self, token: int) -> Shown:
        if self.tokenizer is None:
            return Shown(label=f"#{token}", kind="text", id=token, hex="")
        return show(self.tokenizer, token, self.t)

    def _show_row(self, row: Row) -> None:
        t, shown = self.t, self._shown(row.token)
        columns = self.sizes[1]
        with box("hs"):
            text(shown.label, f"mono b cut {shown.kind}")
            text(t("predict.id_bytes", id=shown.id, hex=shown.hex or "–"), "s12 ink3 nw")
        image(row.picture, "strip", alt=t("weights.row_of", token=shown.label))
        with box("numbers-of-row"):
            for value in row.values:
                text(formatting.fixed(value, 2), "mono s12 num", title=repr(value))
            if len(row.values) < self.sizes[1]:
                text("…", "s12 ink3")
        text(t("weights.first_numbers", n=len(row.values), columns=columns), "s12 ink3")
        text(t("weights.vector", table=shape_of(self.sizes), columns=columns), "callout")
        if self.tokenizer is None:
            text(t("weights.no_tokenizer"), "s12 ink3")

    def _show_nearest(self, row: Row) -> None:
        t = self.t
        with box("nearest-head"):
            text(t("weights.nearest"), "b s13", tag="h3")
            text(t("weights.nearest_note", n=self.sizes[0]), "s12 ink3")
        if not row.nearest:
            text(t("weights.no_direction"), "s13 ink2")
        for neighbor in row.nearest:
            shown = self._shown(neighbor.token)
            with pressable(self.visit.handle(partial(self.choose, neighbor.token)), "", "near", title=shown.title):
                text(shown.label, f"mono s13 cut t {shown.kind}")
                track(neighbor.cosine, "thin")
                text(formatting.fixed(neighbor.cosine, 2), "s13 num right", title=repr(neighbor.cosine))
