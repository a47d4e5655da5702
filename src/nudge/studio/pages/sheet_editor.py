"""Sheet: its Markdown, in a field with line numbers. The page is drawn again when the user stops typing."""

import asyncio
from collections.abc import Awaitable, Callable

from nicegui import ui

from nudge.errors import NudgeError
from nudge.studio.components import box, button, mark, refill, text
from nudge.studio.visit import Visit

PAUSE_S = 0.7


class Editor:
    """The text that the user changes. `draw` gets it; the close button calls `close`."""

    def __init__(
        self,
        visit: Visit,
        first: str,
        original: str,
        *,
        draw: Callable[[str], Awaitable[None]],
        close: Callable[[], None],
    ) -> None:
        self.visit, self.t, self.original, self._draw = visit, visit.t, original, draw
        self._n_typed = 0
        t = self.t
        with box("card editor", tag="section"):
            with box("ch"):
                text(t("sheet.text"), "ct", tag="h2")
                box("gr")
                self.undo = button(t("sheet.undo"), self._to_original, kind="quiet small hidden", icon="undo")
                button("", visit.handle(close), kind="quiet small", icon="close", aria_label=t("ui.close"))
            self.wrong = box("wrong", aria_live="polite")
            with box("code", role="group", aria_label=t("sheet.text")):
                self.code = ui.codemirror(first, on_change=visit.handle(self._typed), line_wrapping=True)
            text(t("sheet.keys"), "s12 ink3")

    def show(self, *, is_changed: bool) -> None:
        """Show that the text is a sheet and was drawn."""
        mark(self.undo, not is_changed, "hidden")
        self.wrong.clear()
        if self.code.decorations:
            self.code.decorations = []

    def refuse(self, error: NudgeError) -> None:
        """Show why the text is not a sheet, and on which line."""
        line = error.values.get("line", 0)
        is_there = 1 <= line <= self.code.value.count("\n") + 1
        self.code.decorations = [{"kind": "line", "line": line, "class": "at-fault"}] if is_there else []
        with refill(self.wrong):
            self.visit.failure(error, more=(lambda: self._to_line(line)) if is_there else None)

    def _to_line(self, line: int) -> None:
        button(self.t("sheet.to_line", line=str(line)), lambda: self.code.reveal_line(line), kind="quiet small")

    async def _typed(self) -> None:
        self._n_typed += 1
        typed = self._n_typed
        await asyncio.sleep(PAUSE_S)
        if typed == self._n_typed:
            await self._draw(self.code.value)

    def _to_original(self) -> None:
        self.code.value = self.original
