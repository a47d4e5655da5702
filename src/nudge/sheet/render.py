"""A sheet as a picture: Typst draws it and reports where each region is and whether it fits."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nudge.errors import SheetError
from nudge.sheet import fonts
from nudge.sheet.page import Sheet, Span, texts_in, to_json

Form = Literal["pdf", "png", "svg"]
PPI = 200  # makes A4 1654 x 2339 pixels
MOST_CHARACTERS = 20_000  # in a region; at 9 pt, fewer fill a whole page
DRAWING = Path(__file__).parent / "typst"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The position of a region, in pt from the top left of the page, and the height that its text needs."""

    name: str
    x: float
    y: float
    width: float
    height: float
    cell: float  # square pt of the region's share of the layout, which is the page without its margins
    scale: float  # of the text, relative to the sheet's size
    smallest: float  # the scale that makes the text 9 pt
    needs: float
    has: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tight:
    """A part that is too wide or too high for its place. In pt."""

    region: str
    what: str
    side: Literal["width", "height"]
    needs: float
    has: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A drawn sheet: the bytes of the file, and the places of the title and the regions."""

    data: bytes
    places: tuple[Place, ...]


def render(sheet: Sheet, form: Form = "pdf", *, font: Path | None = None) -> Page:
    """Draw the page. The same sheet and font give the same bytes.

    Typst scales each region to its height (page.typ). A region in which something is too wide is laid out again at a
    smaller scale, until it fits or is at its smallest.

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
            found = tuple(Place(**value) for value in _query(typesetter, "<region>"))
            for place in found:
                if place.needs > place.has:
                    raise SheetError("no_room", region=place.name, needs=place.needs, has=place.has)
            tight = [Tight(**value) for value in _query(typesetter, "<tight>")]
            if not tight:
                data = typesetter.compile(format=form, ppi=PPI)
                assert isinstance(data, bytes), "a sheet is one page"
                return Page(data=data, places=found)
            caps = _smaller(caps, found, tight, step)
            step *= 2  # soon reaches the smallest scale if something is too wide at every scale


def _query(typesetter: Any, label: str) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = json.loads(typesetter.query(label, field="value"))
    return values


def _smaller(caps: dict[str, float], found: tuple[Place, ...], tight: list[Tight], step: float) -> dict[str, float]:
    """Return the scales, at least a step smaller for each region in which something is too wide.

    Raises: SheetError if a region is at its smallest, or something is too high: its room shrinks with the text.
    """
    places = {place.name: place for place in found}
    capped = dict(caps)
    for one in tight:
        place = places[one.region]
        if one.side == "height":
            raise SheetError("too_high", text=_short(one.what), region=one.region, needs=one.needs, has=one.has)
        if place.scale <= place.smallest:
            raise SheetError("too_wide", text=_short(one.what), region=one.region, needs=one.needs, has=one.has)
        capped[one.region] = min(place.scale * one.has / one.needs, capped.get(one.region, place.scale) - step)
    return capped


def _short(text: str, most: int = 60) -> str:
    line = " ".join(text.split())  # a label may have breaks
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def _check_characters(sheet: Sheet, font: fonts.Font) -> None:
    """Raise SheetError if a region has more than a page holds, or the font lacks one that would be drawn."""
    parts: list[tuple[str, Any]] = [("title", (sheet.title, sheet.over, sheet.subtitle, sheet.corner, sheet.legend))]
    parts += [(region.name, region) for band in sheet.bands for region in band.regions]
    for name, part in parts:
        text = "".join(one if isinstance(one, str) else one.text for one in texts_in(part) if not _is_icon(one))
        if len(text) > MOST_CHARACTERS:
            raise SheetError("too_long", region=name, number=len(text), most=MOST_CHARACTERS)
        if lacking := font.lacks(text):
            characters = ", ".join(f"'{one}' (U+{ord(one):04X})" for one in lacking[:5])
            raise SheetError("lacking_characters", region=name, font=font.family, characters=characters)


def _is_icon(text: Span | str) -> bool:
    return isinstance(text, Span) and text.kind == "icon"
