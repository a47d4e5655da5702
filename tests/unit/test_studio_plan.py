"""What the Plan page's form means to the planner, and that its words cover all that the planner says."""

import subprocess
import sys

import pytest

from nudge.errors import ConfigError
from nudge.plan import published, questions
from nudge.plan.explain import formulas
from nudge.plan.planner import Ask, make_ask, plan
from nudge.studio.pages.plan_question import FIELDS, asked, opening
from nudge.studio.words import Words, texts


def ask(**written: str) -> Ask:
    return asked(opening(written))


def test_an_empty_address_asks_about_the_lectures_machine() -> None:
    assert ask() == make_ask("gpt2_small", gpu="h100", count=8)
    assert ask(gpu="4090") == make_ask("gpt2_small", gpu="4090")
    assert ask(recipe="tiny", run="x", nonsense="1") == make_ask("tiny", gpu="h100", count=8)  # type: ignore[comparison-overlap]


def test_every_field_reaches_the_planner() -> None:
    written = {
        "recipe": "gpt2_medium", "tokens": "10B", "gpu": "a100-40", "count": "16", "price": "1.5@2026-11-01",
        "dtype": "float32", "micro_batch": "2", "context": "512", "layout": "shard", "recompute": "yes",
    }  # fmt: skip
    assert set(written) | {"budget", "hours"} == set(FIELDS)
    assert ask(**written) == make_ask(
        "gpt2_medium",
        settings={"model": {"block_size": 512}},
        tokens=10**10,
        gpu="a100-40",
        count=16,
        price="1.5@2026-11-01",
        dtype="float32",
        micro_batch=2,
        layout="shard",
        recompute=True,
    )
    assert ask(recompute="no").recompute is False
    assert ask(tokens="chinchilla").tokens == 20 * 124_439_808


def test_a_budget_and_a_time_leave_something_open() -> None:
    eight = make_ask("gpt2_small", gpu="h100", count=8)
    assert ask(budget="100").tokens == questions.tokens_for(eight, usd=100)
    assert ask(hours="2", gpu="h100", count="8").tokens == questions.tokens_for(eight, hours=2)
    assert ask(hours="2").count == questions.count_for(make_ask("gpt2_small", gpu="h100"), 2)
    assert ask(hours="2", tokens="20B").count == questions.count_for(make_ask("gpt2_small", tokens=20 * 10**9), 2)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"tokens": "lots"}, "tokens 'lots' is not a count"),
        ({"tokens": "1e99"}, "tokens must be at most 1e.18"),
        ({"tokens": "-5"}, "at least 1, got -5"),
        ({"tokens": "0"}, "at least 1"),
        ({"count": "nan"}, "count 'nan' is not a count"),
        ({"budget": "inf"}, "budget 'inf' is not a number"),
        ({"budget": "0"}, "above 0"),
        ({"hours": "-1"}, "above 0"),
        ({"budget": "1", "hours": "1"}, "both given"),
        ({"budget": "1", "tokens": "1M"}, "both say how far"),
        ({"hours": "1", "count": "8", "tokens": "1M"}, "both say how far"),
        ({"dtype": "int3"}, "unknown dtype"),
        ({"layout": "auto!"}, "unknown layout"),
        ({"recompute": "maybe"}, "must be true or false"),
        ({"budget": "1e300"}, "tokens must be at most"),
        ({"gpu": "h1000"}, "unknown GPU"),
        ({"recipe": "../../x"}, "unknown recipe"),
        ({"price": "3"}, "no date"),
        ({"context": "1000"}, "not a multiple"),
        ({"context": "0"}, "at least 1"),
    ],
)
def test_what_cannot_be_is_refused(written: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(ask(**written))


def test_the_words_cover_what_the_planner_says() -> None:
    english = Words("en")
    for written in ({}, {"count": "64", "layout": "shard"}, {"recipe": "modern", "gpu": "4090"}):
        for formula in formulas(plan(ask(**written))):
            assert english.has(f"plan.formula.{formula.name}")
        for change in questions.changes(ask(**written)):
            assert english.has(f"plan.to.{change.name}")
    for part in plan(ask()).layout.parts:
        assert english.has(f"plan.memory_of.{part}")
    said = [key for key in texts("en") if key.startswith("plan.said.")]
    assert len(said) == len(published.CORRECTIONS)
    for n, correction in enumerate(published.CORRECTIONS):
        for key, original in (("said", correction.said), ("right", correction.right)):
            assert (
                english(f"plan.{key}.{n}").lower()
                == original.replace(" x ", " × ")
                .replace("67x", "67×")
                .replace("400x", "400×")
                .replace("->", "→")
                .lower()
            )


def test_the_parts_on_the_page_are_all_of_the_memory() -> None:
    from nudge.studio.pages.plan_memory import COLORS

    for written in ({}, {"recipe": "tiny", "gpu": "4090"}, {"count": "16", "layout": "shard"}):
        layout = plan(ask(**written)).layout
        assert set(COLORS) == set(layout.parts)
        assert sum(layout.parts.values()) == layout.needed_bytes


def test_the_question_needs_no_torch() -> None:
    code = "import sys, nudge.studio.pages.plan_question; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
