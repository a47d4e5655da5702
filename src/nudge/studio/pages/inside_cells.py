"""Inside: a picture of values, in which a click or the arrow keys choose a cell."""

import math
from collections.abc import Callable
from typing import Any

from nudge.studio.components import box, image

_KEYS = "/^(Arrow|Home$|End$)/"
_STEPS = {"ArrowUp": (-1, 0), "ArrowDown": (1, 0), "ArrowLeft": (0, -1), "ArrowRight": (0, 1)}


class Cells:
    """The picture. `chosen(row, column)` gets the chosen cell, `hovered(row)` the row under the pointer."""

    def __init__(
        self,
        chosen: Callable[[int, int], Any],
        *,
        label: str,
        handle: Callable[..., Any],
        hovered: Callable[[int], Any] | None = None,
    ) -> None:
        self.chosen = chosen
        self.n_rows = self.n_columns = 1
        self.rows_drawn = self.columns_drawn = 1
        self.row = self.column = 0
        # The role is application, because the picture handles keys; a live text describes the chosen cell.
        self.element = box("cells", tabindex=0, role="application", aria_label=label)
        with self.element:
            self.picture = image("", "px", alt="")
            self.cursor = box("cursor")
        self.element.on("click", handle(self._clicked), js_handler="(event) => emit(nudgePage.place(event))")
        self.element.on("keydown", handle(self._pressed), js_handler=f"(event) => nudgePage.key(event, emit, {_KEYS})")
        if hovered is not None:
            row_of = handle(lambda row: hovered(min(max(0, int(row)), self.n_rows - 1)))
            self.element.on("mousemove", row_of, js_handler="(event) => nudgePage.row(event, emit)", throttle=0.04)

    def show(self, source: str, n_rows: int, n_columns: int, *, alt: str, square: int = 1) -> None:
        """Show another picture. The chosen cell stays if it still exists.

        A pixel stands for `square` x `square` cells; the last ones may reach beyond the last cell.
        """
        self.n_rows, self.n_columns = n_rows, n_columns
        self.rows_drawn, self.columns_drawn = drawn(n_rows, square), drawn(n_columns, square)
        self.picture.props.update({"src": source, "alt": alt})
        self.element.props["data-rows"] = self.rows_drawn
        self.move(self.row, self.column)

    def move(self, row: int, column: int) -> None:
        """Put the cursor on a cell."""
        self.row = min(max(0, row), self.n_rows - 1)
        self.column = min(max(0, column), self.n_columns - 1)
        high, wide = 100 / self.rows_drawn, 100 / self.columns_drawn
        self.cursor.style(
            f"top:{self.row * high:.4f}%;left:{self.column * wide:.4f}%;height:{high:.4f}%;width:{wide:.4f}%"
        )

    def _clicked(self, place: tuple[float, float]) -> Any:
        down, right = place
        return self._choose(int(down * self.rows_drawn), int(right * self.columns_drawn))

    def _pressed(self, key: str) -> Any:
        if key in ("Home", "End"):
            return self._choose(self.row, 0 if key == "Home" else self.n_columns - 1)
        down, right = _STEPS.get(key, (0, 0))
        return self._choose(self.row + down, self.column + right)

    def _choose(self, row: int, column: int) -> Any:
        self.move(row, column)
        return self.chosen(self.row, self.column)


def drawn(n: int, square: int) -> int:
    """Return the number of cells along a side of the picture if each pixel stands for `square` of them."""
    return math.ceil(n / square) * square
