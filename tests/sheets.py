"""Drawn sheets read back: the glyphs and strokes of a PDF, so that a test measures what stands on the page."""

import ctypes
import itertools
import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pypdfium2 as pdfium
import pytest
import typst
from pypdfium2 import raw

import nudge.sheet
from nudge.errors import SheetError
from nudge.sheet import fonts
from nudge.sheet.page import to_json

DRAWING = Path(nudge.sheet.__file__).parent / "typst"
UNREAD = "\N{REPLACEMENT CHARACTER}"


class Character(NamedTuple):
    """A glyph on the page; places in pt from the top left."""

    char: str
    left: float
    top: float
    right: float
    bottom: float
    size_pt: float

    @property
    def area(self) -> float:
        """Of its box, in square pt."""
        return (self.right - self.left) * (self.bottom - self.top)


class Stroke(NamedTuple):
    """A path on the page: where the pen stops, in pt from the top left. Without `width_pt` it only fills."""

    points: tuple[tuple[float, float], ...]
    smooth: bool  # at least one of its parts is a Bézier curve, whose control points are not among the points
    width_pt: float | None
    color: tuple[int, int, int]  # of the stroke, else of the fill
    filled: bool

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of its points."""
        x, y = zip(*self.points, strict=True)
        return min(x), min(y), max(x), max(y)


@cache
def pen_font() -> Path:
    """The handwriting that sheets are set in; a test is skipped where it is not installed."""
    try:
        return fonts.find().path
    except SheetError as error:
        pytest.skip(f"{error.message}: {error.hint}")


@cache
def _fonts() -> typst.Fonts:
    """The pen's font, and what stands beside it in its folder."""
    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[str(pen_font().parent)])


# Around a block: the text as on a sheet, in a box of the block's natural height.
_PAGE = """
#import "/{file}": *
#set page(width: {width}pt + 20pt, height: auto, margin: 10pt, fill: rgb("#fffef9"))
#set text(font: "{family}", size: {size}pt, fallback: false, top-edge: 0.78em, bottom-edge: -0.2em)
#set par(leading: 0.5em, spacing: 0.6em)
{before}
#block(width: {width}pt, {call}(json(bytes(sys.inputs.block)), "{color}"))
"""
MARGIN_PT = 10.0


def _source(
    block: object, width_pt: float, size_pt: float, file: str, color: str, before: str = ""
) -> tuple[bytes, dict[str, str]]:
    data, family = to_json(block), fonts.find(pen_font()).family
    page = _PAGE.format(
        file=file,
        family=family,
        width=width_pt,
        size=size_pt,
        color=color,
        call=f"draw-{data['type']}",
        before=before,
    )
    return page.encode(), {"block": json.dumps(data)}


def drawn(
    block: object,
    *,
    file: str,
    width_pt: float = 300,
    size_pt: float = 13,
    color: str = "orange",
    form: str = "pdf",
    before: str = "",
) -> bytes:
    """A block alone on a page with margins of MARGIN_PT, by `draw-KIND` of this file in sheet/typst.

    `before`: rules of Typst that hold for it.
    """
    source, inputs = _source(block, width_pt, size_pt, file, color, before)
    made = typst.compile(
        source,
        root=str(DRAWING),
        font_paths=_fonts(),
        sys_inputs=inputs,
        format=form,
        ppi=200.0,
        timestamp=0,  # else the PDF says when it was made
    )
    assert isinstance(made, bytes)  # one page
    return made


def tight(
    block: object, *, file: str, width_pt: float = 300, size_pt: float = 13, color: str = "orange"
) -> list[dict[str, float | str]]:
    """What the drawing says that it has no room for: {what, needs, has}."""
    source, inputs = _source(block, width_pt, size_pt, file, color)
    found = typst.query(source, "<tight>", field="value", root=str(DRAWING), font_paths=_fonts(), sys_inputs=inputs)
    said: list[dict[str, float | str]] = json.loads(found)
    return said


Matrix = tuple[float, float, float, float, float, float]


def _matrix(thing: Any) -> Matrix:
    found = raw.FS_MATRIX()
    assert raw.FPDFPageObj_GetMatrix(thing, found)
    return found.a, found.b, found.c, found.d, found.e, found.f


