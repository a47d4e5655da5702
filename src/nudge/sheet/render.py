"""A sheet as a picture: Typst draws it, and says where everything stands and whether it fits."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nudge.errors import SheetError
from nudge.sheet import fonts
from nudge.sheet.page import Sheet, to_json

Form = Literal["pdf", "png", "svg"]
PPI = 200  # A4 is 1654 x 2339 then
MOST_CHARACTERS = 20_000  # of a region; at 9 pt, fewer fill a whole page
DRAWING = Path(__file__).parent / "typst"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a region stands, in pt from the top left of the page, and how much of its height its text needs."""

    name: str
    x: float
    y: float
    width: float
    height: float
    cell: float  # its area in the layout, in square pt: of the frame, which is the page without its margins
    scale: float  # of its text, relative to the sheet's size
    smallest: float  # the scale at which that is 9 pt
    needs: float
    has: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tight:
    """What is too wide or too high for where it must stand, in pt."""

    region: str
    what: str
    side: Literal["width", "height"]
    needs: float
    has: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A drawn sheet: the file's bytes, and where the title and the regions stand."""

    data: bytes
    places: tuple[Place, ...]


def render(sheet: Sheet, form: Form = "pdf", *, font: Path | None = None) -> Page:
    """Draw the page. The same sheet and font give the same bytes.

    The height decides a region's scale within Typst (page.typ). What is too wide says so, and its region is laid out
    anew at a smaller scale, until it fits or is at its smallest.

    Raises: SheetError if the font lacks a character, or a text does not fit its region at 9 pt.
    """
    import typst

    pen = fonts.find(font)
    _check_characters(sheet, pen)
    with fonts.loaded(pen.path) as loaded:
        caps: dict[str, float] = {}
        step = 0.02
        while True:
            typesetter = typst.Compiler(
                str(DRAWING / "page.typ"),
                root=str(DRAWING),
                font_paths=loaded,
                sys_inputs={"sheet": json.dumps(to_json(sheet)), "font": pen.family, "caps": json.dumps(caps)},
            )
            found = tuple(Place(**value) for value in _said(typesetter, "<region>"))
            _check_heights(found)
            tight = [Tight(**value) for value in _said(typesetter, "<tight>")]
            if not tight:
                data = typesetter.compile(format=form, ppi=PPI)
                assert isinstance(data, bytes), "a sheet is one page"
                return Page(data=data, places=found)
            caps = _smaller(caps, found, tight, step)
            step *= 2  # what is too wide at every size is found out soon


def _said(typesetter: Any, label: str) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = json.loads(typesetter.query(label, field="value"))
    return said


def _smaller(caps: dict[str, float], found: tuple[Place, ...], tight: list[Tight], step: float) -> dict[str, float]:
    """A scale for each region in which something is too wide, at least a step smaller.

    Raises: SheetError if it is at its smallest, or something is too high: the room for that shrinks with the text.
    """
    places = {place.name: place for place in found}
    capped = dict(caps)
    for one in tight:
        place = places[one.region]
        if one.side == "height":
            raise SheetError(
                f"'{_short(one.what)}' in {_named(one.region)} needs {one.needs:.0f} pt of height "
                f"and has {one.has:.0f}",
                "give it more: height: 14, or write less above it",
            )
        if place.scale <= place.smallest:
            wider = "" if one.region == "title" else ", or give the region more width in the layout: NAME*1.5"
            raise SheetError(
                f"'{_short(one.what)}' in {_named(one.region)} needs {one.needs:.0f} pt of width at 9 pt "
                f"and has {one.has:.0f}",
                f"shorten it{wider}",
            )
        capped[one.region] = min(place.scale * one.has / one.needs, capped.get(one.region, place.scale) - step)
    return capped


def _check_heights(found: tuple[Place, ...]) -> None:
    for place in found:
        if place.needs > place.has:
            raise SheetError(
                f"{_named(place.name)} needs {place.needs:.0f} pt of height at 9 pt and has {place.has:.0f}",
                "shorten it, or give its band more of the page in the layout",
            )


def _named(region: str) -> str:
    return "the title band" if region == "title" else f"region '{region}'"


def _short(words: str, most: int = 60) -> str:
    line = " ".join(words.split())  # a label may have breaks
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def _check_characters(sheet: Sheet, font: fonts.Font) -> None:
    """Raises: SheetError if there are more than a page holds, or the font lacks one that would be drawn."""
    parts: list[tuple[str, Any]] = [
        ("the title", (sheet.title, sheet.over, sheet.subtitle, sheet.corner, sheet.legend))
    ]
    parts += [(f"region '{region.name}'", region) for band in sheet.bands for region in band.regions]
    for where, part in parts:
        text = "".join(_texts(to_json(part)))
        if len(text) > MOST_CHARACTERS:
            raise SheetError(
                f"{where} has {len(text):,} characters, and a page at most {MOST_CHARACTERS:,}", "shorten it"
            )
        lacking = font.lacks(text)
        if lacking:
            named = ", ".join(f"'{one}' (U+{ord(one):04X})" for one in lacking[:5])
            raise SheetError(
                f"{where} has characters that the font {font.family} lacks: {named}",
                "leave them out, or name another font: --font FILE.ttf",
            )


def _texts(value: Any) -> Iterator[str]:
    """What is written in a part of a sheet; icons are drawn."""
    if isinstance(value, dict):
        if value.get("kind") == "icon":
            return
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value
