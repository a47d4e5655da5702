"""The Plan page's form as a question to the planner, and words for everything that the planner names."""

import re
import subprocess
import sys

import pytest

from nudge.errors import ConfigError
from nudge.plan import published, questions
from nudge.plan.explain import formulas
from nudge.plan.planner import Ask, make_ask, plan
from nudge.studio.pages.plan_question import FIELDS, opening, to_ask
from nudge.studio.words import Words, texts


def ask(**written: str) -> Ask:
    return to_ask(opening(written))


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
    ("written", "value"),
    [
        ({"tokens": "lots"}, "'lots'"),
        ({"tokens": "1e99"}, "tokens"),
        ({"tokens": "-5"}, "-5"),
        ({"tokens": "0"}, "0"),
        ({"count": "nan"}, "'nan'"),
        ({"budget": "0"}, "0"),
        ({"hours": "-1"}, "0"),
        ({"budget": "1", "hours": "1"}, "budget"),
        ({"budget": "1", "tokens": "1M"}, "tokens"),
        ({"hours": "1", "count": "8", "tokens": "1M"}, "tokens"),
        ({"dtype": "int3"}, "int3"),
        ({"layout": "auto!"}, "auto!"),
        ({"recompute": "maybe"}, "maybe"),
        ({"budget": "1e300"}, "tokens"),
        ({"gpu": "h1000"}, "h1000"),
        ({"recipe": "../../x"}, "../../x"),
        ({"price": "3"}, "3"),
        ({"context": "1000"}, "1000"),
        ({"context": "0"}, "0"),
    ],
)
def test_what_cannot_be_is_refused(written: dict[str, str], value: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(value)):
        plan(ask(**written))


@pytest.mark.parametrize("text", ["inf", "nan", "many"])
def test_a_budget_is_a_number(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        ask(budget=text)
    assert error.value.code == "config.not_a_number"
    assert error.value.values == {"name": "budget", "text": text}


def test_the_words_cover_what_the_planner_says() -> None:
    english = Words("en")
    for written in ({}, {"count": "64", "layout": "shard"}, {"recipe": "modern", "gpu": "4090"}):
        for formula in formulas(plan(ask(**written))):
            assert english.has(f"plan.formula.{formula.name}")
        for change in questions.changes(ask(**written)):
            assert english.has(f"plan.to.{change.name}")
    for part in plan(ask()).layout.parts:
        assert english.has(f"plan.memory_of.{part}")
    claims = [key for key in texts("en") if key.startswith("plan.said.")]
    assert len(claims) == len(published.CORRECTIONS)
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
