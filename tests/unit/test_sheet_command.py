"""`nudge sheet`: what it writes, and one clear line for each thing that can be wrong."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pypdfium2
import pytest
from fontTools.ttLib import TTFont
from tests.sheets import characters, pen_font

from nudge.errors import SheetError
from nudge.sheet import fonts
from nudge.sheet.catalog import draw, text_of
from nudge.sheet.render import render
from nudge.sheet.source import read

Nudge = Callable[..., subprocess.CompletedProcess[str]]

SMALL = """---
title: "Mine"
language: en
---
```layout
20% title
80% one
```
## 💡 One thing <!-- one: blue -->
BODY
"""


@pytest.fixture(autouse=True)
def _pen() -> None:
    pen_font()


def small(body: str) -> str:
    return SMALL.replace("BODY", body)


def refused(nudge: Nudge, *args: str) -> str:
    """Return what a command that fails prints: two short lines."""
    ran = nudge("sheet", *args)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    printed = ran.stderr.strip()
    assert len(printed.splitlines()) <= 2, printed
    return printed


def test_each_format_is_what_it_says(nudge: Nudge, tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text(small("- ==marked== **words**"), "utf-8")
    beginnings = {"pdf": b"%PDF-", "png": b"\x89PNG", "svg": b"<svg", "md": b"---\ntitle"}
    for form, beginning in beginnings.items():
        ran = nudge("sheet", "mine.md", "--out", f"out/page.{form}")
        assert ran.returncode == 0, ran.stderr
        assert (tmp_path / "out" / f"page.{form}").read_bytes().startswith(beginning)
    with pypdfium2.PdfDocument(tmp_path / "out" / "page.pdf") as document:
        assert len(document) == 1
        assert [round(side) for side in document[0].get_size()] == [595, 842]
        assert document.get_metadata_value("Title") == "Mine"


@pytest.mark.slow
def test_the_source_of_a_sheet_is_a_sheet(nudge: Nudge, tmp_path: Path) -> None:
    assert nudge("sheet", "io", "--lang", "ko", "--format", "md").returncode == 0
    source = (tmp_path / "io.md").read_text("utf-8")
    assert source.startswith("---\n")
    assert "```mermaid" in source
    assert "100,277" in source
    assert "{{" not in source
    (tmp_path / "io.md").write_text(source.replace("신경망 입출력", "내가 고친 제목"), "utf-8")
    assert nudge("sheet", "io.md").returncode == 0
    drawn = "".join(one.char for one in characters((tmp_path / "io.pdf").read_bytes()))
    assert "내가고친제목" in drawn


def test_the_language_is_the_systems_unless_said(nudge: Nudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "ko_KR.UTF-8")
    nudge("sheet", "io", "--format", "md", "--out", "ko.md")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    nudge("sheet", "io", "--format", "md", "--out", "en.md")
    assert "language: ko" in (tmp_path / "ko.md").read_text("utf-8")
    assert "language: en" in (tmp_path / "en.md").read_text("utf-8")


def test_what_is_wrong_is_said_in_one_line(nudge: Nudge, tmp_path: Path) -> None:
    assert "'gpt3'" in refused(nudge, "gpt3")
    assert "'gpt2'" in refused(nudge, "gpt3")
    (tmp_path / "mine.md").write_text(small("text"), "utf-8")
    assert "page.jpg" in refused(nudge, "gpt2", "--out", "page.jpg")
    assert "runs/first" in refused(nudge, "gpt2", "runs/first")
    assert "nudge train" in refused(nudge, "run")
    assert "language: ko" in refused(nudge, "mine.md", "--lang", "ko")
    assert "none.ttf" in refused(nudge, "mine.md", "--font", "none.ttf")
    assert "mine.md" in refused(nudge, "mine.md", "--font", "mine.md")
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".pdf", ".png")) == []


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes.md").write_bytes(b"\xff\xfe\x00")
    cases = [
        ("gpt3", "unknown", "name", "gpt3"),
        (str(tmp_path / "none.md"), "unreadable", "error", "No such file or directory"),
        ("x" * 300, "unreadable", "error", "File name too long"),
        (str(tmp_path / "bytes.md"), "not_utf8", "path", tmp_path / "bytes.md"),
    ]
    for what, name, key, value in cases:
        with pytest.raises(SheetError) as caught:
            text_of(what)
        assert (caught.value.code, caught.value.values[key]) == (f"sheet.{name}", value)


@pytest.mark.slow
def test_a_page_takes_the_place_of_a_page_alone(nudge: Nudge, tmp_path: Path) -> None:
    """Never of a text that a person may have changed, a folder or a device."""
    (tmp_path / "mine.md").write_text(small("text"), "utf-8")
    for _ in range(2):
        assert nudge("sheet", "mine.md", "--out", "PAGE.PDF").returncode == 0
        assert nudge("sheet", "mine.md", "--format", "md").returncode == 0, "it is that text"
    (tmp_path / "io.md").write_text("what I changed", "utf-8")
    assert "io.md" in refused(nudge, "io", "--format", "md")
    assert "io.md" in refused(nudge, "mine.md", "--format", "pdf", "--out", "io.md")
    assert (tmp_path / "io.md").read_text("utf-8") == "what I changed"
    (tmp_path / "folder.pdf").mkdir()
    os.mkfifo(tmp_path / "pipe.pdf")
    for out in ("folder.pdf", "pipe.pdf"):
        assert out in refused(nudge, "mine.md", "--out", out)
    assert "mine.md/page.pdf" in refused(nudge, "mine.md", "--out", "mine.md/page.pdf")


def test_without_the_font_each_system_is_told_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "UNIX_FOLDERS", ("/nowhere",))
    monkeypatch.setattr(fonts, "FOLDERS", {})
    with pytest.raises(SheetError) as caught:
        fonts.find()
    assert caught.value.code == "sheet.no_pen"
    for words in ("Debian", "apt-get install", "macOS", "brew install", "Windows", "--font"):
        assert words in caught.value.hint


def test_a_font_is_asked_for_by_the_name_that_it_is_drawn_with(tmp_path: Path) -> None:
    """Typst takes the 'Narrow' in a family's name for a style, and draws nothing where it is asked for the whole."""
    narrow = tmp_path / "narrow.ttf"
    with TTFont(pen_font()) as font:
        for number in (1, 16):
            font["name"].setName("My Pen Narrow", number, 3, 1, 0x409)
        font.save(narrow)
    drawn = characters(render(read(small("words")), font=narrow).data)
    assert "".join(one.char for one in drawn).endswith("words")


