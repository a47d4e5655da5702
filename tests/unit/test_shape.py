"""Networks that nudge plans but does not train, compared with published numbers."""

from dataclasses import fields

import pytest

from nudge import config as configs
from nudge.config import Config, ModelConfig
from nudge.errors import ConfigError
from nudge.model import sizes
from nudge.model.shape import Shape, as_trained, shape_of
from nudge.other_names import PLANNED_ONLY
from nudge.plan.explain import formulas
from nudge.plan.planner import make_ask, plan
from nudge.recipes import RECIPES, recipe

LLAMA = {"swiglu": True, "bias": False, "rotary": True, "untied": True}
LLAMA_3_8B = Shape(
    n_layer=32, n_head=32, n_kv_head=8, n_embd=4096, ffn=14_336, vocab_size=128_256, block_size=8192, **LLAMA
)
# The numbers of parameters that transformers counts in the published checkpoints.
PUBLISHED = [
    (LLAMA_3_8B, 8_030_261_248),
    (Shape(n_layer=32, n_head=32, n_embd=4096, ffn=11_008, vocab_size=32_000, **LLAMA), 6_738_415_616),  # Llama 2 7B
    (
        Shape(n_layer=80, n_head=64, n_kv_head=8, n_embd=8192, ffn=28_672, vocab_size=128_256, **LLAMA),
        70_553_706_496,  # Llama 3 70B
    ),
    (
        Shape(n_layer=32, n_head=32, n_kv_head=8, n_embd=4096, ffn=14_336, vocab_size=32_000, **LLAMA),
        7_241_732_096,  # Mistral 7B
    ),
]


@pytest.mark.parametrize(("shape", "n_params"), PUBLISHED)
def test_parameters_are_those_of_published_networks(shape: Shape, n_params: int):
    assert sizes.parameter_counts(shape).total == n_params


@pytest.mark.parametrize("name", RECIPES)
def test_a_gpt2_counts_as_before_and_as_its_shapes_say(name: str):
    model = recipe(name).model
    shape = shape_of(model)
    listed = list(sizes.parameter_shapes(model))
    matrices = sum(shape[0] * shape[1] for name, shape in listed if name.startswith("blocks.0.") and len(shape) == 2)
    assert sizes.parameter_counts(shape) == sizes.parameter_counts(model)
    assert sizes.block_matrices(model) == matrices == 12 * model.n_embd**2
    assert as_trained(shape) == model
    assert shape.departures == model.departures


def test_grouped_queries_shrink_the_cache():
    assert sizes.cache_bytes(LLAMA_3_8B) == 8192 * 128 * 1024  # 128 KiB a token
    assert sizes.cache_bytes(ModelConfig(n_layer=12, n_head=12, n_embd=768, block_size=1024)) == 1024 * 36 * 1024


def test_work_counts_the_matrices_and_all_heads():
    assert sizes.matmul_parameters(LLAMA_3_8B) == 8_030_261_248 - 128_256 * 4096 - 65 * 4096
    products, attention = 6 * sizes.matmul_parameters(LLAMA_3_8B), 12 * 32 * 8192 * 4096
    assert sizes.training_flops_per_token(LLAMA_3_8B) == products + attention


def test_these_settings_are_planned_and_not_trained():
    added = {field.name for field in fields(Shape)} - {field.name for field in fields(ModelConfig)}
    assert {f"model.{name}" for name in added} == set(PLANNED_ONLY)
    for key in PLANNED_ONLY:
        with pytest.raises(ConfigError) as refused:
            configs.override(Config(), configs.parse_settings([f"{key}=8"]))
        assert refused.value.code == "config.planned_only"


def test_settings_of_a_gpt2_leave_a_gpt2():
    same = {"n_kv_head": 12, "ffn": 3072, "swiglu": False, "bias": True}
    assert make_ask("gpt2_small", settings={"model": same}) == make_ask("gpt2_small")


@pytest.mark.parametrize("model", [{"n_kv_head": 5}, {"ffn": 0}, {"n_kv_head": -1}])
def test_impossible_shapes_are_refused(model: dict[str, int]):
    with pytest.raises(ConfigError) as refused:
        make_ask("gpt2_small", settings={"model": model})
    assert refused.value.code in ("config.groups_do_not_divide", "config.out_of_range")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("swiglu", [True, False])
def test_the_formulas_of_a_shape_give_its_numbers(bias: bool, swiglu: bool):
    settings = {"model": {"n_kv_head": 4, "ffn": 2000, "swiglu": swiglu, "bias": bias}}
    found = plan(make_ask("gpt2_small", settings=settings))
    explained = {formula.name: formula for formula in formulas(found)}
    for name in ("parameters", "in products", "per token"):
        expression = explained[name].expression.replace(",", "").replace("^", "**")
        assert eval(expression, {"__builtins__": {}}) == explained[name].value


@pytest.mark.parametrize(("text", "n_params"), [("125M", 125e6), ("350M", 350e6), ("8.0B", 8e9), ("1T", 1e12)])
@pytest.mark.parametrize("model", [{}, {"swiglu": True, "n_kv_head": 4}])
def test_a_number_of_parameters_alone_is_enough(text: str, n_params: float, model: dict[str, int]):
    ask = make_ask("gpt2_small", params=text, settings={"model": model})
    total = sizes.parameter_counts(ask.model).total
    assert total == pytest.approx(n_params, rel=0.1 if n_params < 1e9 else 0.01)
    assert ask.model.n_embd == 64 * ask.model.n_head
    assert 64 <= ask.model.n_embd / ask.model.n_layer <= 128
    assert ask.tokens == 20 * total


@pytest.mark.parametrize(
    ("params", "settings", "code"),
    [
        ("1000", {}, "config.no_such_size"),
        ("-5", {}, "config.no_such_size"),
        ("1e30", {}, "config.no_such_size"),
        ("many", {}, "config.no_count"),
        ("8B", {"model": {"n_layer": 3}}, "config.exclusive_options"),
    ],
)
def test_an_impossible_number_of_parameters_is_refused(params: str, settings: dict[str, dict[str, int]], code: str):
    with pytest.raises(ConfigError) as refused:
        make_ask("gpt2_small", params=params, settings=settings)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("model", "title"),
    [
        ({}, "gpt2_small"),
        ({"n_layer": 24}, "gpt2_small with n_layer=24"),
        ({"n_layer": 24, "n_head": 16, "n_embd": 1024}, "gpt2_medium"),
        ({"n_kv_head": 4, "swiglu": True}, "gpt2_small with n_kv_head=4, swiglu=true"),
    ],
)
def test_the_title_says_which_sizes_were_changed(model: dict[str, int], title: str):
    assert make_ask("gpt2_small", settings={"model": model}).title == title
