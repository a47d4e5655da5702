"""The icons of a sheet: one drawing for every icon a line may hold, inside its box, and always the same."""

import json
import shutil
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
import typst

from nudge import sheet
from nudge.sheet.inline import ICONS

SIDE = 50  # pt, in the middle of a page twice as wide
PAGE = '#import "icons.typ": draw-icon, drawings\n#set page(width: 100pt, height: 100pt, margin: 25pt)\n'
ALL = PAGE + "#metadata(drawings.keys()) <names>\n#for name in drawings.keys() { page(draw-icon(name, 50pt)) }"


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder in which a page can take the icons from beside it."""
    return shutil.copytree(Path(sheet.__file__).parent / "typst", tmp_path / "desk")


def written(desk: Path, text: str) -> Path:
    page = desk / "written.typ"
    page.write_text(text)
    return page


def drawn(desk: Path, text: str) -> list[np.ndarray]:
    """The pages of `text`, two pixels a point, RGB."""
    pdf = typst.compile(written(desk, text), ignore_system_fonts=True)
    return [page.render(scale=2, rev_byteorder=True).to_numpy()[..., :3] for page in pypdfium2.PdfDocument(pdf)]


def names(desk: Path) -> list[str]:
    return list(json.loads(typst.query(written(desk, ALL), "<names>", field="value", one=True)))


def test_every_icon_a_line_may_hold_is_drawn_and_no_other(desk: Path) -> None:
    assert sorted(names(desk)) == sorted(ICONS.values())


def test_an_icon_fills_its_box_and_stays_in_it(desk: Path) -> None:
    low, high = 25 - 0.06 * SIDE, 75 + 0.06 * SIDE
    for name, page in zip(names(desk), drawn(desk, ALL), strict=True):
        rows, columns = (pixels / 2 for pixels in np.nonzero(page.min(axis=-1) < 250))
        assert low <= min(rows.min(), columns.min()), name
        assert max(rows.max(), columns.max()) <= high, name
        assert max(np.ptp(rows), np.ptp(columns)) > 0.75 * SIDE, name


def test_no_two_icons_are_alike(desk: Path) -> None:
    pages = drawn(desk, ALL)
    assert len({page.tobytes() for page in pages}) == len(pages)


def test_the_same_page_is_drawn_twice(desk: Path) -> None:
    page = written(desk, PAGE + "#for name in drawings.keys() { draw-icon(name, 1.5em) }")
    first, second = (typst.Compiler(page).compile(format="svg") for _ in range(2))
    assert first == second


def test_an_icon_of_one_color_has_no_other(desk: Path) -> None:
    (page,) = drawn(desk, PAGE + '#draw-icon("gpu", 50pt, color: red)')
    colored = page[page.min(axis=-1) < 240].astype(int)
    assert len(colored) > 0
    assert (colored[:, 0] > colored[:, 1:].max(axis=1)).all()


def test_an_unknown_icon_is_named(desk: Path) -> None:
    with pytest.raises(typst.TypstError, match="no icon is called teapot"):
        drawn(desk, PAGE + '#draw-icon("teapot", 20pt)')
