"""Train: a run is started, watched, paused, stopped and looked at afterwards, in a real browser."""

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.e2e.conftest import Studio, failure, serving

from nudge import events
from nudge.data import named_texts
from nudge.events import Event, Sample, Skipped, Started, Step, Stopped
from nudge.runs.folder import RunFolder
from nudge.studio.words import texts
from nudge.util import formatting

WORDS = texts("en")
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> {{ 1 + 1 }} \u202e\x1b[31m"


def entry(page: Page, name: str) -> Locator:
    """A field of the form."""
    return page.locator(f"input[name={name}]")


def stat(page: Page, name: str) -> Locator:
    return page.locator(f"[data-stat={name}]")


def number(of: Locator) -> int:
    return int(of.inner_text().replace(",", ""))


def n_points(page: Page) -> int:
    return int(page.locator(".nicegui-echart").get_attribute("data-points") or 0)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=WORDS[f"train.{name}"], exact=True).click()


def read(folder: Path) -> list[Event]:
    return list(events.read(folder / "events.jsonl"))


def append(folder: Path, *new: Event) -> None:
    with (folder / "events.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(events.to_json(event)) + "\n" for event in new)


@pytest.fixture
def lone_studio(tmp_path: Path) -> Iterator[Studio]:
    """A studio in which a run may still be going on when the test ends."""
    with serving(tmp_path / "runs") as running:
        yield running


def test_a_run_from_the_form_to_its_end(lone_studio: Studio, visitor: Callable[..., Page], tmp_path: Path) -> None:
    lines = [f"{n} {HOSTILE}" for n in range(4000)]
    (tmp_path / "hostile.txt").write_text("\n".join(lines), encoding="utf-8")
    page = visitor(f"{lone_studio.url}/train")
    expect(page.locator(".runs-list")).to_contain_text(WORDS["ui.no_run"])

    # Errors are shown, and nothing starts.
    entry(page, "steps").fill("many")
    expect(page.locator(".wrong")).to_contain_text("train.steps")
    entry(page, "steps").fill("3,000")
    entry(page, "data").fill(str(tmp_path / "hostil.txt"))
    press(page, "start")
    expect(page.locator(".wrong")).to_contain_text("'hostile.txt'")
    entry(page, "data").fill(str(tmp_path / "hostile.txt"))
    entry(page, "name").fill("../elsewhere")
    press(page, "start")
    expect(failure(page, "config.run_name")).to_contain_text("../elsewhere")
    assert list(tmp_path.glob("runs/*")) == []

    # The cost is measured.
    entry(page, "name").fill("mine")
    entry(page, "batch_tokens").fill("128")
    expect(page.locator(".forecast dd").first).to_contain_text(re.compile("min|s"), timeout=90_000)
    expect(page.locator(".form")).to_contain_text(re.compile("from a .* rehearsal"))

    press(page, "start")
    expect(page).to_have_url(re.compile("run=mine"))
    expect(stat(page, "step")).to_have_text(re.compile("[1-9]"), timeout=120_000)
    before, drawn = number(stat(page, "step")), n_points(page)
    expect(stat(page, "step")).not_to_have_text(f"{before:,}")
    page.wait_for_function(f"+document.querySelector('.nicegui-echart').dataset.points > {drawn}")
    expect(page.locator(".run-line[aria-current]")).to_contain_text(WORDS["train.state.running"])

    # Samples may hold anything, and stay text.
    expect(page.locator(".frame")).not_to_have_count(0)
    assert page.evaluate("document.querySelectorAll('.frame script, .frame img').length") == 0

    # Paused: no more updates until it is resumed.
    press(page, "pause")
    expect(page.locator(".sub")).to_contain_text(WORDS["train.state.paused"])
    paused = number(stat(page, "step"))
    page.reload()  # the same again
    expect(page.locator(".sub")).to_contain_text(WORDS["train.state.paused"])
    expect(stat(page, "step")).to_have_text(f"{paused:,}")
    press(page, "resume")
    expect(page.locator(".sub")).to_contain_text(WORDS["train.state.running"])
    expect(stat(page, "step")).not_to_have_text(f"{paused:,}")

    # A placed cursor stays where it is when more samples come.
    expect(page.locator(".frame")).to_have_count(5, timeout=120_000)
    page.locator(".frame").first.click()
    expect(page.get_by_role("button", name=WORDS["train.follow"])).to_be_visible()
    chosen = page.locator(".frame.on").get_attribute("data-step")
    page.locator(".film").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".frame.on")).not_to_have_attribute("data-step", chosen or "")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".frame.on")).to_have_attribute("data-step", chosen or "")
    now = number(stat(page, "step"))
    page.wait_for_function(
        f"+document.querySelector('[data-stat=step]').textContent.replace(',', '') > {now + 25}", timeout=120_000
    )
    expect(page.locator(".frame.on")).to_have_attribute("data-step", chosen or "")
    press(page, "follow")
    expect(page.locator(".frame.on")).not_to_have_attribute("data-step", chosen or "")

    press(page, "save")
    expect(page.locator(".updates .tag.bl").filter(has_text="saved").first).to_be_attached(timeout=30_000)
    press(page, "stop")
    expect(page.locator(".sub")).to_contain_text(WORDS["train.state.interrupted"], timeout=30_000)
    last = read(lone_studio.runs / "mine")[-1]
    assert isinstance(last, Stopped)
    assert last.reason == "interrupted"
    expect(stat(page, "step")).to_have_text(f"{last.step:,}")
    press(page, "go_on")
    expect(page.locator(".sub")).to_contain_text(WORDS["train.state.running"], timeout=60_000)
    press(page, "stop")
    expect(page.locator(".sub")).to_contain_text(WORDS["train.state.interrupted"], timeout=30_000)


