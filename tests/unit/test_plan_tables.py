"""The rows of a plan's tables: what the terminal and the studio draw comes from the planner."""

import subprocess
import sys

import pytest

from nudge.plan.explain import Formula
from nudge.plan.lecture import MODELS
from nudge.plan.planner import make_ask, plan
from nudge.plan.questions import ladder
from nudge.plan.speed import validate
from nudge.plan.tables import NONE, cells, forecast, models, rungs
from nudge.util import formatting

NODE = {"gpu": "h100", "count": 8}


def test_the_cells_of_a_plan() -> None:
    found = plan(make_ask("gpt2_small", **NODE))  # type: ignore[arg-type]
    assert found.usd is not None
    shown = cells(found)
    assert shown.time == formatting.about(found.hours.likely)
    assert shown.time_interval == f"{formatting.about(found.hours.low)} – {formatting.about(found.hours.high)}"
    assert shown.cost == f"${found.usd.likely:.2f}"
    assert shown.cost_interval == f"${found.usd.low:.2f} – ${found.usd.high:.2f}"
    assert shown.memory == formatting.size(found.layout.needed_bytes)
    assert cells(found, "ko").time == formatting.about(found.hours.likely, "ko")


def test_without_a_price_there_is_no_cost() -> None:
    shown = cells(plan(make_ask("gpt2_small", gpu="t4")))
    assert shown.cost == shown.cost_interval == NONE


def test_the_ladder_marks_what_was_asked_and_another_number_type() -> None:
    ask = make_ask("gpt2_small", **NODE)  # type: ignore[arg-type]
    rows = rungs(plan(ask))
    assert [row.plan for row in rows] == ladder(ask)
    (mine,) = (row for row in rows if row.is_asked)
    assert (mine.machine, mine.price, mine.rent) == ("8 x H100 80 GB", "$3.00", "$24.00")
    (other,) = (row for row in rows if row.plan.ask.device.name == "t4")
    assert (other.machine, other.other_dtype, other.price, other.rent) == ("1 x T4 16 GB *", "float32", NONE, NONE)


def test_a_published_run_beside_its_forecast() -> None:
    first = validate().rows[0]
    name, unit, published, predicted, error, strangers, strangers_error = forecast(first)
    assert (name, unit, published) == ("GPT-2 small, llm.c, 8 x A100", "s", "0.3")
    assert float(predicted) == pytest.approx(first.predicted, rel=5e-3)
    assert float(strangers) == pytest.approx(first.predicted_by_other_codes, rel=5e-3)
    assert error == f"{first.predicted / 0.3 - 1:+.0%}".replace("-", formatting.MINUS)
    assert strangers_error == f"{first.predicted_by_other_codes / 0.3 - 1:+.0%}".replace("-", formatting.MINUS)


def test_models_are_compared_with_gpt2() -> None:
    rows = models(formatting.compact)
    assert [model for model, _ in rows] == list(MODELS)
    assert [times for _, times in rows[0][1]] == [""] * 5
    assert rows[1][1][0] == ("175B", "112")
    assert rows[1][1][1] == ("2,048", "2")
    assert rows[1][1][3] == ("1.72", "")


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (854_438_400, "FLOP", "854,438,400 FLOP"),
        (8.762e18, "FLOP", "8.76 × 10¹⁸ FLOP"),
        (745.21, "$", "$745"),
        (0.17912, "s", "0.1791 s"),
        (64.9, "GB", "64.9 GB"),
        (12_345, "", "12,345"),
    ],
)
def test_the_value_of_a_formula(value: float, unit: str, shown: str) -> None:
    assert Formula(name="one", expression="1", value=value, unit=unit, source="counted").shown == shown


def test_no_face_is_imported() -> None:
    code = "import sys, nudge.plan.tables; sys.exit(bool({'torch', 'rich', 'nicegui'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
