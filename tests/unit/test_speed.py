"""How fast training goes: the roof by hand, held-out runs that do not leak, the thresholds, and honest words."""

import math
from dataclasses import replace

import pytest

from nudge.config import ModelConfig
from nudge.errors import ConfigError
from nudge.plan import hardware
from nudge.plan.hardware import device
from nudge.plan.published import RUNS, network
from nudge.plan.speed import (
    CHIPS,
    LEAST_WITHIN,
    MOST_MEDIAN_ERROR,
    Speed,
    roof,
    speed,
    traffic_bytes,
    validate,
)
from nudge.recipes import recipe

USED = [run for run in RUNS if not run.why_left_out]


def of(name: str, device_name: str, count: int = 1) -> Speed:
    return speed(recipe(name).model, device(device_name), count)


def width(found: Speed) -> float:
    return math.log(found.mfu / found.low)


def test_the_roof_by_hand():
    token = network(ModelConfig(n_layer=2, n_head=1, n_embd=10, block_size=7, vocab_size=3))
    assert traffic_bytes(token) == 3 * (34 * 2 * 10 + 4 * 3)
    # GPT-2 small on an A100: 854 MFLOP / 312 TFLOP/s = 2.74 us, 1.54 MB / 2,039 GB/s = 0.76 us
    small = network(recipe("gpt2_small").model)
    assert roof(small, device("a100-80")) == pytest.approx(2.739 / (2.739 + 0.757), rel=1e-3)


# The goal. A model of these runs that gets worse, or a wrong figure in one of them, ends here.
def test_held_out_runs_are_predicted_well():
    validation = validate()
    assert len(validation.rows) == len(USED) >= 25
    assert validation.holds
    assert validation.median_error() <= MOST_MEDIAN_ERROR
    assert validation.share_within() >= LEAST_WITHIN


def test_codes_never_seen_are_predicted_worse_and_it_is_said():
    validation = validate()
    assert validation.median_error() < validation.median_error(other_codes=True) <= 0.30
    assert validation.share_within(other_codes=True) >= 0.70


@pytest.mark.parametrize("run", USED, ids=lambda run: run.name)
def test_a_runs_own_figure_does_not_reach_its_prediction(run):
    changed = tuple(replace(other, figure=3 * other.figure) if other is run else other for other in RUNS)
    before = {row.run.name: row for row in validate().rows}
    after = {row.run.name: row for row in validate(changed).rows}
    assert after[run.name].predicted == before[run.name].predicted
    others = [name for name in before if name != run.name]
    assert any(after[name].predicted != before[name].predicted for name in others)  # it did calibrate them


@pytest.mark.parametrize("code", sorted({run.code for run in USED}))
def test_a_familys_figures_do_not_reach_its_predictions_by_strangers(code: str):
    changed = tuple(replace(run, figure=2 * run.figure) if run.code == code else run for run in RUNS)
    before = [row.predicted_by_other_codes for row in validate().rows if row.run.code == code]
    after = [row.predicted_by_other_codes for row in validate(changed).rows if row.run.code == code]
    assert after == before


def test_runs_that_follow_the_law_are_predicted_exactly():
    def ideal(run):
        on = device(run.device)
        on = replace(on, peak_flops=on.peak_flops * run.peak_share)
        mfu = 0.5 * roof(run.network, on)
        return replace(run, figure=run.in_unit(mfu * on.peak_flops * run.count / run.network.flops_per_token))

    rows = validate([ideal(run) for run in USED]).rows
    assert max(abs(row.error) for row in rows) < 1e-9


def test_runs_left_out_do_not_count():
    assert [run.name for run in validate().left_out] == [run.name for run in RUNS if run.why_left_out]
    without = validate(USED)
    assert without.left_out == ()
    assert without.errors() == validate().errors()


def test_the_interval_holds_four_fifths_of_the_runs():
    spread = width(of("gpt2_small", "h100", 8))
    missed = [abs(math.log(1 + row.error_by_other_codes)) for row in validate().rows]
    assert sum(error <= spread + 1e-12 for error in missed) / len(missed) == pytest.approx(0.8, abs=1 / len(missed))


def test_larger_networks_reach_more_and_newer_gpus_a_smaller_share():
    shares = [of(name, "h100", 8).mfu for name in ("tiny", "mini_24k", "gpt2_small", "gpt2_medium", "gpt2_xl")]
    assert shares == sorted(shares)
    assert of("gpt2_small", "h100").mfu < of("gpt2_small", "a100-80").mfu
    assert of("gpt2_small", "a100-40").mfu < of("gpt2_small", "a100-80").mfu  # slower memory
    assert of("gpt2_xl", "h100", 1024).mfu < of("gpt2_xl", "h100", 8).mfu


@pytest.mark.parametrize(
    ("name", "cousin"), [("h200", "H100"), ("b200", "H100"), ("l4", "4090"), ("t4", "average"), ("tpu-v3", "average")]
)
def test_a_gpu_without_runs_says_whose_it_borrows_and_is_less_sure(name: str, cousin: str):
    found = of("gpt2_small", name)
    assert cousin in found.source.split("carried over")[1]
    assert width(found) == pytest.approx(1.5 * width(of("gpt2_small", "h100")))


def test_a_network_smaller_than_any_published_is_an_extrapolation():
    assert "extrapolation" not in of("gpt2_small", "h100").source
    assert "extrapolation" in of("tiny", "h100").source
    assert width(of("llm_viz", "h100")) > width(of("tiny", "h100")) > width(of("gpt2_small", "h100"))
    assert of("tiny", "h100").mfu < 0.6 * of("gpt2_small", "h100").mfu


def test_gpus_with_runs_carry_nothing_over():
    for run in USED:
        assert not CHIPS[run.device].carried_over
    assert set(CHIPS) == set(hardware.DEVICES)


def test_a_share_stays_a_share():
    for name in hardware.DEVICES:
        found = of("gpt3", name, 8)
        assert 0 < found.low < found.mfu < found.high <= 1


def test_a_code_with_runs_speaks_for_itself():
    model, a100 = recipe("gpt2_small").model, device("a100-80")
    fast = speed(model, a100, 8, kind="handwritten", code="llm.c")
    slow = speed(model, a100, 8, code="nanoGPT")
    assert slow.mfu < speed(model, a100, 8).mfu < fast.mfu
    assert fast.mfu == pytest.approx(0.598, rel=0.1)


def test_what_is_asked_wrongly_is_refused():
    model = recipe("gpt2_small").model
    with pytest.raises(ConfigError) as error:
        speed(model, replace(device("h100"), name="cpu"))
    assert (error.value.code, error.value.values["device"]) == ("config.no_published_speed", "cpu")
    with pytest.raises(ConfigError) as error:
        speed(model, device("h100"), 0)
    assert (error.value.code, error.value.values["got"]) == ("config.below_minimum", 0)
    with pytest.raises(ConfigError) as error:
        speed(model, device("h100"), kind="compield")  # type: ignore[arg-type]
    assert error.value.code == "config.unknown_choice"
    assert "compiled" in error.value.hint
