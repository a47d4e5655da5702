"""Charts and knobs of a sheet, read back from the PDF: what is drawn equals the numbers."""

import itertools
import math
from dataclasses import replace
from functools import cache

import pypdfium2 as pdfium
import pytest
import typst
from tests.sheets import MARGIN_PT, Character, Stroke, characters, drawn, overlaps, strokes, tight

from nudge.sheet.page import Chart, Curve, Knob, Knobs, Line, Mark, Span

LN_V = math.log(4096)
WIDTHS_PT = (540, 300, 170)


def line(text: str) -> Line:
    return (Span(text=text),) if text else ()


def ticks(*places: float) -> tuple[tuple[float, str], ...]:
    return tuple((place, f"{place:,g}") for place in places)


VALIDATION = tuple((100.0 * i, 3.9 + 4.4 * math.exp(-i / 4) + 0.002 * i * i) for i in range(21))
# as noisy as a loss of every step, from nothing random
TRAINING = tuple((float(i), 3.5 + 4.7 * math.exp(-i / 300) + 0.3 * math.sin(i * i)) for i in range(2001))


def chart(**changed: object) -> Chart:
    """Losses of a run: a validation curve, a noisy one of 2,001 points, the best and where guessing stands."""
    given = {
        "x_label": line("Step"),
        "y_label": line("Loss"),
        "x_ticks": ticks(0, 400, 800, 1200, 1600, 2000),
        "y_ticks": ticks(2, 4, 6, 8),
        "x_range": (0.0, 2000.0),
        "y_range": (2.0, 9.0),
        "curves": (
            Curve(label=line("검증"), points=VALIDATION, color="orange", dots=True),
            Curve(label=line("training"), points=TRAINING, color="blue", thin=True),
        ),
        "marks": (
            Mark(x=1000.0, y=VALIDATION[10][1], label=line("최저 (step 1,000)"), color="red"),
            Mark(y=LN_V, label=line("ln 4,096 = 8.318"), color="gray"),
        ),
        "caption": line("검증은 100 step마다, training every step"),
    }
    return Chart(**(given | changed))  # type: ignore[arg-type]


@cache
def of_chart(block: Chart | Knobs, width_pt: float = 300) -> bytes:
    return drawn(block, file="figures.typ", width_pt=width_pt)


def tick_places(pdf: bytes, *, level: bool) -> list[float]:
    """Where the ticks of the x axis (`level`) or the y axis stand: the short straight strokes of two points."""
    found = []
    for stroke in strokes(pdf):
        left, top, right, bottom = stroke.box
        if len(stroke.points) == 2 and not stroke.smooth and max(right - left, bottom - top) < 8:
            if level and left == right:
                found.append(left)
            elif not level and top == bottom:
                found.append(top)
    return sorted(found, reverse=not level)


def along(places: list[float], values: list[float], place: float) -> float:
    """The number at a place, by the first and the last tick."""
    share = (place - places[0]) / (places[-1] - places[0])
    return values[0] + share * (values[-1] - values[0])


def read_back(pdf: bytes, block: Chart, stroke: Stroke) -> list[tuple[float, float]]:
    """The points of a stroke in the units of the chart, by its ticks alone."""
    x_places, y_places = tick_places(pdf, level=True), tick_places(pdf, level=False)
    assert (len(x_places), len(y_places)) == (len(block.x_ticks), len(block.y_ticks))
    x_values, y_values = [value for value, _ in block.x_ticks], [value for value, _ in block.y_ticks]
    return [(along(x_places, x_values, x), along(y_places, y_values, y)) for x, y in stroke.points]


def lines_with(pdf: bytes, n: int) -> list[Stroke]:
    return [one for one in strokes(pdf) if len(one.points) == n and one.width_pt and not one.filled]


@pytest.mark.parametrize("width_pt", WIDTHS_PT)
def test_plotted_points_are_the_numbers(width_pt: float) -> None:
    block = chart()
    pdf = of_chart(block, width_pt)
    for curve in block.curves:
        (stroke,) = lines_with(pdf, len(curve.points))
        assert not stroke.smooth
        for (x, y), (drawn_x, drawn_y) in zip(curve.points, read_back(pdf, block, stroke), strict=True):
            assert drawn_x == pytest.approx(x, abs=2000 * 0.001)
            assert drawn_y == pytest.approx(y, abs=7 * 0.001)


def test_ticks_are_evenly_spaced_where_their_numbers_are() -> None:
    pdf = of_chart(chart())
    for level, n in ((True, 6), (False, 4)):
        places = tick_places(pdf, level=level)
        steps = [b - a for a, b in itertools.pairwise(places)]
        assert len(places) == n
        assert max(steps) - min(steps) < 0.01


