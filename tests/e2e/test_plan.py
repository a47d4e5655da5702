"""The Plan page: every figure on it is the library's, and the address holds what is asked."""

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.e2e.conftest import Studio

from nudge.plan import questions, speed
from nudge.plan.explain import formulas
from nudge.plan.planner import Plan, make_ask, plan
from nudge.studio.words import texts
from nudge.util import formatting


@pytest.fixture
def opened(studio: Studio, visitor: Callable[..., Page]) -> Callable[..., Page]:
    return lambda query="", **settings: visitor(f"{studio.url}/plan{query}", **settings)


def figure(page: Page, name: str) -> Locator:
    return page.locator(".stats.figures .stat").filter(has=page.get_by_text(name, exact=True))


def expect_shown(page: Page, answer: Plan) -> None:
    """Time, cost, memory, its parts and the ladder are those of this plan."""
    value, unit = formatting.span(answer.hours.likely)
    expect(figure(page, "Time").locator(".v")).to_have_text(value + unit)
    for end in (answer.hours.low, answer.hours.high):
        expect(figure(page, "Time").locator(".interval")).to_contain_text(formatting.span(end)[0])
    assert answer.usd is not None
    expect(figure(page, "Cost").locator(".v")).to_have_text(formatting.dollars(answer.usd.likely))
    expect(figure(page, "Cost").locator(".interval")).to_have_text(
        f"{formatting.dollars(answer.usd.low)} – {formatting.dollars(answer.usd.high)}"
    )
    parts = page.locator(".parts-legend")
    for size in (answer.layout.memory.activations, answer.layout.memory.logits, answer.layout.memory.moments):
        expect(parts.get_by_text(formatting.size(size), exact=True).first).to_be_visible()
    expect(page.locator(".rung:not(.head)")).to_have_count(len(questions.ladder(answer.ask)))
    mine = page.locator(".rung.mine")
    expect(mine).to_contain_text(formatting.about(answer.hours.likely))
    expect(mine).to_contain_text(formatting.count(answer.tokens_per_s.likely))


def expect_asked(page: Page, **asked: str) -> None:
    """The address comes to say this, and of a plan nothing else: it is set a moment before or after the figures."""

    def is_there(url: str) -> bool:
        return {name: value for name, [value] in parse_qs(urlsplit(url).query).items() if name != "run"} == asked

    page.wait_for_url(is_there)


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option).click()


def test_figures_are_the_librarys_and_follow_the_form(opened: Callable[..., Page]) -> None:
    page = opened()
    expect_shown(page, plan(make_ask("gpt2_small", gpu="h100", count=8)))
    choose(page, "Hardware", "RTX 4090 24 GB")
    page.get_by_label("How many").fill("1")
    page.get_by_label("Tokens", exact=True).fill("2.5B")
    here = plan(make_ask("gpt2_small", gpu="4090", tokens=2_500_000_000))
    expect_shown(page, here)
    expect(page.get_by_label("Micro-batch")).to_have_attribute("placeholder", str(here.layout.micro_batch))
    expect(figure(page, "Loss of a similar run")).to_contain_text("FineWeb")  # a published neighbour, and whose
    expect(figure(page, "Loss of a similar run")).to_contain_text("modded-nanogpt")
    page.get_by_role("radio", name="float32").click()
    expect_shown(page, plan(make_ask("gpt2_small", gpu="4090", tokens=2_500_000_000, dtype="float32")))
    asked = {"recipe": "gpt2_small", "gpu": "4090", "count": "1", "tokens": "2.5B", "dtype": "float32"}
    expect_asked(page, **asked)

    page.reload()  # the address is the whole state
    expect(page.get_by_label("Tokens", exact=True)).to_have_value("2.5B")
    expect(page.get_by_role("radio", name="float32")).to_have_attribute("aria-checked", "true")
    expect_shown(page, plan(make_ask("gpt2_small", gpu="4090", tokens=2_500_000_000, dtype="float32")))
    page.get_by_role("link", name="한국어").click()  # and the other language keeps it
    expect(page.locator("h1")).to_have_text("계획")
    expect_asked(page, **asked)


def test_a_budget_a_time_and_a_price_are_answered(opened: Callable[..., Page]) -> None:
    page = opened("?recipe=gpt2_medium&gpu=a100-80&count=8&budget=100")
    ask = make_ask("gpt2_medium", gpu="a100-80", count=8)
    tokens = questions.tokens_for(ask, usd=100)
    expect(page.get_by_label("Tokens", exact=True)).to_have_attribute("placeholder", formatting.count(tokens))
    expect_shown(page, plan(make_ask("gpt2_medium", gpu="a100-80", count=8, tokens=tokens)))

    page.get_by_label("Budget").fill("")
    page.locator("input[name=hours]").fill("24")
    page.get_by_label("How many").fill("")
    fewest = questions.count_for(ask, 24)
    expect(page.get_by_label("How many")).to_have_attribute("placeholder", str(fewest))
    expect_shown(page, plan(make_ask("gpt2_medium", gpu="a100-80", count=fewest)))

    page.get_by_label("Per GPU-hour").fill("2.49")
    page.get_by_label("Seen on").fill("2026-11-20")
    expect_shown(page, plan(make_ask("gpt2_medium", gpu="a100-80", count=fewest, price="2.49@2026-11-20")))
    expect_asked(page, recipe="gpt2_medium", gpu="a100-80", hours="24", price="2.49@2026-11-20")


