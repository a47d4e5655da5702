"""The frame of every page: languages, themes, the run, and messages instead of crashes."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from tests.e2e.conftest import Studio, failure

from nudge.studio.layout import PAGES
from nudge.studio.words import texts


@pytest.mark.parametrize("name", PAGES)
def test_each_page_opens_with_its_title(studio: Studio, visitor: Callable[..., Page], name: str) -> None:
    page = visitor(f"{studio.url}/{name}")
    expect(page.locator("h1")).to_have_text(texts("en")[f"{name}.title"])
    expect(page.locator("nav a[aria-current=page]")).to_have_text(texts("en")[f"nav.{name}"])
    expect(page.locator(".runchip")).to_contain_text("small")
    expect(page.locator(".message.bad")).to_have_count(0)


def test_language_of_the_browser_then_of_the_switch(studio: Studio, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{studio.url}/predict", locale="ko-KR")
    expect(page.locator("h1")).to_have_text("예측")
    expect(page.locator("html")).to_have_attribute("lang", "ko-KR")
    page.get_by_role("link", name="EN", exact=True).click()
    expect(page.locator("h1")).to_have_text("Predict")
    page.get_by_role("link", name="Knobs").click()
    expect(page.locator("h1")).to_have_text("Knobs")


def test_dark_by_the_browser_then_light_by_the_switch(studio: Studio, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{studio.url}/predict", color_scheme="dark")
    expect(page.locator("body")).to_have_css("background-color", "rgb(19, 18, 17)")
    page.get_by_role("link", name="Light").click()
    expect(page.locator("body")).to_have_css("background-color", "rgb(250, 249, 247)")
    page.reload()
    expect(page.locator("body")).to_have_css("background-color", "rgb(250, 249, 247)")


def test_unknown_run_and_missing_step_are_errors(studio: Studio, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{studio.url}/predict?run=nope")
    expect(failure(page, "run.unknown")).to_contain_text("'nope'")
    page.goto(f"{studio.url}/predict?run=small&step=7")
    expect(failure(page, "checkpoint.no_step")).to_contain_text("7")
    page.goto(f"{studio.url}/predict?run=../../etc")
    expect(failure(page, "run.unknown")).to_be_visible()


def test_empty_folder_of_runs(empty_studio: Studio, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{empty_studio.url}/inside")
    page.get_by_role("link", name="Start a run").click()
    expect(page.locator("h1")).to_have_text("Train")