def test_a_form_that_is_wrong_is_not_measured(empty_studio: Studio, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{empty_studio.url}/train")
    expect(page.locator(".form")).to_contain_text(re.compile(f"{WORDS['train.measuring']}|rehearsal"))
    entry(page, "steps").fill("many")
    expect(page.locator(".wrong")).to_contain_text("train.steps")
    expect(page.locator(".forecast dd").first).to_have_text("–")
    expect(page.locator(".form")).not_to_contain_text(WORDS["train.measuring"])


def test_a_text_is_chosen_by_its_name(empty_studio: Studio, visitor: Callable[..., Page]) -> None:
    for locale, first, title in (("en-US", "shakespeare", "Plays of Shakespeare"), ("ko-KR", "nsmc", "한국어 영화평")):
        page = visitor(f"{empty_studio.url}/train", locale=locale)
        names = page.locator(".names button")
        expect(names.first).to_have_text(first)
        expect(names).to_have_count(len(named_texts.table()))
        names.first.click()
        expect(entry(page, "data")).to_have_value(first)
        expect(page.locator(".data-note")).to_contain_text(f"{title}, ")
        expect(page.locator(".wrong")).to_be_empty()


def test_an_error_before_there_is_a_run_is_shown(
    empty_studio: Studio, visitor: Callable[..., Page], tmp_path: Path
) -> None:
    (tmp_path / "short.txt").write_text("too short", encoding="utf-8")
    page = visitor(f"{empty_studio.url}/train")
    entry(page, "data").fill(str(tmp_path / "short.txt"))
    entry(page, "name").fill("short")
    press(page, "start")
    expect(page.locator(".preparing .message.bad")).to_be_visible(timeout=60_000)
    assert page.locator(".preparing .message.bad .ink2").inner_text()  # what to do
    page.reload()
    expect(page.locator(".preparing .message.bad")).to_be_visible()
    press(page, "forget")
    expect(page.locator(".runs-list")).to_contain_text(WORDS["ui.no_run"])


def test_the_page_shows_the_events_of_a_run(studio: Studio, own_run: Path, visitor: Callable[..., Page]) -> None:
    found = read(own_run)
    steps = [event for event in found if isinstance(event, Step)]
    samples = [event for event in found if isinstance(event, Sample)]
    url = f"{studio.url}/train?run={own_run.name}"
    page, other = visitor(url), visitor(url, locale="ko-KR")
    for one in (page, other):
        expect(stat(one, "step")).to_have_text("60")
        expect(stat(one, "loss")).to_have_text(formatting.significant(steps[-1].loss, 3))
        expect(one.locator(".updates .update")).to_have_count(61)
        expect(one.locator(".frame")).to_have_count(len(samples))
    expect(page.locator(".updates .update").first).to_contain_text(f"{steps[-1].loss:.3f}")
    page.wait_for_function("document.querySelector('.nicegui-echart').dataset.points == 60")

    # More comes, with a NaN and with hostile text; both pages show it.
    place = page.locator(".frame").nth(1)
    place.click()
    skipped = Skipped(step=61, time=1.0, loss=math.nan, grad_norm=math.inf, in_a_row=1)
    more = Sample(step=62, time=1.0, prompt="", text=HOSTILE, seed=0)
    append(own_run, skipped, Step(**{**_values(steps[-1]), "step": 62}), more)
    for one, words in ((page, WORDS), (other, texts("ko"))):
        expect(stat(one, "step")).to_have_text("62")
        expect(one.locator(".updates .tag.bad").first).to_have_text(words["train.skipped_loss"])
        expect(one.locator(".run-line[aria-current] .tag.bad")).to_have_text("NaN")
        expect(one.locator(".stat .u.bad")).to_have_text("1 × NaN")
    expect(page.locator(".frame.on")).to_have_attribute("data-step", "20")
    hostile = other.locator(".frame.on .tx")
    expect(hostile).to_contain_text(
        "<script>alert(1)</script><img src=x onerror=alert(2)> {{ 1 + 1 }} <E2 80 AE>\u241b[31m"
    )

    # A run whose newest loss is NaN.
    append(own_run, Skipped(step=63, time=1.0, loss=math.nan, grad_norm=math.nan, in_a_row=1))
    append(own_run, Stopped(step=63, time=1.0, reason="diverged", hint="a smaller learning rate"))
    expect(stat(page, "loss")).to_have_text("NaN")
    expect(page.locator(".notices .message.bad")).to_contain_text("a smaller learning rate")


def test_a_word_that_cannot_be_written_is_an_error_on_the_page(
    studio: Studio, own_run: Path, visitor: Callable[..., Page]
) -> None:
    folder = RunFolder(own_run)
    folder.control.mkdir()  # the disk refuses the file, as a full one does
    url = f"{studio.url}/train?run={own_run.name}"
    with folder.lock():  # as the process of a run holds it
        append(own_run, next(event for event in read(own_run) if isinstance(event, Started)))  # it goes on
        for page, words in ((visitor(url), WORDS), (visitor(url, locale="ko-KR"), texts("ko"))):
            page.get_by_role("button", name=words["train.stop"], exact=True).click()
            said = failure(page, "machine.not_written")
            expect(said).to_contain_text("control")
            expect(said).to_contain_text("make room on the disk" if words is WORDS else "디스크 공간")


def test_a_chosen_sample_stays_when_a_nearer_one_comes(
    studio: Studio, own_run: Path, visitor: Callable[..., Page]
) -> None:
    newest = max(event.step for event in read(own_run) if isinstance(event, Sample))
    page = visitor(f"{studio.url}/train?run={own_run.name}")
    on = page.locator(".frame.on")
    expect(on).to_have_attribute("data-step", str(newest))
    on.click()  # the newest can be chosen as well
    expect(page.get_by_role("button", name=WORDS["train.follow"])).to_be_visible()
    append(own_run, Sample(step=newest + 3, time=1.0, prompt="", text="later", seed=0))
    expect(page.locator(".frame").last).to_have_attribute("data-step", str(newest + 3))
    expect(on).to_have_attribute("data-step", str(newest))


def test_a_run_that_cannot_be_read_hides_no_other(
    studio: Studio, add_run: Callable[[Path], Path], visitor: Callable[..., Page], trained: Path
) -> None:
    unreadable, odd_run = add_run(trained / "small"), add_run(trained / "small")
    (unreadable / "events.jsonl").unlink()
    (unreadable / "events.jsonl").mkdir()  # not even root can read a folder as a file
    odd = [{"event": "started", "steps": "x"}, {"event": "stopped", "step": 1, "time": 1.0, "reason": "new"}]
    with (odd_run / "events.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in odd)
    page = visitor(f"{studio.url}/train?run={odd_run.name}")
    expect(stat(page, "step")).to_have_text("60")
    broken = page.locator(".run-line").filter(has_text=unreadable.name)
    expect(broken).to_contain_text(WORDS["train.state.unreadable"])
    broken.click()
    expect(page.locator(".sub")).to_contain_text(WORDS["train.state.unreadable"])
    expect(page.locator(".run-line").filter(has_text=odd_run.name)).to_be_visible()


def _values(event: Step) -> dict[str, float]:
    return {name: getattr(event, name) for name in Step.__slots__}
