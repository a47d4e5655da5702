"""The drawing of a sheet by Typst, which also reports the place of each region and whether its text fits."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nudge.errors import SheetError
from nudge.sheet import fonts
from nudge.sheet.page import Sheet, Span, texts_in, to_json

Form = Literal["pdf", "png", "svg"]
PPI = 200  # makes A4 1654 x 2339 pixels
MOST_CHARACTERS = 20_000  # in a region: more than fill a whole page at 9 pt
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
class Overflow:
    """A part that is too wide or too high for its place, in pt."""

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

    Typst scales the text of each region to the region's height (page.typ). If something is too wide, its region is laid
    out again at a smaller scale, until it fits or is at the smallest scale.

    Raises: SheetError if the font lacks a character, or a text does not fit its region at 9 pt.
    """
    import typst

    pen = fonts.find(font)
    _check_characters(sheet, pen)
    with fonts.typst_fonts(pen.path) as typst_fonts:
        caps: dict[str, float] = {}
        step = 0.02
        while True:
            typesetter = typst.Compiler(
                str(DRAWING / "page.typ"),
                root=str(DRAWING),
                font_paths=typst_fonts,
                sys_inputs={"sheet": json.dumps(to_json(sheet)), "font": pen.family, "caps": json.dumps(caps)},
            )
            found = tuple(Place(**value) for value in _query(typesetter, "<region>"))
            for place in found:
                if place.needs > place.has:
                    raise SheetError("no_room", region=place.name, needs=place.needs, has=place.has)
            overflows = [Overflow(**value) for value in _query(typesetter, "<tight>")]
            if not overflows:
                data = typesetter.compile(format=form, ppi=PPI)
                assert isinstance(data, bytes), "a sheet is one page"
                return Page(data=data, places=found)
            caps = _shrink(caps, found, overflows, step)
            step *= 2  # to reach the smallest scale soon if something is too wide at every scale


def _query(typesetter: Any, label: str) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = json.loads(typesetter.query(label, field="value"))
    return values


def _shrink(
    caps: dict[str, float], found: tuple[Place, ...], overflows: list[Overflow], step: float
) -> dict[str, float]:
    """Return the highest scales, made smaller by at least a step for each region in which something is too wide.

    Raises: SheetError if a region is at its smallest scale, or something is too high: its room shrinks with the text.
    """
    places = {place.name: place for place in found}
    new_caps = dict(caps)
    for one in overflows:
        place = places[one.region]
        if one.side == "height":
            raise SheetError("too_high", text=_shorten(one.what), region=one.region, needs=one.needs, has=one.has)
        if place.scale <= place.smallest:
            raise SheetError("too_wide", text=_shorten(one.what), region=one.region, needs=one.needs, has=one.has)
        new_caps[one.region] = min(place.scale * one.has / one.needs, new_caps.get(one.region, place.scale) - step)
    return new_caps


def _shorten(text: str, most: int = 60) -> str:
    line = " ".join(text.split())  # a label may have breaks
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def _check_characters(sheet: Sheet, font: fonts.Font) -> None:
    """Check that no region has too many characters, and that the font has them all. Raises: SheetError."""
    parts: list[tuple[str, Any]] = [("title", (sheet.title, sheet.over, sheet.subtitle, sheet.corner, sheet.legend))]
    parts += [(region.name, region) for band in sheet.bands for region in band.regions]
    for name, part in parts:
        text = "".join(one if isinstance(one, str) else one.text for one in texts_in(part) if not _is_icon(one))
        if len(text) > MOST_CHARACTERS:
            raise SheetError("too_long", region=name, number=len(text), most=MOST_CHARACTERS)
        if missing := font.missing_from(text):
            characters = ", ".join(f"'{one}' (U+{ord(one):04X})" for one in missing[:5])
            raise SheetError("lacking_characters", region=name, font=font.family, characters=characters)


def _is_icon(text: Span | str) -> bool:
    return isinstance(text, Span) and text.kind == "icon"