def _then(first: Matrix, second: Matrix) -> Matrix:
    """One matrix for both, in the row-vector convention of PDF (ISO 32000-1, 8.3.4)."""
    a, b, c, d, e, f = first
    p, q, r, s, t, u = second
    return a * p + b * r, a * q + b * s, c * p + d * r, c * q + d * s, e * p + f * r + t, e * q + f * s + u


def _scale(matrix: Matrix) -> float:
    a, b, c, d, _, _ = matrix
    return math.sqrt(abs(a * d - b * c))


def _address(thing: Any) -> int:
    return ctypes.addressof(thing.contents)


def _things(sheet: pdfium.PdfPage, kind: int) -> Iterator[tuple[Any, Matrix]]:
    """The objects of this kind, also those inside form XObjects, with what takes what is around them to the page."""

    def among(things: Iterator[Any], outer: Matrix) -> Iterator[tuple[Any, Matrix]]:
        for thing in things:
            own = raw.FPDFPageObj_GetType(thing)
            if own == kind:
                yield thing, outer
            elif own == raw.FPDF_PAGEOBJ_FORM:
                inside = (raw.FPDFFormObj_GetObject(thing, i) for i in range(raw.FPDFFormObj_CountObjects(thing)))
                yield from among(inside, _then(_matrix(thing), outer))

    from_top: Matrix = (1, 0, 0, -1, 0, sheet.get_height())
    return among((raw.FPDFPage_GetObject(sheet, i) for i in range(raw.FPDFPage_CountObjects(sheet))), from_top)


