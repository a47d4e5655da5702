"""A run that two processes shared: its checkpoints are folders, and every page shows it like any other."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests import processes
from tests.e2e.conftest import Studio, serving


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("parts")
    settings = ("--recipe", "llm_viz", "--steps", "10", "--set", "machine.dtype=float32", "--run", "runs/two")
    processes.run(folder, 2, "train", "--shard", *settings)
    assert {path.suffix for path in Path(folder, "runs/two/checkpoints").glob("step_*")} == {".parts"}
    with serving(folder / "runs") as studio:
        yield studio


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("train?run=two", "10 / 10"),
        ("predict?run=two&text=CAB", "answered in"),
        ("predict?run=two&text=CAB&step=0", "answered in"),
        ("inside?run=two&text=CAB", "3 tokens, 48 channels, 3 blocks"),
        ("knobs?run=two&text=CAB", "The same as the base, bit for bit."),
        ("weights?run=two", "float32 · SHA-256 verified"),
        ("weights?run=two&step=0", "step_00000000.parts"),
        ("weights?run=two&step=5", "two has no checkpoint of step 5"),
    ],
)
def test_each_page_shows_it(parts: Studio, visitor: Callable[..., Page], page: str, said: str) -> None:
    shown = visitor(f"{parts.url}/{page}")
    expect(shown.locator("body")).to_contain_text(said, timeout=20_000)


def test_it_writes(parts: Studio, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{parts.url}/play?run=two")
    page.get_by_label("Prompt").fill("CAB")
    page.get_by_role("button", name="Write", exact=True).click()
    expect(page.locator("dt:has-text('Status') + dd")).to_contain_text("maximum of 9 tokens reached", timeout=20_000)


def test_the_steps_of_the_weights_are_slid_through(parts: Studio, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{parts.url}/weights?run=two")
    expect(page.locator(".sub")).to_contain_text("step_00000010.parts", timeout=20_000)
    expect(page.get_by_role("heading", name="Since step 0")).to_be_visible()
    page.get_by_role("slider", name="Step").locator("[tabindex]").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".sub")).to_contain_text("step_00000000.parts")
    page.get_by_text("Open in Inside").click()
    expect(page.get_by_text("2 checkpoints of this run")).to_be_visible(timeout=20_000)
