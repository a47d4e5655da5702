"""Parameters and FLOPs in closed form: against the published figures, and against the module itself."""

import pytest
import torch

from nudge import recipes
from nudge.config import ModelConfig
from nudge.model import sizes
from nudge.model.gpt import GPT

PUBLISHED = {  # parameters, the tied head counted once
    "llm_viz": 85_584,
    "mini_24k": 19_961_856,
    "gpt2_small": 124_439_808,
    "gpt2_medium": 354_823_168,
    "gpt2_large": 774_030_080,
    "gpt2_xl": 1_557_611_200,
}
SHAPES = {  # n_layer, n_head, n_embd, block_size, vocab_size
    "llm_viz": (3, 3, 48, 11, 3),
    "tiny": (4, 4, 256, 64, 4096),
    "mini_24k": (6, 6, 384, 256, 24_000),
    "gpt2_small": (12, 12, 768, 1024, 50_257),
    "gpt2_medium": (24, 16, 1024, 1024, 50_257),
    "gpt2_large": (36, 20, 1280, 1024, 50_257),
    "gpt2_xl": (48, 25, 1600, 1024, 50_257),
    "gpt3": (96, 96, 12_288, 2048, 50_257),
}


@pytest.mark.parametrize("name", SHAPES)
def test_recipes_have_the_published_shapes(name: str) -> None:
    model = recipes.recipe(name).model
    assert (model.n_layer, model.n_head, model.n_embd, model.block_size, model.vocab_size) == SHAPES[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_published(name: str) -> None:
    assert sizes.parameter_counts(recipes.recipe(name).model).total == PUBLISHED[name]


def test_parameters_of_the_rounded_ones() -> None:
    assert sizes.parameter_counts(recipes.recipe("tiny").model).total == 4_224_512
    assert sizes.parameter_counts(recipes.recipe("gpt3").model).total == pytest.approx(175e9, rel=0.005)


@pytest.mark.parametrize(
    "switches", [{}, {"rotary": True}, {"untied": True}, {"rotary": True, "untied": True}], ids=str
)
def test_names_and_shapes_are_those_of_the_module(switches: dict[str, bool]) -> None:
    model = ModelConfig(n_layer=2, n_head=2, n_embd=8, block_size=6, vocab_size=257, **switches)
    expected = [(name, tuple(tensor.shape)) for name, tensor in GPT(model).state_dict().items()]
    assert list(sizes.parameter_shapes(model)) == expected


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_the_closed_form_counts_the_module_itself(name: str) -> None:
    model = recipes.recipe(name).model
    with torch.device("meta"):
        network = GPT(model)
    counts = sizes.parameter_counts(model)
    by_component = dict.fromkeys(("wte", "wpe", "attention", "mlp", "norms", "head"), 0)
    for parameter_name, parameter in network.named_parameters():
        component = next(
            component
            for component, part in (
                ("attention", ".attn."),
                ("mlp", ".mlp."),
                ("norms", "ln_"),
                ("wte", "wte"),
                ("wpe", "wpe"),
                ("head", "head"),
            )
            if part in parameter_name
        )
        by_component[component] += parameter.numel()
    assert by_component == {component: getattr(counts, component) for component in by_component}
    assert counts.total == sum(by_component.values())


def test_flops_per_token_by_hand() -> None:
    model = ModelConfig(n_layer=2, n_head=1, n_embd=10, block_size=7, vocab_size=3)
    assert sizes.matmul_parameters(model) == 2 * 12 * 100 + 30
    assert sizes.training_flops_per_token(model) == 6 * 2430 + 12 * 2 * 7 * 10
    assert sizes.training_flops_per_token(model, n_tokens=1) == 6 * 2430 + 12 * 2 * 1 * 10


def test_a_checkpoint_is_three_numbers_a_parameter() -> None:
    assert sizes.checkpoint_bytes(recipes.recipe("gpt2_small").model) == 3 * 4 * PUBLISHED["gpt2_small"]


def test_micro_batch_divides_the_update_and_fits() -> None:
    def most(sequences: int, most_tokens: int, budget_bytes: int = 10**12, processes: int = 1) -> int | None:
        config = recipes.recipe("tiny", train={"batch_tokens": sequences * 64})
        return sizes.micro_batch(config, budget_bytes=budget_bytes, most_tokens=most_tokens, processes=processes)

    assert most(8, 10**6) == 8
    assert most(8, 5 * 64) == 4
    assert most(7, 5 * 64) == 1
    assert most(8, 10**6, budget_bytes=10**6) is None
    assert most(8, 10**6, processes=2) == 4
