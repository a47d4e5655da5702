"""Published runs: what their authors counted comes out of our formula too, and their figures agree with each other."""

import dataclasses
import re
import types
import typing

import pytest

from nudge import recipes
from nudge.errors import ConfigError
from nudge.model import sizes
from nudge.plan import hardware, lecture, losses, published, speed
from nudge.plan.published import RUNS, PublishedRun

USED = [run for run in RUNS if not run.why_left_out]


def run_named(name: str) -> PublishedRun:
    return next(run for run in RUNS if run.name == name)


def mfu(name: str) -> float:
    run = run_named(name)
    return run.mfu(hardware.device(run.device).peak_flops)


def test_a_step_of_gpt2_small_by_hand():
    run = run_named("GPT-2 small, llm.c, 8 x A100")
    products = 12 * 12 * 768**2 + 50_257 * 768  # blocks and the head: 123,532,032
    per_token = 6 * products + 12 * 12 * 1024 * 768
    assert run.network.flops_per_token == per_token == 854_438_400
    assert run.tokens_per_s == pytest.approx(524_288 / 0.3)
    # 1,747,627 tokens/s x 854 MFLOP = 1.493 PFLOP/s of 8 x 312 TFLOP/s
    assert mfu(run.name) == pytest.approx(0.598, abs=0.0005)


@pytest.mark.parametrize("name", ["tiny", "gpt2_small", "gpt2_xl", "gpt3"])
def test_every_network_is_counted_by_the_formula_of_the_sizes(name: str):
    model = recipes.recipe(name).model
    assert published.network(model).flops_per_token == sizes.training_flops_per_token(model)
    assert published.network(model, context=9).flops_per_token == sizes.training_flops_per_token(model, 9)


@pytest.mark.parametrize(
    ("name", "total"),
    [  # as their papers and model cards say: with the embedding, that no product reads
        ("Llama-2 7B, A100", 6.738e9),
        ("Llama-2 70B, A100", 68.98e9),
        ("Llama-3.1 8B, torchtitan, 8 x H100", 8.03e9),
        ("Llama-3.1 405B, 16,384 x H100", 405.9e9),
        ("DeepSeek-V3, 2,048 x H800, fp8", 37e9),
    ],
)
def test_networks_of_another_shape_have_the_parameters_they_are_named_for(name: str, total: float):
    network = run_named(name).network
    tolerance = 0.015 if "DeepSeek" in name else 0.001
    assert network.matmul_parameters + network.vocab_size * network.n_embd == pytest.approx(total, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("MPT 125M, llm-foundry, 8 x A100", 0.4315),
        ("MPT 350M, llm-foundry, 8 x A100", 0.5051),
        ("MPT 1.3B, llm-foundry, 8 x A100", 0.6015),
        ("MPT 1.3B, llm-foundry, 8 x H100", 0.4195),
        ("MPT 1.3B, llm-foundry, 8 x H100, fp8", 2 * 0.2906),  # they divide by the peak in 8 bits, twice as high
    ],
)
def test_shares_that_were_published_by_nearly_this_formula_come_out(name: str, share: float):
    assert mfu(name) == pytest.approx(share, rel=0.01)


def test_operations_that_nanochat_counted_come_out():
    d24, d20 = run_named("nanochat d24, 8 x H100"), run_named("nanochat d20, 1 x 4090")
    assert d24.tokens * d24.network.flops_per_token == pytest.approx(4.330784e19, rel=1e-3)
    assert d20.tokens_per_s * d20.network.flops_per_token / 989e12 == pytest.approx(0.1344, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "updates", "hours"),
    [
        ("GPT-2 small, llm.c, 8 x A100", 18_865, 94.3 / 60),
        ("GPT-2 small, llm.c, 8 x H100", 19_560, 45 / 60),
        ("GPT-2 medium, llm.c, 8 x A100", 60_000, 13.7),
        ("GPT-2 large, llm.c, 8 x A100", 286_102, 135),
        ("GPT-2 XL, llm.c, 8 x H100", 32_000, 24),
        ("GPT-2 small, modded-nanogpt, Muon, 8 x H100", 6200, 22.3 / 60),
    ],
)
def test_the_step_and_the_whole_run_were_published_alike(name: str, updates: int, hours: float):
    run = run_named(name)
    assert run.unit == "s"
    assert updates * run.figure / 3600 == pytest.approx(hours, rel=0.03)


@pytest.mark.parametrize("run", USED, ids=lambda run: run.name)
def test_a_speed_goes_back_into_the_unit_that_was_published(run: PublishedRun):
    assert run.in_unit(run.tokens_per_s) == pytest.approx(run.figure)
    slower = run.in_unit(run.tokens_per_s / 2) / run.figure
    assert slower == pytest.approx(0.5 if run.unit == "tokens/s/GPU" else 2)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_every_run_says_where_it_is_from_and_can_be_looked_up(run: PublishedRun):
    assert re.search(r"github\.com/\w|et al\. 20\d\d|report|model card|databricks\.com", run.source)
    assert hardware.device(run.device).peak_flops > 0
    assert run.figure > 0
    assert run.count >= 1
    assert bool(run.why_left_out) or run.tokens > 0 or run.unit == "tokens/s/GPU"


