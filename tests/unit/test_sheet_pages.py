"""The finished pages of the lecture's sheets, read back from their PDF: areas, places of characters, sizes, bytes."""

import re
import subprocess
import sys
from functools import cache

import pytest
from tests.sheets import characters, overlaps, pen_font, seen, strokes

from nudge.sheet.catalog import LECTURE, text_of
from nudge.sheet.page import Sheet, to_json
from nudge.sheet.render import Page, Place, render
from nudge.sheet.source import read

AREAS = {  # what the lecture's documents ask for, in percent of the page, from top to bottom
    "gpt2": (10, 25, 40, 25),
    "internals": (10, 20, 45, 25),
    "io": (10, 25, 40, 25),
    "parameters": (10, 25, 40, 25),
}
HALVES_AND_THIRDS = {"gpt2": (1, 2, 1, 3), "internals": (1, 2, 1, 3), "io": (1, 2, 1, 3)}
PAGES = [(name, language) for name in LECTURE for language in ("ko", "en")]
each_page = pytest.mark.parametrize(("name", "language"), PAGES)


@pytest.fixture(autouse=True)
def _pen() -> None:
    pen_font()


@cache
def sheet_of(name: str, language: str) -> Sheet:
    return read(text_of(name, language=language), name=name)


@cache
def page_of(name: str, language: str) -> Page:
    return render(sheet_of(name, language))


def places_of(name: str, language: str) -> dict[str, Place]:
    return {place.name: place for place in page_of(name, language).places}


@pytest.mark.slow
@each_page
def test_regions_have_the_areas_that_are_asked_for(name: str, language: str) -> None:
    found, sheet = places_of(name, language), sheet_of(name, language)
    page = sum(place.cell for place in found.values())
    for band, percent in zip(sheet.bands, AREAS[name], strict=True):
        names = ["title"] if band.is_title else [region.name for region in band.regions]
        area = sum(found[one].cell for one in names)
        assert area / page * 100 == pytest.approx(percent, rel=0.01)
        drawn = sum(found[one].width * found[one].height for one in names)
        assert drawn > 0.9 * area, "the frames fill their cells but for the gaps between them"
    for band, count in zip(sheet.bands, HALVES_AND_THIRDS.get(name, (1, 2, 1, 3)), strict=True):
        assert max(1, len(band.regions)) == count
    widest = max(found.values(), key=lambda place: place.cell)
    assert widest.cell / page * 100 == pytest.approx(max(AREAS[name]), rel=0.01)


@each_page
def test_frames_stand_within_the_page_and_apart_from_each_other(name: str, language: str) -> None:
    found = list(places_of(name, language).values())
    for i, one in enumerate(found):
        for other in found[i + 1 :]:
            across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert across <= 0.01 or down <= 0.01, (one.name, other.name)


@each_page
def test_every_character_of_a_region_is_in_its_frame(name: str, language: str) -> None:
    """The PDF's characters, put into the frame they stand in, are those of the sheet there."""
    found = places_of(name, language)
    drawn: dict[str, str] = dict.fromkeys(found, "")
    for one in characters(page_of(name, language).data):
        inside = [
            place.name
            for place in found.values()
            if place.x - 1 <= one.left and one.right <= place.x + place.width + 1
            and place.y - 1 <= one.top and one.bottom <= place.y + place.height + 1
        ]  # fmt: skip
        assert len(inside) == 1, (one, inside)
        drawn[inside[0]] += one.char
    for band in sheet_of(name, language).bands:
        for region in band.regions:
            expected = sorted("".join(words(to_json(region.title)) + words(to_json(region.blocks))))
            notes = "".join(words(to_json([spans for _, spans in region.footnotes])))
            missing = list(expected + sorted(notes))
            for char in drawn[region.name]:
                if char in missing:
                    missing.remove(char)
            assert not "".join(missing).strip(), (region.name, missing)


def words(value: object) -> list[str]:
    """What a part of a sheet writes, without spaces; icons are drawn, and numbers of the layout are not text."""
    if isinstance(value, dict):
        if value.get("type") == "span":
            return [re.sub(r"\s", "", value["text"])] if value["kind"] in ("text", "footnote") else []
        return [word for inner in value.values() for word in words(inner)]
    if isinstance(value, list | tuple):
        return [word for inner in value for word in words(inner)]
    return []


@each_page
def test_text_is_large_enough_and_glyphs_keep_apart(name: str, language: str) -> None:
    glyphs = characters(page_of(name, language).data)
    assert min(one.size_pt for one in glyphs) >= 9 - 0.01
    assert not overlaps(glyphs, share=0.3)


@each_page
def test_no_markup_is_left_over(name: str, language: str) -> None:
    text = "".join(one.char for one in characters(page_of(name, language).data))
    for markup in ("**", "==", "{{", "}}", "<!--", "-->", "[^", "```", ":::", "<br", "&lt;", "flowchart", "mindmap\n"):
        assert markup not in text, markup


def test_a_backslash_is_drawn_as_one_and_can_be_copied() -> None:
    """The pen's font has the won sign in its place."""
    text = (
        "---\ntitle: a\n---\n```layout\n10% title\n90% one\n```\n## A <!-- one: blue -->\n"
        'a ink`b\\c`, **d\\\\e**\n\n```mermaid\nflowchart LR\nf["g\\\\h"] --> i\n```\n'
    )
    data = render(read(text)).data
    slanting = [  # down to the right
        stroke.box
        for stroke in strokes(data)
        if len(stroke.points) == 2 and all(p < q for p, q in zip(*stroke.points, strict=True))
    ]
    found = [one for one in characters(data) if one.char == "\\"]
    assert len(found) == len(slanting) == 3
    for one, (left, top, right, bottom) in zip(found, slanting, strict=True):
        assert one.left - 1 <= left < right <= one.right + 1
        assert one.top - 4 <= top < bottom <= one.bottom + 4
    assert not seen(data) & set("\\₩")


@pytest.mark.slow
def test_two_processes_draw_the_same_bytes() -> None:
    code = (
        "import sys, hashlib\nfrom nudge.sheet.catalog import draw, text_of\n"
        "for form in ('pdf', 'png', 'svg'):\n"
        "    print(hashlib.sha256(draw(text_of('io', language='ko'), form)).hexdigest())"
    )
    ran = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert ran[0].stdout == ran[1].stdout
    assert len(set(ran[0].stdout.split())) == 3


@pytest.mark.slow
def test_drawing_needs_no_torch() -> None:
    code = (
        "import sys\nfrom nudge.sheet.catalog import draw, text_of\n"
        "draw(text_of('gpt2', language='en'))\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
