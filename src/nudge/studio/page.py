"""What all pages have in common: the frame around them, and a model that most of them open first."""

from typing import ClassVar

from nicegui import ui

from nudge.errors import NudgeError
from nudge.studio.components import box, link, message, refill, text
from nudge.studio.layout import show_bar
from nudge.studio.models import Opened
from nudge.studio.visit import Visit, after


class Page:
    """A page as one person sees it. A subclass says in `build` what it shows.

    What it puts into `title_row` stands at the right of the title. `kept` is as in Visit.
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
        """Put everything into the page that can be there at once."""
        raise NotImplementedError

    def no_run(self) -> None:
        """Say that there is nothing to look at yet."""
        with box("card empty"):
            text(self.t("ui.no_run"), "ct", tag="h2")
            text(self.t("ui.no_run_hint"), "ink2")
            if self.visit.page != "train":
                link(self.t("ui.to_train"), self.visit.href("train"), "q-btn prim")


class ModelPage(Page):
    """A page about the model that the address names. A subclass says in `fill` what it shows of it.

    Reading a checkpoint takes its time, so the page comes first. Whatever goes wrong is said.
    """

    opened: Opened

    def build(self) -> None:
        if self.visit.run is None:
            return self.no_run()
        with box("stack") as self.place, box("card empty"):
            ui.spinner(size="28px", color=None)
            text(self.t("ui.opening", run=self.visit.run), "ink2")
        after(0, self.visit.handle(self._open, say=self._refuse))

    async def _open(self) -> None:
        self.opened = await self.visit.open_model()
        with refill(self.place):
            await self.fill()

    def _refuse(self, error: NudgeError) -> None:
        with refill(self.place):
            message(error.message, error.hint, kind="bad")

    async def fill(self) -> None:
        """Put everything into the page, now that the model is open."""
        raise NotImplementedError
