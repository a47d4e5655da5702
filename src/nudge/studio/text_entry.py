"""The text that a network reads on a page: what it is at first, the field where a person writes it, and its tokens."""

from collections.abc import Awaitable, Callable

from nicegui import ui
from nicegui.element import Element

from nudge.studio.components import message
from nudge.studio.models import Opened
from nudge.studio.visit import Visit
from nudge.util import formatting

_UNSORTED = (2, 1, 0, 1, 1, 2)


async def first_text(visit: Visit, opened: Opened) -> str:
    """What the address says, or else what the model itself writes."""
    written = visit.query.get("text")
    return await visit.ask(_example, opened) if written is None else written


def _example(opened: Opened) -> str:
    """What the model writes. One that cannot start a document is given a few tokens."""
    model = opened.model
    start = "" if model.tokenizer.opening else model.tokenizer.decode(n % model.tokenizer.vocab_size for n in _UNSORTED)
    room = model.network.config.block_size - len(start)
    return start + model.generate(start, max_tokens=min(12, room), seed=1).rstrip()


def text_field(visit: Visit, first: str, read: Callable[[str], Awaitable[None]], *, label: str) -> ui.textarea:
    """A field with a text, which `read` gets whenever a person has changed it."""

    async def typed(event: object) -> None:
        await read(str(getattr(event, "value", "") or ""))

    area = ui.textarea(value=first, on_change=visit.handle(typed))
    area.props("outlined dense autogrow debounce=250 rows=1 spellcheck=false maxlength=20000")
    area.props["aria-label"] = label
    return area


async def tokens_of(visit: Visit, opened: Opened, written: str, notes: Element) -> list[int]:
    """The ids of a text; of one that is too long for the network the last ones, which is said in `notes`."""
    ids, room = await visit.ask(opened.model.prompt_ids, written, key="tokens"), opened.network.config.block_size
    notes.clear()
    if len(ids) > room:
        with notes:
            message(visit.t("predict.too_long", n=formatting.whole(len(ids)), room=formatting.whole(room)))
    return ids[-room:]