def test_a_thin_curve_is_thinner_and_lighter_than_a_full_one() -> None:
    pdf = of_chart(chart())
    (full,), (thin,) = lines_with(pdf, len(VALIDATION)), lines_with(pdf, len(TRAINING))
    assert thin.width_pt == pytest.approx(0.7)
    assert full.width_pt is not None
    assert full.width_pt > 2 * 0.7
    blue = (0x1F, 0x5F, 0xBF)
    assert all(light > dark for light, dark in zip(thin.color, blue, strict=True))


def test_a_level_line_stands_at_its_value() -> None:
    block = chart()
    pdf = of_chart(block)
    gray = (0x6B, 0x74, 0x84)
    found = [one for one in lines_with(pdf, 2) if one.color == gray and one.box[2] - one.box[0] > 100]
    ((_, first), (_, last)) = read_back(pdf, block, found[0])
    assert len(found) == 1
    assert first == last == pytest.approx(LN_V, abs=7 * 0.001)


def test_a_mark_is_around_its_point() -> None:
    block = chart()
    pdf = of_chart(block)
    (circle,) = (one for one in strokes(pdf) if one.smooth and one.color == (0xCC, 0x2F, 0x3C))
    left, top, right, bottom = circle.box
    middle = Stroke((((left + right) / 2, (top + bottom) / 2),), False, None, (0, 0, 0), False)
    ((x, y),) = read_back(pdf, block, middle)
    # a hand's circle is not quite round
    assert x == pytest.approx(1000, abs=2000 * 0.005)
    assert y == pytest.approx(VALIDATION[10][1], abs=7 * 0.01)


SHAPE = Curve(label=(), points=((0.0, 8.8), (100.0, 6.5), (500.0, 4.4), (2000.0, 3.4)), schematic=True)


def test_only_a_schematic_curve_is_smooth() -> None:
    def main_line(curve: Curve) -> Stroke:
        pdf = of_chart(chart(curves=(curve,), marks=()))
        return max((one for one in strokes(pdf) if one.color == (0xD9, 0x66, 0x0B) and one.width_pt), key=_length)

    schematic, straight = main_line(SHAPE), main_line(Curve(label=(), points=SHAPE.points))
    assert schematic.smooth
    assert len(schematic.points) > len(SHAPE.points)
    assert not straight.smooth
    assert len(straight.points) == len(SHAPE.points)


def test_a_schematic_curve_rises_nowhere_where_its_points_fall() -> None:
    block = chart(curves=(SHAPE,), marks=())
    pdf = of_chart(block)
    stroke = max((one for one in strokes(pdf) if one.smooth and one.width_pt and one.width_pt > 1.5), key=_length)
    heights = [y for _, y in read_back(pdf, block, stroke)]
    assert max(b - a for a, b in itertools.pairwise(heights)) < 0.1  # but for the tremble of the pen
    assert heights[0] == pytest.approx(8.8, abs=0.1)
    assert heights[-1] == pytest.approx(3.4, abs=0.1)


def _length(stroke: Stroke) -> float:
    return sum(math.dist(a, b) for a, b in itertools.pairwise(stroke.points))


HARD = chart(
    x_ticks=ticks(0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1100, 1200, 1300, 1400, 1500, 1600),
    y_ticks=tuple((float(v), f"{v * 100_000:,}") for v in range(2, 10)),
    curves=(
        Curve(label=line("a rather long name of a curve"), points=VALIDATION),
        Curve(label=line("두번째 곡선의 긴 이름"), points=TRAINING, thin=True),
        Curve(label=line("short"), points=((0.0, 3.0), (900.0, 7.0)), dots=True),
    ),
    marks=(
        Mark(y=8.5, label=line("upper bound of all")),
        Mark(y=8.4, label=line("둘째 경계")),
        Mark(y=8.3, label=line("third bound")),
        Mark(x=900.0, y=7.0, label=line("the end of the third curve")),
        Mark(x=0.0, y=2.0, label=line("시작"), color="blue"),
        Mark(x=2000.0, y=2.0, label=line("end")),
    ),
)
MANY = chart(
    curves=tuple(
        Curve(label=line(f"GPT-2 {name}"), points=tuple((x, y - 0.01 * i) for x, y in VALIDATION))
        for i, name in enumerate(("124M", "355M", "774M", "1558M"))
    ),
)
TURNED = Knobs(
    knobs=(
        Knob(label=line("w0 = -1"), value=-1.0, color="green"),
        Knob(label=line("w1 = 0.8"), value=0.8, color="orange"),
        Knob(label=line("배치 크기와 문맥 길이"), value=0.0, color="purple"),
        Knob(label=line("w3 = -0.35"), value=-0.35, color="blue"),
        Knob(label=line("온도"), value=1.0, color="red"),
    )
)
BLOCKS = {"chart": chart(), "hard": HARD, "many": MANY, "knobs": TURNED}


