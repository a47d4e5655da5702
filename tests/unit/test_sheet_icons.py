"""The icons of a sheet: one drawing for every icon a line may hold, inside its box, and always the same."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
import typst

from nudge import sheet

TYPST = Path(sheet.__file__).parent / "typst"
SIDE = 50  # pt, in the middle of a page twice as wide
PAGES = """
#import "/icons.typ": draw-icon, drawings
#set page(width: 100pt, height: 100pt, margin: 25pt)
#metadata(drawings.keys()) <names>
#for name in drawings.keys() { page(draw-icon(name, 50pt)) }
"""


def drawn(source: str, form: str = "pdf") -> bytes:
    pages = typst.compile(source.encode(), root=TYPST, format=form, ppi=144, ignore_system_fonts=True)
    assert isinstance(pages, bytes)
    return pages


def names() -> list[str]:
    return list(json.loads(typst.query(PAGES.encode(), "<names>", field="value", one=True, root=TYPST)))


def ink(page: np.ndarray) -> np.ndarray:
    """Where something is drawn, with one row and column a point."""
    return (page.min(axis=-1) < 250).reshape(100, 2, 100, 2).any(axis=(1, 3))


def test_every_icon_a_line_may_hold_is_drawn_and_no_other() -> None:
    if importlib.util.find_spec("nudge.sheet.inline") is None:
        assert len(set(names())) == 58
        return
    inline = importlib.import_module("nudge.sheet.inline")
    assert set(names()) == set(inline.ICONS.values())


def test_an_icon_fills_its_box_and_stays_in_it() -> None:
    document = pypdfium2.PdfDocument(drawn(PAGES))
    for name, page in zip(names(), document, strict=True):
        rows, columns = np.nonzero(ink(page.render(scale=2).to_numpy()))
        low, high = 25 - 0.06 * SIDE, 75 + 0.06 * SIDE
        edges = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        assert low <= min(edges), (name, edges)
        assert max(edges) <= high, (name, edges)
        assert max(np.ptp(rows), np.ptp(columns)) > 0.75 * SIDE, name


def test_no_two_icons_look_alike() -> None:
    pages = [ink(page.render(scale=2).to_numpy()) for page in pypdfium2.PdfDocument(drawn(PAGES))]
    pairs = ((i, j) for i in range(len(pages)) for j in range(i))
    alike = [(names()[i], names()[j]) for i, j in pairs if not (pages[i] ^ pages[j]).any()]
    assert alike == []


def test_the_same_page_is_drawn_twice() -> None:
    sheet_of_all = '#import "/icons.typ": *\n#for name in drawings.keys() { draw-icon(name, 1.5em) }'
    assert drawn(sheet_of_all, "png") == drawn(sheet_of_all, "png")


def test_a_colour_given_is_the_only_one() -> None:
    page = '#import "/icons.typ": *\n#set page(width: 100pt, height: 100pt)\n#draw-icon("gpu", 40pt, color: red)'
    seen = (
        next(iter(pypdfium2.PdfDocument(drawn(page))))
        .render(scale=2, rev_byteorder=True)
        .to_numpy()[..., :3]
        .astype(int)
    )
    coloured = np.abs(seen - 255).sum(axis=-1) > 60
    assert coloured.any()
    assert (seen[coloured][:, 0] > seen[coloured][:, 1:].max(axis=1)).all()


def test_an_unknown_icon_is_named() -> None:
    with pytest.raises(typst.TypstError, match="no icon is called teapot"):
        drawn('#import "/icons.typ": draw-icon\n#draw-icon("teapot", 20pt)')