def _box(thing: Any, outer: Matrix) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of an object on the page."""
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    assert raw.FPDFPageObj_GetBounds(thing, left, bottom, right, top)
    a, b, c, d, e, f = outer
    corners = [(x, y) for x in (left.value, right.value) for y in (bottom.value, top.value)]
    xs, ys = [a * x + c * y + e for x, y in corners], [b * x + d * y + f for x, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


def characters(pdf: bytes, page: int = 0, *, loose: bool = False) -> list[Character]:
    """All glyphs but spaces, in the order of drawing. A tight box holds the ink; `loose`: the advance by the line.

    The boxes stand upright around turned glyphs; their size is what the matrix makes of the font's. Of the same words
    written twice in about the same place, pdfium tells once: the others follow at the end, each text as one `UNREAD`.
    """
    with pdfium.PdfDocument(pdf) as document:
        sheet = document[page]
        height, text = sheet.get_height(), sheet.get_textpage()
        found, read = [], set()
        for i in range(text.count_chars()):
            char = chr(raw.FPDFText_GetUnicode(text, i))
            if raw.FPDFText_IsGenerated(text, i):
                continue
            read.add(_address(raw.FPDFText_GetTextObject(text, i)))
            if char.isspace():
                continue
            left, bottom, right, top = text.get_charbox(i, loose=loose)
            turned = raw.FS_MATRIX()
            assert raw.FPDFText_GetMatrix(text, i, turned)
            size = raw.FPDFText_GetFontSize(text, i) * _scale((turned.a, turned.b, turned.c, turned.d, 0, 0))
            found.append(Character(char, left, height - top, right, height - bottom, size))
        for thing, outer in _things(sheet, raw.FPDF_PAGEOBJ_TEXT):
            if _address(thing) not in read:
                box = _box(thing, outer)
                size = ctypes.c_float()
                assert raw.FPDFTextObj_GetFontSize(thing, size)
                found.append(Character(UNREAD, *box, size.value * _scale(_then(_matrix(thing), outer))))
        return [one for one in found if one.area > 0 or one.char != UNREAD]


def seen(pdf: bytes, page: int = 0) -> set[str]:
    """The characters that are drawn; not those which are there only to be copied, without a color of their own."""
    with pdfium.PdfDocument(pdf) as document:
        text, found = document[page].get_textpage(), set()
        for i in range(text.count_chars()):
            if raw.FPDFText_IsGenerated(text, i):  # pdfium's own guess of a space or the end of a line
                continue
            red, green, blue, alpha = (ctypes.c_uint() for _ in range(4))
            assert raw.FPDFText_GetFillColor(text, i, red, green, blue, alpha)
            if alpha.value:
                found.add(chr(raw.FPDFText_GetUnicode(text, i)))
        return found


def overlaps(glyphs: list[Character], share: float = 0.3) -> list[tuple[Character, Character]]:
    """Pairs whose boxes have more than this share of the smaller in common.

    Upright boxes around words turned by much more than a wobble (and not by 90 degrees) overlap where the ink does not.
    """
    pairs = []
    open_: list[Character] = []
    for glyph in sorted((one for one in glyphs if one.area > 0), key=lambda one: one.left):
        open_ = [one for one in open_ if one.right > glyph.left]
        for other in open_:
            width = min(glyph.right, other.right) - glyph.left
            height = min(glyph.bottom, other.bottom) - max(glyph.top, other.top)
            if height > 0 and width * height > share * min(glyph.area, other.area):
                pairs.append((other, glyph))
        open_.append(glyph)
    return pairs


def _stroke(path: Any, outer: Matrix) -> Stroke:
    to_page = _then(_matrix(path), outer)
    a, b, c, d, e, f = to_page
    x, y = ctypes.c_float(), ctypes.c_float()
    points, smooth, bezier = [], False, 0
    for i in range(raw.FPDFPath_CountSegments(path)):
        segment = raw.FPDFPath_GetPathSegment(path, i)
        assert raw.FPDFPathSegment_GetPoint(segment, x, y)
        if raw.FPDFPathSegment_GetType(segment) == raw.FPDF_SEGMENT_BEZIERTO:
            smooth, bezier = True, bezier + 1
            if bezier % 3:  # the first two of three are control points
                continue
        points.append((a * x.value + c * y.value + e, b * x.value + d * y.value + f))
    fill, stroked, width = ctypes.c_int(), ctypes.c_int(), ctypes.c_float()
    assert raw.FPDFPath_GetDrawMode(path, fill, stroked)
    assert raw.FPDFPageObj_GetStrokeWidth(path, width)
    red, green, blue, alpha = (ctypes.c_uint() for _ in range(4))
    color = raw.FPDFPageObj_GetStrokeColor if stroked.value else raw.FPDFPageObj_GetFillColor
    assert color(path, red, green, blue, alpha)
    return Stroke(
        tuple(points),
        smooth,
        width.value * _scale(to_page) if stroked.value else None,
        (red.value, green.value, blue.value),
        fill.value != raw.FPDF_FILLMODE_NONE,
    )


def strokes(pdf: bytes, page: int = 0) -> list[Stroke]:
    """Every path of the page, in the order of drawing."""
    with pdfium.PdfDocument(pdf) as document:
        return [_stroke(path, outer) for path, outer in _things(document[page], raw.FPDF_PAGEOBJ_PATH)]


def _meets(box: tuple[float, float, float, float], p: tuple[float, float], q: tuple[float, float]) -> bool:
    """Whether a straight line from p to q goes through a box (Liang and Barsky, 1984)."""
    left, top, right, bottom = box
    enter, leave = 0.0, 1.0
    for start, along, low, high in ((p[0], q[0] - p[0], left, right), (p[1], q[1] - p[1], top, bottom)):
        if along == 0:
            if not low < start < high:
                return False
            continue
        one, other = sorted(((low - start) / along, (high - start) / along))
        enter, leave = max(enter, one), min(leave, other)
    return enter < leave


def crossed(pdf: bytes, page: int = 0) -> list[tuple[Character, Stroke]]:
    """Glyphs with a stroke through the middle of their box, if nothing that is filled was drawn over it there later."""
    paths, found = strokes(pdf, page), []
    boxes = [path.box for path in paths]
    for glyph in characters(pdf, page):
        x, y = (glyph.left + glyph.right) / 2, (glyph.top + glyph.bottom) / 2
        half_x, half_y = (glyph.right - glyph.left) * 0.3, (glyph.bottom - glyph.top) * 0.3
        inner = (x - half_x, y - half_y, x + half_x, y + half_y)
        patch = max(
            (
                i
                for i, (west, north, east, south) in enumerate(boxes)
                if paths[i].filled and west < x < east and north < y < south
            ),
            default=-1,
        )
        for i in range(patch + 1, len(paths)):
            (left, top, right, bottom), points = boxes[i], paths[i].points
            if paths[i].width_pt is None or left > inner[2] or right < inner[0] or top > inner[3] or bottom < inner[1]:
                continue
            if any(_meets(inner, p, q) for p, q in itertools.pairwise(points)):
                found.append((glyph, paths[i]))
    return found
