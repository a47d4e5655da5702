"""The frame around every page, and the base classes of pages about a model and about a text."""

from typing import ClassVar

from nicegui import ui
from nicegui.element import Element

from nudge.errors import NudgeError
from nudge.studio.components import box, empty_card, link, message, named, refill, text
from nudge.studio.layout import show_bar
from nudge.studio.models import Opened
from nudge.studio.visit import Visit, when_connected

_UNSORTED = (2, 1, 0, 1, 1, 2)
_LETTERS = 20_000  # of a text; only a request that no page sends, or an address, has more


class Page:
    """One visit to a page. A subclass fills the page in `build`.

    `title_row` is the place to the right of the title. `kept` is as in Visit.
    """

    kept: ClassVar[tuple[str, ...]] = ()

    def __init__(self, visit: Visit) -> None:
        self.visit, self.t = visit, visit.t
        visit.kept = self.kept
        link(self.t("ui.skip"), "#content", "skip")
        visit.bar = box("top", tag="header")
        show_bar(visit)
        with box(f"page {visit.page}-page", tag="main", id="content"):
            with box("head") as self.title_row, box("gr"):
                text(self.t(f"{visit.page}.title"), "h", tag="h1")
                visit.subtitle = text(self.t(f"{visit.page}.sub"), "sub")
            visit.banner = box("banner")
            with box("content"):
                self.build()

    def build(self) -> None:
        """Build the part of the page that needs no waiting."""
        raise NotImplementedError

    def no_run(self) -> None:
        """Show that there is nothing to look at yet."""
        with empty_card(self.t("ui.no_run"), self.t("ui.no_run_hint")):
            if self.visit.page != "train":
                link(self.t("ui.to_train"), self.visit.href("train"), "q-btn prim")


class ModelPage(Page):
    """A page about the model in the address. A subclass builds the content in `fill`.

    Reading a checkpoint takes time, so the frame of the page comes first.
    """

    opened: Opened

    def build(self) -> None:
        if self.visit.run is None:
            return self.no_run()
        with box("stack") as self.place, box("card empty"):
            ui.spinner(size="28px", color=None)
            text(self.t("ui.opening", run=self.visit.run), "ink2")
        when_connected(self.visit.handle(self._open, self._refuse))

    async def _open(self) -> None:
        self.opened = await self.visit.open_model()
        with refill(self.place):
            await self.fill()

    def _refuse(self, error: NudgeError) -> None:
        with refill(self.place):
            self.visit.failure(error)

    async def fill(self) -> None:
        """Build the page, now that the model is open."""
        raise NotImplementedError


class TextPage(ModelPage):
    """A page about a text that the model reads. A subclass builds it in `arrange`, which calls `text_field`.

    `read` gets the first text, and every text that the user then types.
    """

    notes: Element  # the place for a note about the text

    async def fill(self) -> None:
        written = self.visit.query.get("text")
        self.first = await self.visit.ask(_example, self.opened) if written is None else written[:_LETTERS]
        await self.arrange()
        await self.visit.handle(self.read)(self.first)  # an error in the text does not change the page

    async def arrange(self) -> None:
        """Build the page, without a text yet."""
        raise NotImplementedError

    async def read(self, written: str) -> None:
        """Show a text."""
        raise NotImplementedError

    def text_field(self, classes: str = "fill") -> ui.textarea:
        """Add the text field."""
        with box(classes):
            changed = self.visit.handle(lambda written: self.read((written or "")[:_LETTERS]))
            area = ui.textarea(value=self.first, on_change=changed)
        props = f"outlined dense autogrow debounce=250 rows=1 spellcheck=false maxlength={_LETTERS}"
        return named(area, self.t(f"{self.visit.page}.text"), props)

    async def tokens_of(self, written: str) -> list[int]:
        """Return the token ids of a text: the last ones, with a note, if it is too long for the network."""
        ids = await self.visit.ask(self.opened.model.prompt_ids, written, key="tokens")
        room = self.opened.network.config.block_size
        with refill(self.notes):
            if len(ids) > room:
                message(self.t("predict.too_long", n=len(ids), room=room))
        return ids[-room:]


def _example(opened: Opened) -> str:
    """Return a text from the model. A model without a start-of-document token continues a fixed text."""
    model = opened.model
    start = "" if model.tokenizer.opening else model.tokenizer.decode(n % model.tokenizer.vocab_size for n in _UNSORTED)
    room = model.network.config.block_size - len(start)
    return start + model.generate(start, max_tokens=min(12, room), seed=1).rstrip()
