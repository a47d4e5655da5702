"""Sheet: the page as it will be printed, on a desk. Its place is reserved while it is drawn."""

import contextlib
import re
import struct
from collections.abc import Iterator

from nicegui import ui
from nicegui.element import Element

from nudge.errors import NudgeError
from nudge.studio.components import box, image, link, mark, refill, text
from nudge.studio.sheets import SheetRef
from nudge.studio.visit import Visit

_LANDSCAPE = re.compile(r"^paper:\s*[\"']?a4-landscape", re.MULTILINE)


class Preview:
    """A picture of the page, which opens it at full size."""

    def __init__(self, visit: Visit) -> None:
        self.visit, self.t = visit, visit.t
        self.picture: Element | None = None
        self._n_drawing = 0
        with box("desk", tag="section", aria_label=self.t("sheet.preview")) as self.desk:
            with box("hint", role="status"), box("pill hidden") as self.hint:
                ui.spinner(size="16px", color=None)
                text(self.t("sheet.drawing"), "s13")
            self.wrong = box("wrong")
            self.paper = link("", "", "paper hidden", target="_blank", rel="noopener", title=self.t("sheet.full"))

    def begin(self, written: str) -> None:
        """Reserve the place for the page of this text, in its orientation."""
        self._reserve(is_landscape=_LANDSCAPE.search(written) is not None)

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """Show that a page is being drawn, until the block ends."""
        self._n_drawing += 1
        mark(self.hint, False, "hidden")
        try:
            yield
        finally:
            self._n_drawing -= 1
            mark(self.hint, not self._n_drawing, "hidden")

    def show(self, page: bytes, ref: SheetRef) -> None:
        """Show the page from its address."""
        width, height = struct.unpack(">II", page[16:24])  # Source: PNG specification, section 11.2.2
        self._reserve(is_landscape=width > height)
        self.wrong.clear()
        address = ref.address("png")
        self.paper.props["href"] = address
        if self.picture is None:
            with self.paper:
                self.picture = image(address, alt=self.t("sheet.alt", name=ref.file("png")))
        self.picture.props["src"] = address

    def refuse(self, error: NudgeError) -> None:
        """Show why there is no page, as a note, not as an error: it tells the user what to do first."""
        with refill(self.wrong):
            self.visit.failure(error, kind="note")
        if self.picture is None:
            mark(self.paper, True, "hidden")

    def _reserve(self, *, is_landscape: bool) -> None:
        mark(self.desk, is_landscape, "landscape")
        mark(self.paper, False, "hidden")
