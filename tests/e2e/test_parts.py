"""A run of two processes: its checkpoints are folders, and every page shows it like any other."""

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from playwright.sync_api import Page, expect
from tests import processes
from tests.e2e.conftest import Studio, failure


@pytest.fixture
def two(common: Path, add_run: Callable[[Path], Path]) -> Path:
    """The run, trained once for all workers, in the studio."""
    folder = common / "parts"
    with FileLock(common / "parts.lock"):
        if not folder.exists():
            folder.mkdir()
            settings = ("--recipe", "llm_viz", "--steps", "10", "--set", "machine.dtype=float32", "--run", "runs/two")
            processes.run(folder, 2, "train", "--shard", *settings)
    assert {path.suffix for path in Path(folder, "runs/two/checkpoints").glob("step_*")} == {".parts"}
    return add_run(folder / "runs" / "two")


@pytest.mark.parametrize(
    ("name", "query", "content"),
    [
        ("train", "", "10 / 10"),
        ("predict", "&text=CAB", "answered in"),
        ("predict", "&text=CAB&step=0", "answered in"),
        ("inside", "&text=CAB", "3 tokens, 48 channels, 3 blocks"),
        ("knobs", "&text=CAB", "The same as the base, bit for bit."),
        ("weights", "", "float32 · SHA-256 verified"),
        ("weights", "&step=0", "step_00000000.parts"),
    ],
)
def test_each_page_shows_it(
    studio: Studio, two: Path, visitor: Callable[..., Page], name: str, query: str, content: str
) -> None:
    page = visitor(f"{studio.url}/{name}?run={two.name}{query}")
    expect(page.locator("body")).to_contain_text(content)


def test_a_step_that_is_not_there(studio: Studio, two: Path, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{studio.url}/weights?run={two.name}&step=5")
    expect(failure(page, "checkpoint.no_step")).to_contain_text(two.name)


def test_it_writes(studio: Studio, two: Path, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{studio.url}/play?run={two.name}")
    page.get_by_label("Prompt").fill("CAB")
    page.get_by_role("button", name="Write", exact=True).click()
    expect(page.locator("dt:has-text('Status') + dd")).to_contain_text("maximum of 9 tokens reached")


def test_the_steps_of_the_weights_are_slid_through(studio: Studio, two: Path, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{studio.url}/weights?run={two.name}")
    expect(page.locator(".sub")).to_contain_text("step_00000010.parts")
    expect(page.get_by_role("heading", name="Since step 0")).to_be_visible()
    page.get_by_role("slider", name="Step").locator("[tabindex]").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".sub")).to_contain_text("step_00000000.parts")
    page.get_by_text("Open in Inside").click()
    expect(page.get_by_text("2 checkpoints of this run")).to_be_visible(timeout=20_000)
