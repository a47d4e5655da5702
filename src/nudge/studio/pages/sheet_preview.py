"""Sheet: the page as it will be printed, on a desk. Its room is kept while it is drawn."""

import contextlib
import re
import struct
from collections.abc import Iterator

from nicegui import ui
from nicegui.element import Element

from nudge.errors import NudgeError
from nudge.studio.components import box, image, link, mark, message, refill, text
from nudge.studio.sheets import Asked
from nudge.studio.visit import Visit

_LANDSCAPE = re.compile(r"^paper:\s*[\"']?a4-landscape", re.MULTILINE)


class Preview:
    """A picture of the page, which opens it at full size."""

    def __init__(self, visit: Visit) -> None:
        self.t = visit.t
        self.picture: Element | None = None
        self._n_drawing = 0
        with box("desk", tag="section", aria_label=self.t("sheet.preview")) as self.desk:
            with box("hint", role="status"), box("pill hidden") as self.hint:
                ui.spinner(size="16px", color=None)
                text(self.t("sheet.drawing"), "s13")
            self.wrong = box("wrong")
            self.paper = link("", "", "paper hidden", target="_blank", rel="noopener", title=self.t("sheet.full"))

    def begin(self, written: str) -> None:
        """Keep room for the page that this text asks for, before it is read."""
        self._turn(is_landscape=_LANDSCAPE.search(written) is not None)
        self.paper.classes(remove="hidden")

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """Say that a page is being drawn, until the block ends."""
        self._n_drawing += 1
        self.hint.classes(remove="hidden")
        try:
            yield
        finally:
            self._n_drawing -= 1
            if not self._n_drawing:
                self.hint.classes(add="hidden")

    def show(self, page: bytes, asked: Asked) -> None:
        """Show the page, which is at its address from now on."""
        width, height = struct.unpack(">II", page[16:24])  # of a PNG. Source: its specification, section 11.2.2
        self._turn(is_landscape=width > height)
        self.wrong.clear()
        self.paper.classes(remove="hidden")
        address = asked.address("png")
        self.paper.props["href"] = address
        if self.picture is None:
            with self.paper:
                self.picture = image(address, alt=self.t("sheet.alt", name=asked.file("png")))
        self.picture.props["src"] = address

    def refuse(self, error: NudgeError) -> None:
        """There is nothing to show, and why: what a person should do first, so it is no alarm."""
        with refill(self.wrong):
            message(error.message, error.hint)
        if self.picture is None:
            self.paper.classes(add="hidden")

    def _turn(self, *, is_landscape: bool) -> None:
        mark(self.desk, is_landscape, "landscape")
