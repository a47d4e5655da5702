"""Predict in a real browser: the numbers are the network's, one update moves them, and text stays text."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
import torch
from playwright.sync_api import Page, expect
from tests.e2e.conftest import Studio

from nudge.infer import engine
from nudge.infer.engine import LanguageModel
from nudge.util.formatting import percent

TEXT = "구글에서 시니어 엔지니어를"


@pytest.fixture(scope="module")
def model(trained: Path) -> LanguageModel:
    return engine.load(trained / "small", device="cpu")


def logits(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model.network(torch.tensor([ids]))[0, -1]


def probabilities(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    return logits(model, ids).softmax(-1)


def test_every_number_is_the_networks(studio: Studio, visitor: Callable[..., Page], model: LanguageModel) -> None:
    page = visitor(f"{studio.url}/predict?run=small&text={quote(TEXT)}")
    ids = model.prompt_ids(TEXT)
    scores = logits(model, ids)
    expected = scores.softmax(-1)
    top = expected.sort(descending=True, stable=True)
    rows = page.locator("button.pb")
    expect(rows).to_have_count(20)
    for n in (0, 7, 19):
        expect(rows.nth(n).locator(".p")).to_have_text(percent(top.values[n].item()))
    expect(page.locator(".pb.rest .p")).to_have_text(percent(top.values[20:].sum().item()))

    token = int(top.indices[7])
    rows.nth(7).click()
    expect(rows.nth(7)).to_have_class(re.compile("sel"))
    expect(page.locator("dd").filter(has_text=f"8 of {len(expected)}")).to_be_visible()

    page.get_by_role("textbox", name="Find a token").fill(f"#{token + 1}")
    rank = 1 + int((scores > scores[token + 1]).sum())
    expect(page.locator("dd").filter(has_text=f"{rank} of {len(expected)}")).to_be_visible()

    page.get_by_role("slider", name="Context").locator("[tabindex]").focus()
    for left in reversed(range(len(ids) - 1)):  # a key that comes before the last one is drawn moves from where it was
        page.keyboard.press("ArrowLeft")
        expect(page.get_by_text(f"{left} of {len(ids) - 1} tokens")).to_be_visible()
    alone = probabilities(model, ids[:1])
    expect(rows.nth(0).locator(".p")).to_have_text(percent(alone.max().item()))
    expect(page.locator(".chip.off")).to_have_count(len(ids) - 1)


def test_one_update_keeps_and_goes_back(
    studio: Studio, own_run: Path, visitor: Callable[..., Page], model: LanguageModel
) -> None:
    page = visitor(f"{studio.url}/predict?run={own_run.name}&text={quote(TEXT)}")
    before = probabilities(model, model.prompt_ids(TEXT))
    file = (own_run / "ckpt.pt").read_bytes()
    rows = page.locator("button.pb")
    target = int(before.sort(descending=True, stable=True).indices[5])
    rows.nth(5).click()
    page.get_by_role("button", name="Nudge once").click()
    results = page.locator(".ba")
    expect(results.locator(".bf").first).to_have_text(percent(before[target].item()))
    after = results.locator(".af").first.inner_text()
    assert float(after.rstrip("%")) > 100 * before[target].item()
    expect(rows.nth(5).locator(".p")).to_have_text(percent(before[target].item()))  # a copy: nothing moved yet

    page.get_by_role("button", name="Keep").click()
    expect(page.get_by_text("Kept updates: 1")).to_be_visible()
    expect(page.locator("button.pb.sel .p")).to_have_text(after)
    page.get_by_role("button", name="Back to the file").click()
    expect(page.get_by_text("Kept updates: 1")).to_have_count(0)
    expect(rows.nth(5).locator(".p")).to_have_text(percent(before[target].item()))
    assert (own_run / "ckpt.pt").read_bytes() == file


def test_a_learning_rate_that_is_too_high_overshoots(studio: Studio, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{studio.url}/predict?run=small")
    page.locator("button.pb").nth(3).click()
    box = page.get_by_role("slider", name="Learning rate").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    page.get_by_role("button", name="Nudge once").click()
    expect(page.locator(".tag.bad").or_(page.locator(".message.bad"))).to_be_visible()


def test_korean_bytes_are_shown_as_syllables(studio: Studio, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{studio.url}/predict?run=small&text={quote('뷁 채용')}", locale="ko-KR")
    expect(page.locator(".syl").first).to_contain_text("뷁")
    expect(page.locator(".chips")).not_to_contain_text("\ufffd")


def test_hostile_and_too_long_text(studio: Studio, visitor: Callable[..., Page]) -> None:
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}"
    page = visitor(f"{studio.url}/predict?run=small&text={quote(hostile)}")
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    expect(page.locator(".chip").first).to_be_visible()
    assert page.locator("main img[src=x], main script").count() == 0
    area = page.get_by_role("textbox", name="Text", exact=True)
    area.fill("구글에서 " * 60)
    expect(page.locator(".notes .message")).to_contain_text("reads at most 32")
    page.get_by_role("textbox", name="Find a token").fill("zzzzzzzz")
    expect(page.get_by_text("no token contains this")).to_be_visible()
    area.fill("The little dog")
    expect(page.locator(".notes .message")).to_have_count(0)
    expect(page.locator("button.pb")).to_have_count(20)
