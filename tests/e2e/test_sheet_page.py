"""The Sheet page: every sheet is shown, downloaded and changed, in a real browser."""

import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pypdfium2
from playwright.sync_api import Page, expect
from tests.e2e.conftest import Studio, failure

from nudge.events import Evaluation, read
from nudge.sheet.catalog import NAMES, text_of
from nudge.studio.words import texts

DRAWN_MS = 90_000  # a page takes a second, and others may be in the queue

CHART = "```mermaid\nflowchart LR\n{0}a & b & c & d & e & f --> g & h & i & j & k & l --> a & m & n\n```\n"
SLOW = '---\ntitle: "a"\n---\n```layout\n5% title\n95% one\n```\n## One <!-- one: blue -->\n' + "".join(
    map(CHART.format, range(150))
)


def shown(page: Page, address: str | re.Pattern[str]) -> int:
    """The width of the preview in its own pixels, once it is the one of this address."""
    picture = page.locator(".paper img")
    expect(picture).to_have_attribute("src", address, timeout=DRAWN_MS)
    page.wait_for_function("() => document.querySelector('.paper img').complete", timeout=DRAWN_MS)
    width: int = picture.evaluate("picture => picture.naturalWidth")
    return width


def pdf_text(path: Path) -> str:
    """Everything that is written on the only page, without spaces."""
    with pypdfium2.PdfDocument(path) as document:
        assert len(document) == 1
        return "".join(document[0].get_textpage().get_text_range().split())


def download(page: Page, form: str, folder: Path) -> Path:
    with page.expect_download(timeout=DRAWN_MS) as waiting:
        page.locator(".downloads").get_by_role("link", name=form).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def write(page: Page, words: str, *, after: str) -> None:
    """Write into the text, at the end of the first line that begins so."""
    page.locator(".cm-line").filter(has_text=re.compile(f"^{after}")).first.click()
    page.keyboard.press("End")
    page.keyboard.type(words)


