"""Figures of the planner that a page repeats are what the planner computes."""

import re
from pathlib import Path

import pytest

from nudge.plan import speed
from nudge.plan.planner import make_ask, plan

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("README*.md"), ROOT / "docs" / "plan.md"]


def found(pattern: str) -> set[tuple[str, ...]]:
    """What the groups of a pattern match, on any page; a line that is broken counts as one."""
    texts = [re.sub(r"\s+", " ", page.read_text(encoding="utf-8")) for page in PAGES]
    return {match.groups() for text in texts for match in re.finditer(pattern, text)}


@pytest.mark.parametrize("pattern", [r"each of (\d+) published runs", r"공개된 학습 (\d+)건"])
def test_the_number_of_published_runs(pattern: str):
    assert found(pattern) == {(str(len(speed.validate().rows)),)}


@pytest.mark.parametrize(
    "pattern",
    [
        r"median error is (\d+)%; when no run of the same code is known, (\d+)%",
        r"중앙값은 (\d+)%, 같은 코드베이스의 기록이 없을 때는 (\d+)%",
    ],
)
def test_the_median_errors(pattern: str):
    validation = speed.validate()
    errors = (validation.median_error(), validation.median_error(other_codes=True))
    assert found(pattern) == {tuple(f"{100 * error:.0f}" for error in errors)}


@pytest.mark.parametrize(
    "pattern", [r"(\d+) to (\d+) minutes and \$(\d+) to \$(\d+)", r"(\d+)~(\d+)분, 비용은 (\d+)~(\d+)달러"]
)
def test_the_forecast_for_gpt2_small(pattern: str):
    forecast = plan(make_ask("gpt2_small", gpu="h100", count=8))
    assert forecast.usd is not None
    ends = (60 * forecast.hours.low, 60 * forecast.hours.high, forecast.usd.low, forecast.usd.high)
    assert found(pattern) == {tuple(f"{end:.0f}" for end in ends)}