def test_figures_that_were_converted_can_be_computed_again():
    small = run_named("GPT-2 small, nanoGPT, 1 x 4090")
    assert small.figure == 0.29 * 312e12 / small.network.flops_per_token
    slowed = {run.peak_share for run in RUNS if run.peak_share != 1}
    assert slowed == {(989.4 + 835) / 2 / 989.4}


FACTS = (*RUNS, *published.QUALITY, *published.LECTURE_COSTS, *published.CORRECTIONS, *lecture.MODELS, *losses.LOSSES)
FACTS = (*FACTS, *hardware.DEVICES.values(), *hardware.PRICES.values(), *speed.CHIPS.values())


def wrong(fact: object) -> list[str]:
    """The fields of a fact whose value is not of their type, and a source that is empty."""
    hints = typing.get_type_hints(type(fact))
    fields = [name for name, hint in hints.items() if not is_a(getattr(fact, name), hint)]
    return [*fields, "source"] if getattr(fact, "source", "none") == "" else fields


def is_a(value: object, hint: typing.Any) -> bool:
    """Whether a value has that type. A whole number is also a float."""
    if isinstance(hint, types.UnionType):
        return any(is_a(value, option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    if hint in (int, float):
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint)


def test_every_fact_has_the_types_of_its_fields_and_a_source():
    assert not [(fact, wrong(fact)) for fact in FACTS if wrong(fact)]


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"source": ""}, ["source"]),
        ({"when": 2019}, ["when"]),
        ({"status": "guessed"}, ["status"]),
        ({"usd": True}, ["usd"]),
        ({"usd": 1}, []),
    ],
)
def test_that_test_finds_what_is_wrong(changed: dict[str, object], fields: list[str]):
    assert wrong(dataclasses.replace(published.LECTURE_COSTS[0], **changed)) == fields


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ({"shape": "gpt2", "n_layers": 2}, TypeError, "'n_layers'"),
        ({"shape": "gpt2", "n_layer": 2}, TypeError, "missing"),
        ({"shape": "gpt5"}, KeyError, "gpt5"),
    ],
)
def test_a_network_that_is_written_wrongly_is_refused(values: dict[str, object], kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        published.named_network("mine", {"mine": values})
    with pytest.raises(ConfigError) as refused:
        published.named_network("gpt2_smal", {"mine": values})
    assert "gpt2_smal" in refused.value.message


def test_names_are_told_apart():
    assert len({run.name for run in RUNS}) == len(RUNS)


@pytest.mark.parametrize("run", USED, ids=lambda run: run.name)
def test_no_run_beats_its_machine(run: PublishedRun):
    assert 0.2 < run.mfu(hardware.device(run.device).peak_flops * run.peak_share) < 0.85


def test_what_cannot_be_used_says_why():
    left_out = {run.name: run.why_left_out for run in RUNS if run.why_left_out}
    assert "never published" in left_out["GPT-2 XL, OpenAI 2019, 32 x TPU v3"]
    assert "no formula" in left_out["Llama-3.1 8B, H100"]
    assert f"{mfu('Llama-3.1 8B, H100'):.0%}" in left_out["Llama-3.1 8B, H100"]


def test_quality_grows_with_the_checkpoint():
    assert [quality.recipe for quality in published.QUALITY] == ["gpt2_small", "gpt2_medium", "gpt2_large", "gpt2_xl"]
    for smaller, larger in zip(published.QUALITY, published.QUALITY[1:], strict=False):
        assert smaller.hellaswag < larger.hellaswag
        assert smaller.lambada < larger.lambada
        assert smaller.lambada_perplexity > larger.lambada_perplexity
        assert smaller.wikitext2_perplexity > larger.wikitext2_perplexity
        assert smaller.openwebtext_loss > larger.openwebtext_loss


def test_a_hope_is_no_result():
    assert {cost.when: cost.status for cost in published.LECTURE_COSTS} == {
        "2019": "estimated",
        "2024": "measured",
        "hoped": "hoped",
    }


def test_corrections_are_right():
    right = {correction.said: correction.right for correction in published.CORRECTIONS}
    costs = {cost.when: cost.usd for cost in published.LECTURE_COSTS}
    assert f"{32_000 * 7 / 3600:.0f} hours" in right["GPT-2 XL takes one day: 32,000 updates of 7 s"]
    assert f"{24 * 3600 / 32_000:.1f} s per update" in right["GPT-2 XL takes one day: 32,000 updates of 7 s"]
    cheaper = right["training became 400 times cheaper, from $40,000"]
    assert f"{costs['2019'] / costs['2024']:.0f}x" in cheaper
    assert costs["2019"] / costs["hoped"] == 400
    nanochat = next(run for run in published.RUNS if run.name == "nanochat d24, 8 x H100")
    assert f"for ${nanochat.usd}," in cheaper
    assert f"${8 * 24 * 3}" in right["$600 for a day on 8 x H100"]
    assert f"{420 / 32_000:.1%}" in right["update 420 of 32,000, as how far the run is"]
    parameters = [sizes.parameter_counts(recipes.recipe(name).model).total for name in ("gpt2_xl", "gpt2_small")]
    assert "{:,} and {:,}".format(*parameters) == right["GPT-2 has 1.6B parameters, GPT-2 small 120 million"]
    assert all(correction.source for correction in published.CORRECTIONS)
