"""The texts and pictures of the Inside page, without a browser."""

import asyncio
import math

import pytest
import torch

from nudge.config import ModelConfig
from nudge.look import Arithmetic, explain, shrink, trace
from nudge.look.stages import ROLES
from nudge.model.gpt import GPT, init_weights
from nudge.studio.pages.inside_arithmetic import with_numbers, written
from nudge.studio.pages.inside_cells import drawn
from nudge.studio.pages.inside_head import SIDE, square_of
from nudge.studio.pages.inside_lens import colors
from nudge.studio.pages.inside_pipeline import AFTER_BLOCKS, before_blocks, of_block
from nudge.studio.pages.inside_view import InsideView, distinguish
from nudge.studio.words import texts
from nudge.studio.worker import SupersededError


def network(*, rotary: bool = False) -> GPT:
    config = ModelConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8, rotary=rotary)
    model = GPT(config)
    init_weights(model, 0)
    return model.eval()


@pytest.mark.parametrize("rotary", [False, True])
def test_the_pipeline_leads_to_every_stage_once(rotary: bool) -> None:
    opened = trace(network(rotary=rotary), [1, 2, 3])
    lines = [*before_blocks(rotary=rotary), *of_block(0), *of_block(1), *AFTER_BLOCKS]
    named = [stage for line in lines for stage in line.stages]
    assert sorted(named) == sorted(stage.name for stage in opened.stages)


def test_roles_are_the_librarys() -> None:
    english = texts("en")
    assert {kind: english[f"inside.role.{kind}"] for kind in ROLES} == ROLES


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("embedding", (2, 1)),
        ("blocks.0.ln_1", (2, 3)),
        ("blocks.1.attn.pattern", (1, 2, 0)),
        ("blocks.0.mlp.post", (1, 5)),
        ("blocks.1.out", (0, 7)),
        ("ln_f", (1, 1)),
        ("probabilities", (2, 10)),
    ],
)
def test_the_formula_with_its_numbers_gives_the_value(name: str, index: tuple[int, ...]) -> None:
    made = explain(trace(network(), [1, 2, 3]), name, index)
    formula = with_numbers(made)
    for sign, python in (("×", "*"), ("−", "-"), ("√", "sqrt"), ("^", "**"), ("³", "**3"), ("π", "pi")):
        formula = formula.replace(sign, python)
    value = eval(formula, {"sqrt": math.sqrt, "tanh": math.tanh, "pi": math.pi, "e": math.e})
    assert value == pytest.approx(made.value, rel=0.01, abs=1e-4)


def test_a_long_sum_is_listed_and_not_written_out() -> None:
    made: Arithmetic = explain(trace(network(), [1, 2, 3]), "blocks.0.mlp.out", (0, 0))
    assert with_numbers(made) == ""
    assert written(made.formula) == "Σ_c x[c] × w[c] + bias"
    assert written("sum over k of query[k] * key[k] / sqrt(K)") == "Σ_k query[k] × key[k] / √(K)"


def test_only_repeated_labels_get_their_position() -> None:
    assert distinguish(["the", "dog", "the"]) == ["the₀", "dog", "the₂"]


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0])
def test_letters_can_be_read_on_every_probability(probability: float) -> None:
    """A contrast of 4.5 to 1. Source: WCAG 2.2, success criterion 1.4.3."""
    background, letters = colors(probability)
    below = [int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(",")]
    above = {"#fff": [255, 255, 255], "#000": [0, 0, 0]}[letters]
    lower, higher = sorted((luminance(below), luminance(above)))
    assert (higher + 0.05) / (lower + 0.05) >= 4.5


def luminance(colour: list[int]) -> float:
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_part_that_is_superseded_leaves_the_others_alone() -> None:
    page = InsideView.__new__(InsideView)  # without a browser
    page._trace = trace(network(), [1, 2])
    shown = []

    async def superseded() -> None:
        raise SupersededError

    async def part() -> None:
        shown.append(page.trace)

    async def another_text() -> None:
        page._trace = trace(network(), [3, 4])

    asyncio.run(page.show_in_turn(superseded, part))
    assert shown == [page.trace]
    with pytest.raises(SupersededError):
        asyncio.run(page.show_in_turn(another_text, part))
    assert len(shown) == 1


@pytest.mark.parametrize("n", [7, 280, 281, 500, 1024])
def test_a_point_of_the_map_is_the_square_that_is_drawn_there(n: int) -> None:
    square, side = square_of(n), len(shrink(torch.zeros(n, n), SIDE))
    assert drawn(n, square) == side * square
    for pixel in range(side):
        first = int((pixel + 0.01) / side * drawn(n, square))
        assert first // square == pixel
        assert first < n