def test_of_a_damaged_font_the_reason_is_said(tmp_path: Path) -> None:
    whole, damaged = pen_font().read_bytes(), tmp_path / "damaged.ttf"
    for n_bytes in (0, 3, 12, 300, 4000, len(whole) // 2):
        damaged.write_bytes(whole[:n_bytes])
        fonts._read.cache_clear()
        with pytest.raises(SheetError) as caught:
            fonts.find(damaged)
        assert (caught.value.code, caught.value.values["path"]) == ("sheet.damaged_font", damaged)
        assert caught.value.values["error"]


def test_a_font_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SheetError) as caught:
        fonts.find(tmp_path / "none.ttf")
    assert (caught.value.code, caught.value.values["path"]) == ("sheet.no_font_file", tmp_path / "none.ttf")


def does_not_fit(text: str) -> tuple[str, str]:
    """Return the code and the region of the error."""
    with pytest.raises(SheetError) as caught:
        render(read(text))
    assert caught.value.values["needs"] > caught.value.values["has"] > 0
    return caught.value.code, caught.value.values["region"]


def test_text_that_does_not_fit_is_refused_with_both_figures() -> None:
    long = small("\n\n".join(f"Line {i} of a text that is much too long for its page." for i in range(200)))
    assert does_not_fit(long) == ("sheet.no_room", "one")
    table = "|" + "|".join("wwwwwwwwwwwwwwww" for _ in range(12)) + "|\n" + "|---" * 12 + "|\n"
    assert does_not_fit(small(table)) == ("sheet.too_wide", "one")
    title = small("text").replace("Mine", "Mine " * 60)
    assert does_not_fit(title)[1] == "title"


def test_text_takes_the_largest_size_that_fits() -> None:
    sizes = []
    for lines in (3, 34, 40):
        sheet = read(small("\n".join(f"- point {i} with a few words" for i in range(lines))))
        page = render(sheet)
        (place,) = [place for place in page.places if place.name == "one"]
        assert place.needs <= place.has
        sizes.append(place.scale)
        glyphs = characters(page.data)
        assert min(one.size_pt for one in glyphs) >= 9 - 0.01
    assert sizes[0] > sizes[1] > sizes[2]


def test_a_character_that_the_font_lacks_is_named_before_anything_is_drawn() -> None:
    with pytest.raises(SheetError) as caught:
        render(read(small("a 𝔸 b")))
    assert caught.value.code == "sheet.lacking_characters"
    assert (caught.value.values["region"], caught.value.values["characters"]) == ("one", "'𝔸' (U+1D538)")


def test_a_line_breaks_at_spaces_only() -> None:
    """A mark, bold text and what follows them without a space stay together, however narrow the place is."""
    sheet = read(
        small("<!-- columns 1 3 -->\n" + "aaa (**bold**), ==mark==. " * 6 + "\n<!-- next -->\nx\n<!-- end -->")
    )
    lines: dict[int, str] = {}
    for one in sorted(characters(render(sheet).data, loose=True), key=lambda one: (round(one.bottom / 6), one.left)):
        lines[round(one.bottom / 6)] = lines.get(round(one.bottom / 6), "") + one.char
    assert not [line for line in lines.values() if line.startswith((")", ",", "."))]


def test_decomposed_text_is_drawn_as_composed_text_and_stays_as_it_is(tmp_path: Path) -> None:
    pen_font()
    page = '---\ntitle: "{0}"\n---\n```layout\n15% title\n85% one\n```\n## {0} <!-- one: blue -->\n{0}\n'
    whole, parts = page.format("\uac00\uaca9"), page.format("\u1100\u1161\u1100\u1167\u11a8")
    assert draw(parts, "svg") == draw(whole, "svg")
    assert draw(parts, "md") == parts.encode()
    with pytest.raises(SheetError) as error:  # this letter has no composed form, and the pen no accent
        draw(page.format("x\u0301"), "svg")
    assert error.value.code == "sheet.lacking_characters"
    assert "U+0301" in error.value.message
