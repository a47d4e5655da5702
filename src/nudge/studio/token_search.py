"""A field that finds tokens of the vocabulary by their text or their id."""

from collections.abc import Awaitable, Callable
from functools import partial

from nicegui import ui

from nudge.data.tokenizer import Tokenizer
from nudge.studio.components import box, icon, named, pressable, refill, text
from nudge.studio.tokens import Shown, matching_tokens
from nudge.studio.visit import Visit

N_FOUND = 8


def find_tokens(tokenizer: Tokenizer, wanted: str, size: int, *, by: Callable[[int], float]) -> list[int]:
    """Return the tokens below `size` that match a text: exact matches, then those that contain it, sorted by `by`."""
    exact, containing = matching_tokens(tokenizer, wanted, size)
    return list(dict.fromkeys([*exact, *sorted(containing, key=by)]))[:N_FOUND]


def token_search(
    visit: Visit,
    find: Callable[[str], Awaitable[list[int]]],
    show: Callable[[int], Shown],
    choose: Callable[[int], Awaitable[None]],
    *,
    label: str,
    hint: str,
) -> None:
    """Add the field and a place for what it finds. The first token found is chosen at once."""

    async def search(wanted: str | None) -> None:
        tokens = await find(wanted) if wanted else []
        with refill(found):
            for shown in map(show, tokens):
                pressable(visit.handle(partial(choose, shown.id)), shown.label, f"pick {shown.kind}")
            if wanted and not tokens:
                text(visit.t("predict.not_found"), "s12 ink3")
        if tokens:
            await choose(tokens[0])

    with box("fill"):
        entry = ui.input(placeholder=hint, on_change=visit.handle(search))
        named(entry, label, "outlined dense clearable debounce=200 maxlength=200")
        with entry.add_slot("prepend"):
            icon("search")
    found = box("found")