def test_every_sheet_is_shown_in_both_languages(studio: Studio, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{studio.url}/sheet", locale="ko-KR")
    chosen = page.locator(".sheets a[aria-current]")
    for name in NAMES:
        whose = "?run=small" if name == "run" else ""
        page.locator(f".sheets a[href*='what={name}']").click()
        assert shown(page, f"/sheets/{name}.ko.png{whose}") > 1000
        expect(chosen).to_contain_text(texts("ko")[f"sheet.name.{name}"])
        page.locator(".choosing").get_by_role("link", name="English").click()
        assert shown(page, f"/sheets/{name}.en.png{whose}") > 1000
        expect(page.locator("h1")).to_have_text(texts("ko")["sheet.title"])  # the notes' language, and not the page's
        expect(page.locator(".terminal code")).to_contain_text(f"nudge sheet {name}")
        page.locator(".choosing").get_by_role("link", name="한국어").click()
    assert shown(page, "/sheets/run.ko.png?run=small") > 1000
    page.reload()  # the address is the whole state
    assert shown(page, "/sheets/run.ko.png?run=small") > 1000
    expect(chosen).to_contain_text(texts("ko")["sheet.name.run"])
    expect(page.locator(".message")).to_have_count(0)


def test_a_sheet_is_taken_along(studio: Studio, visitor: Callable[..., Page], tmp_path: Path) -> None:
    page = visitor(f"{studio.url}/sheet?what=internals&lang=ko")
    assert shown(page, "/sheets/internals.ko.png") == 2339  # landscape, at 200 dots an inch
    pdf = download(page, "PDF", tmp_path)
    assert pdf.name == "internals.ko.pdf"
    assert "NEURALNETWORKINTERNALS" in pdf_text(pdf)
    assert "가중치" in pdf_text(pdf)
    markdown = download(page, "Markdown", tmp_path)
    assert markdown.name == "internals.ko.md"
    assert markdown.read_text("utf-8") == text_of("internals", language="ko")
    assert download(page, "PNG", tmp_path).read_bytes().startswith(b"\x89PNG")
    assert download(page, "SVG", tmp_path).read_bytes().startswith(b"<svg")
    with page.context.expect_page() as opening:
        page.locator(".paper").click()
    assert opening.value.url == f"{studio.url}/sheets/internals.ko.png"


def test_a_sheet_is_changed(studio: Studio, visitor: Callable[..., Page], tmp_path: Path) -> None:
    page = visitor(f"{studio.url}/sheet?what=io&lang=en")
    shown(page, "/sheets/io.en.png")
    page.get_by_role("button", name="Change it").click()
    write(page, "\ncorner: My own notes", after="title:")
    wrong = page.locator(".editor .message.bad")
    expect(wrong).to_contain_text(re.compile(r"line \d+"), timeout=DRAWN_MS)  # there is a corner already
    assert shown(page, "/sheets/io.en.png") > 1000, "the last page that could be drawn stays"
    expect(page.locator(".cm-line.at-fault")).to_have_count(1)
    page.get_by_role("button", name="Show line").click()

    page.locator(".cm-line", has_text="My own notes").click()
    page.keyboard.press("End")
    for _ in range(len("corner: My own notes\n")):
        page.keyboard.press("Backspace")
    expect(wrong).to_have_count(0, timeout=DRAWN_MS)
    write(page, "", after="subtitle:")
    page.keyboard.press("ArrowLeft")
    page.keyboard.type(", read by me")
    changed = re.compile(r"^/sheets/io\.en\.png\?text=[0-9a-f]{32}$")
    assert shown(page, changed) > 1000
    pdf = download(page, "PDF", tmp_path)
    assert pdf.name == "io.en.pdf"
    assert "readbyme" in pdf_text(pdf)

    page.keyboard.press("Escape")  # a way out of the text without a mouse
    page.keyboard.press("Tab")
    expect(page.locator(".cm-content")).not_to_be_focused()
    page.reload()  # the studio still has the change
    assert shown(page, changed) > 1000
    expect(page.locator(".cm-content")).to_contain_text("read by me")
    page.get_by_role("button", name="Back to the original").click()
    assert shown(page, "/sheets/io.en.png") > 1000
    assert "text=" not in page.url


def test_a_text_that_takes_long_stops_no_other_page(studio: Studio, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{studio.url}/sheet?what=io&lang=en")
    shown(page, "/sheets/io.en.png")
    page.get_by_role("button", name="Change it").click()
    page.locator(".cm-content").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(SLOW)
    drawing = page.locator(".desk [role=status] .pill")
    expect(drawing).to_be_visible()
    times = []
    for _ in range(5):
        began = time.monotonic()
        urllib.request.urlopen(f"{studio.url}/play", timeout=60).read()
        times.append(time.monotonic() - began)
    expect(drawing).to_be_visible()
    assert min(times) < 1.0
    expect(failure(page, "sheet.too_slow")).to_be_visible(timeout=DRAWN_MS)
    page.goto(f"{studio.url}/sheet?what=gpt2&lang=en")
    assert shown(page, "/sheets/gpt2.en.png") > 1000, "another process draws the next page"


def test_the_sheet_of_a_run(studio: Studio, own_run: Path, visitor: Callable[..., Page], tmp_path: Path) -> None:
    events = own_run / "events.jsonl"
    best = min(event.loss for event in read(events) if isinstance(event, Evaluation))
    page = visitor(f"{studio.url}/sheet?what=run&run={own_run.name}")
    shown(page, f"/sheets/run.en.png?run={own_run.name}")
    pdf = download(page, "PDF", tmp_path)
    assert pdf.name == f"{own_run.name}.en.pdf"
    assert f"{best:.3f}" in pdf_text(pdf)

    events.write_text("".join(events.read_text("utf-8").splitlines(keepends=True)[:1]), "utf-8")
    page.goto(f"{studio.url}/sheet?what=run&run={own_run.name}")
    expect(page.locator(".desk .message")).to_contain_text(own_run.name)
    expect(page.locator(".downloads")).to_be_hidden()
    page.goto(f"{studio.url}/sheet?what=io&lang=en&text=forgotten")
    expect(failure(page, "sheet.forgotten")).to_be_visible()
    assert shown(page, "/sheets/io.en.png") > 1000