@pytest.mark.parametrize("width_pt", WIDTHS_PT)
@pytest.mark.parametrize("name", BLOCKS)
def test_words_are_inside_large_enough_and_apart(name: str, width_pt: float) -> None:
    glyphs = characters(of_chart(BLOCKS[name], width_pt))
    assert tight(BLOCKS[name], file="figures.typ", width_pt=width_pt) == []
    for glyph in glyphs:
        assert glyph.size_pt >= 8.99, glyph
        assert glyph.left >= MARGIN_PT - 0.5, glyph
        assert glyph.right <= MARGIN_PT + width_pt + 0.5, glyph
    assert overlaps(glyphs) == []


def words_at(glyphs: list[Character], words: str) -> tuple[float, float, float, float]:
    """The box of these words, which stand one after the other."""
    wanted = words.replace(" ", "")
    at = "".join(glyph.char for glyph in glyphs).index(wanted)
    found = glyphs[at : at + len(wanted)]
    lefts, tops, rights, bottoms = zip(*(glyph[1:5] for glyph in found), strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


RISING = Curve(label=(), points=tuple((20.0 * i, 2.5 + 0.06 * i) for i in range(101)))
FALLING = Curve(label=(), points=tuple((20.0 * i, 8.5 - 0.06 * i) for i in range(101)))


@pytest.mark.parametrize("width_pt", WIDTHS_PT)
@pytest.mark.parametrize("curves", [chart().curves, (RISING,), (FALLING,), (RISING, FALLING)])
def test_no_curve_runs_through_a_label(curves: tuple[Curve, ...], width_pt: float) -> None:
    label = "최저 (step 1,000)"
    y = next(y for x, y in curves[0].points if x == 1000)
    pdf = of_chart(chart(curves=curves, marks=(Mark(x=1000.0, y=y, label=line(label)),)), width_pt)
    left, top, right, bottom = words_at(characters(pdf), label)
    drawn = {one for curve in curves for one in lines_with(pdf, len(curve.points))}
    assert len(drawn) == len(curves)
    for stroke in drawn:
        for (ax, ay), (bx, by) in itertools.pairwise(stroke.points):
            for i in range(21):
                x, y = ax + (bx - ax) * i / 20, ay + (by - ay) * i / 20
                assert not (left < x < right and top < y < bottom)


def test_what_leaves_the_axes_is_cut_off() -> None:
    block = chart(curves=(Curve(label=(), points=((0.0, 5.0), (1000.0, 30.0), (2000.0, 5.0))),), marks=())
    with pdfium.PdfDocument(of_chart(block)) as document:
        pixels = document[0].render(scale=2, fill_color=(255, 255, 255, 255)).to_numpy()
    # the line would leave the page at its middle; above the plot nothing of its color is left
    orange = (abs(pixels[:, 200:, :3].astype(int) - (0x0B, 0x66, 0xD9)) < 40).all(axis=2)
    rows = orange.any(axis=1).nonzero()[0]
    assert rows.min() / 2 > MARGIN_PT + 6
    assert rows.max() / 2 < MARGIN_PT + 143


def test_every_label_of_a_chart_is_written() -> None:
    drawn = "".join(glyph.char for glyph in characters(of_chart(HARD, 540)))
    for words in ("short", "둘째경계", "thirdbound", "시작", "arather", "Loss", "Step", "900,000"):
        assert words in drawn


def test_a_label_that_has_no_room_is_reported() -> None:
    endless = chart(marks=(Mark(x=1000.0, y=5.0, label=line("Donaudampfschiff")),))
    (report,) = tight(endless, file="figures.typ", width_pt=110)
    assert "Donaudampf" in str(report["what"])
    assert float(report["needs"]) > float(report["has"])


def test_a_knob_points_where_its_value_says() -> None:
    pdf = of_chart(TURNED, 540)
    colors = [(0x1D, 0x8A, 0x4B), (0xD9, 0x66, 0x0B), (0x7A, 0x3F, 0xB5), (0x1F, 0x5F, 0xBF), (0xCC, 0x2F, 0x3C)]
    for knob, color in zip(TURNED.knobs, colors, strict=True):
        own = [one for one in strokes(pdf) if one.color == color and one.width_pt]
        # the pointer is the longest way from end to end: circles end where they began, barbs are short
        pointer = max(own, key=lambda one: math.dist(one.points[0], one.points[-1]))
        (x0, y0), (x1, y1) = pointer.points[0], pointer.points[-1]
        clockwise_from_up = math.degrees(math.atan2(x1 - x0, y0 - y1))
        assert clockwise_from_up == pytest.approx(135 * knob.value, abs=2)


def test_knobs_without_room_for_a_row_stand_in_several() -> None:
    glyphs = characters(of_chart(TURNED, 170))
    first, last = words_at(glyphs, "w0 = -1"), words_at(glyphs, "온도")
    assert last[1] > first[3] + 20


def test_a_chart_with_no_room_between_its_axes_is_reported() -> None:
    for block, width_pt in ((chart(), 40), (chart(height_em=3.0), 300)):
        (report,) = tight(block, file="figures.typ", width_pt=width_pt)
        assert report["what"] == "chart between its axes"
        assert float(report["needs"]) > float(report["has"])


def test_a_mark_beyond_the_axes_is_reported() -> None:
    beyond = chart(marks=(Mark(x=1000.0, y=5.0, label=line("on it")), Mark(x=3000.0, y=5.0, label=line("off it"))))
    assert [report["what"] for report in tight(beyond, file="figures.typ")] == ["mark off it beyond the axes"]


def test_dots_of_a_schematic_curve_are_at_its_own_points_only() -> None:
    def corners_of_dots(curve: Curve) -> int:
        pdf = of_chart(chart(curves=(curve,), marks=()))
        (dots,) = (one for one in strokes(pdf) if one.filled and one.width_pt == pytest.approx(0.5))
        return len(dots.points)

    schematic = replace(SHAPE, dots=True)
    assert corners_of_dots(schematic) == corners_of_dots(replace(schematic, schematic=False))


def test_the_axes_tremble_and_stay_where_they_are() -> None:
    block = chart()
    pdf = of_chart(block)
    axis = max((one for one in strokes(pdf) if one.width_pt == pytest.approx(1.1)), key=_length)
    heights = [y for _, y in axis.points]
    assert 0.2 < max(heights) - min(heights) < 1.2


def test_bold_words_are_one_glyph_each() -> None:
    knobs = Knobs(knobs=(Knob(label=(Span(text="bold 굵게", bold=True),), value=0.0),))
    glyphs = characters(of_chart(knobs))
    assert "".join(glyph.char for glyph in glyphs) == "bold굵게"
    assert overlaps(glyphs) == []


def test_the_same_chart_is_drawn_the_same_way() -> None:
    again = drawn(HARD, file="figures.typ", width_pt=300)
    assert again == of_chart(HARD)


def test_overlaps_are_found_and_only_they() -> None:
    one = Character("a", 0, 0, 10, 10, 12)
    assert overlaps([one, Character("b", 5, 0, 15, 10, 12)]) == [(one, Character("b", 5, 0, 15, 10, 12))]
    assert overlaps([one, Character("b", 8, 0, 18, 10, 12), Character("c", 0, 11, 10, 20, 12)]) == []


def test_the_same_words_twice_in_one_place_overlap() -> None:
    # pdfium reads them once, as it takes them for a program's bold
    page = "#set page(width: 200pt, height: 60pt, margin: 10pt)\n#place(dx: {}pt)[same]#place(dx: 10pt)[same]"
    for away_pt, overlapping in ((10, True), (11, True), (90, False)):
        glyphs = characters(typst.compile(page.format(away_pt).encode(), ignore_system_fonts=True, format="pdf"))
        assert bool(overlaps(glyphs)) == overlapping


def test_places_inside_turned_and_scaled_groups_are_those_on_the_page() -> None:
    page = """#set page(width: 100pt, height: 100pt, margin: 0pt)
    #place(dx: 50pt, dy: 50pt, rotate(90deg, origin: top + left, scale(200%, origin: top + left, {
      place(curve(stroke: 1pt, curve.move((5pt, 0pt)), curve.line((10pt, 3pt))))
      place(text(size: 7pt)[x])
    })))"""
    pdf = typst.compile(page.encode(), ignore_system_fonts=True, format="pdf")
    (found,) = strokes(pdf)
    assert found.points == (pytest.approx((50, 60)), pytest.approx((44, 70)))
    assert found.width_pt == pytest.approx(2)
    (glyph,) = characters(pdf)
    assert glyph.size_pt == pytest.approx(14)
