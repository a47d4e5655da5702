"""The text that a network reads on a page: what it is at first, the field where a person writes it, and its tokens."""

from nicegui import ui
from nicegui.element import Element

from nudge.studio.components import box, message, named, refill
from nudge.studio.models import Opened
from nudge.studio.page import ModelPage
from nudge.util import formatting

_UNSORTED = (2, 1, 0, 1, 1, 2)


class TextPage(ModelPage):
    """A page about a text that the model reads. A subclass says in `arrange` what it shows, with `text_field` in it.

    `read` gets the text: the first one, and whatever a person then writes.
    """

    notes: Element  # where it is said what is wrong with the text

    async def fill(self) -> None:
        written = self.visit.query.get("text")
        self.first = await self.visit.ask(_example, self.opened) if written is None else written
        await self.arrange()
        await self.visit.handle(self.read)(self.first)  # whatever is wrong with the text, the page stays and says so

    async def arrange(self) -> None:
        """Put everything into the page, which has no text yet."""
        raise NotImplementedError

    async def read(self, written: str) -> None:
        """Show what is to be shown of a text."""
        raise NotImplementedError

    def text_field(self, classes: str = "fill") -> ui.textarea:
        """The field with the text."""
        with box(classes):
            area = ui.textarea(value=self.first, on_change=self.visit.handle(lambda written: self.read(written or "")))
        props = "outlined dense autogrow debounce=250 rows=1 spellcheck=false maxlength=20000"
        return named(area, self.t(f"{self.visit.page}.text"), props)

    async def tokens_of(self, written: str) -> list[int]:
        """The ids of a text; of one that is too long for the network the last ones, which is said in `notes`."""
        ids = await self.visit.ask(self.opened.model.prompt_ids, written, key="tokens")
        room = self.opened.network.config.block_size
        with refill(self.notes):
            if len(ids) > room:
                message(self.t("predict.too_long", n=formatting.whole(len(ids)), room=formatting.whole(room)))
        return ids[-room:]


def _example(opened: Opened) -> str:
    """What the model writes. One that cannot start a document is given a few tokens."""
    model = opened.model
    start = "" if model.tokenizer.opening else model.tokenizer.decode(n % model.tokenizer.vocab_size for n in _UNSORTED)
    room = model.network.config.block_size - len(start)
    return start + model.generate(start, max_tokens=min(12, room), seed=1).rstrip()
