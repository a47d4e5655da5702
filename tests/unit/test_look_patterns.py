"""Patterns of attention in words."""

import math

import pytest
import torch
from tests.refusals import refused
from torch import Tensor

from nudge.config import ModelConfig
from nudge.look import explain_fold, fold, fold_rows, habit, shrink, trace
from nudge.model.gpt import GPT, init_weights


def causal(weights: Tensor) -> Tensor:
    weights = weights.tril()
    return weights / weights.sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        ("itself", torch.eye(6) * 9 + 1),
        ("previous", torch.eye(6).roll(-1, 1) * 9 + 1),
        ("first", torch.nn.functional.one_hot(torch.zeros(6, dtype=torch.long), 6) * 9.0 + 1),
        ("spread", torch.ones(6, 6)),
    ],
)
def test_habit_names_what_a_head_does(kind: str, weights: Tensor) -> None:
    found = habit(causal(weights))
    assert found is not None
    assert found.kind == kind
    assert 0.5 <= found.share <= 1 + 1e-6


def test_a_head_between_habits_is_mixed() -> None:
    third = torch.eye(40) + torch.eye(40).roll(-1, 1)
    third[:, 0] += 1
    found = habit(causal(third))
    assert found is not None
    assert found.kind == "mixed"
    assert math.isclose(found.share, 1 / 3, abs_tol=0.02)


def test_two_rows_tell_nothing() -> None:
    assert habit(causal(torch.ones(2, 2))) is None


def test_fold_sums_columns_and_averages_rows() -> None:
    pattern = causal(torch.arange(1.0, 26).view(5, 5))
    folded = fold(pattern, (1, 2, 2))
    assert folded.shape == (3, 3)
    torch.testing.assert_close(folded[2, 1], pattern[3:5, 1:3].sum(1).mean())
    torch.testing.assert_close(folded.sum(1), torch.ones(3))
    torch.testing.assert_close(fold_rows(pattern, (1, 2, 2))[1], pattern[1:3].mean(0))
    with refused("config.word_sizes", got=4, expected=5):
        fold(pattern, (2, 2))


def test_shrink_keeps_the_largest_of_a_square() -> None:
    pattern = causal(torch.rand(5, 5))
    small = shrink(pattern, 3)
    assert small.shape == (3, 3)
    assert small[1, 0] == pattern[2:4, 0:2].max()
    with refused("config.below_minimum", name="size", least=1, got=0):
        shrink(pattern, 0)


def test_explain_fold_adds_up_to_the_folded_cell() -> None:
    config = ModelConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8)
    network = GPT(config)
    init_weights(network, 0)
    opened = trace(network.eval(), [1, 2, 3, 4, 5, 6])
    sizes = (1, 3, 2)
    made = explain_fold(opened, 1, 0, sizes, (2, 1), n_terms=2)
    assert math.isclose(made.value, fold(opened.pattern(1, 0), sizes)[2, 1].item(), rel_tol=1e-5)
    assert math.isclose(made.recomputed, made.value, rel_tol=1e-5)
    assert {term.index for term in made.terms} < {1, 2, 3}
    assert made.n_terms == 3
    with refused("config.no_such_number", name="word", got=3, last=2):
        explain_fold(opened, 1, 0, sizes, (2, 3))


def test_extremes_are_of_the_whole_stage() -> None:
    config = ModelConfig(vocab_size=11, block_size=128, n_layer=1, n_head=2, n_embd=8)
    network = GPT(config)
    init_weights(network, 0)
    opened = trace(network.eval(), [n % 11 for n in range(100)])  # more than the positions that are computed at once
    for name in ("embedding", "blocks.0.attn.q", "logits", "probabilities"):
        values = opened[name]
        assert opened.extremes(name) == pytest.approx((values.min().item(), values.max().item()), rel=1e-5)
    assert opened.extremes("blocks.0.attn.q", 1)[1] == opened["blocks.0.attn.q"][1].max().item()