def test_what_is_wrong_is_said_and_mended(opened: Callable[..., Page]) -> None:
    page = opened("?gpu=4091&tokens=nonsense")
    expect(page.locator(".wrong .message.bad")).to_contain_text("'nonsense'")
    page.get_by_label("Tokens", exact=True).fill("1B")
    expect(page.locator(".wrong .message.bad")).to_contain_text("'4090'")
    choose(page, "Hardware", "RTX 4090 24 GB")
    expect(page.locator(".wrong .message")).to_have_count(0)
    expect_shown(page, plan(make_ask("gpt2_small", gpu="4090", tokens=10**9)))
    page.get_by_label("Budget").fill("5")
    expect(page.locator(".wrong .message.bad")).to_be_visible()
    expect(page.locator(".result.outdated")).to_be_visible()
    page.get_by_label("Tokens", exact=True).fill("")
    expect(page.locator(".outdated")).to_have_count(0)


def test_a_run_that_does_not_fit_is_said(opened: Callable[..., Page]) -> None:
    page = opened("?recipe=gpt2_xl&gpu=t4&price=0.4@2026-11-01")
    answer = plan(make_ask("gpt2_xl", gpu="t4", price="0.4@2026-11-01"))
    assert not answer.fits
    expect(figure(page, "Memory").locator(".interval")).to_have_text("does not fit")
    expect(page.locator(".parts .end")).to_be_visible()


def test_the_ladder_by_cost_and_what_is_behind(opened: Callable[..., Page]) -> None:
    page = opened("?gpu=4090")
    answer = plan(make_ask("gpt2_small", gpu="4090"))
    page.get_by_role("radio", name="Cost").click()
    expect(page.locator(".rung.head")).to_contain_text("$10")
    assert answer.usd is not None
    expect(page.locator(".rung.mine .value").first).to_have_text(formatting.dollars(answer.usd.likely))
    rows = page.locator("table", has=page.get_by_text("Change", exact=True)).locator("tbody tr")
    expect(rows).to_have_count(len(questions.changes(answer.ask)))

    summary = page.locator("summary", has_text="Every formula")
    summary.focus()
    page.keyboard.press("Enter")
    shown = page.locator(".formulas dd")
    expect(shown).to_have_count(len(formulas(answer)))
    expect(shown.nth(2)).to_contain_text("854,438,400 FLOP")
    page.get_by_label("Context").fill("512")  # what is open follows the form
    expect(shown.nth(2)).not_to_contain_text("854,438,400 FLOP")

    page.locator("summary", has_text="How right such forecasts are").click()
    found = speed.validate()
    expect(page.locator(".validation tbody tr")).to_have_count(len(found.rows))
    for place, machine in ((".validation", "1 × 4090"), (".left-out", "1 × A100")):
        expect(page.locator(place)).to_contain_text(machine)
        expect(page.locator(place)).not_to_contain_text(re.compile(r"\d x "))
    expect(page.locator(".verdict .v").first).to_contain_text(f"{found.median_error():.0%}")
    expect(page.locator(".verdict .v").last).to_contain_text(f"{found.median_error(other_codes=True):.0%}")
    page.locator("summary", has_text="What a GPT-2 cost").click()
    expect(page.locator(".lecture")).to_contain_text("$40,000")
    expect(page.locator(".lecture")).not_to_contain_text(re.compile(r"\d x "))
    expect(page.locator(".models")).to_contain_text("DeepSeek-V3")


def test_korean_and_dark_on_a_narrow_page(opened: Callable[..., Page]) -> None:
    page = opened("?gpu=4090", locale="ko-KR", color_scheme="dark", viewport={"width": 1000, "height": 900})
    answer = plan(make_ask("gpt2_small", gpu="4090"))
    expect(figure(page, "시간").locator(".v")).to_have_text("".join(formatting.span(answer.hours.likely, "ko")))
    expect(page.locator("body")).to_have_css("background-color", "rgb(19, 18, 17)")
    for summary in page.locator("summary").all():
        summary.click()
    expect(page.locator(".models")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 1000  # nothing sticks out
    shown = page.locator("#content").inner_text()
    english, korean = texts("en"), texts("ko")
    labels = {english[key] for key in english if key.startswith("plan.") and english[key] != korean[key]}
    assert not [label for label in labels if len(label) > 12 and label in shown.splitlines()]
