"""Temperature, top-k, top-p and the draw, against a twin that a person can follow with a pencil."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nudge.infer import sampling

finite = st.integers(-3200, 3200).map(lambda n: n / 64)  # no two so near that only float64 tells them apart
rows = st.lists(finite, min_size=1, max_size=12)


def by_hand(logits: list[float], temperature: float, top_k: int | None, top_p: float | None) -> list[float]:
    """The readable twin: lists and loops."""
    weights = [math.exp((x - max(logits)) / temperature) for x in logits]
    if top_k is not None and top_k < len(logits):
        kth = sorted(logits, reverse=True)[top_k - 1]
        weights = [w if x >= kth else 0.0 for w, x in zip(weights, logits, strict=True)]
    probs = [w / sum(weights) for w in weights]
    if top_p is not None and top_p < 1:
        share, last_kept = 0.0, 1.0
        for p in sorted(probs, reverse=True):
            if share < top_p:
                last_kept = p
            share += p
        kept = [p if p >= last_kept else 0.0 for p in probs]
        probs = [p / sum(kept) for p in kept]
    return probs


@given(
    rows,
    st.floats(0.05, 5),
    st.none() | st.integers(1, 15),
    # Not shares that a sum of a few powers of e could hit exactly: there float32 and float64 may part.
    st.none() | st.sampled_from([0.013, 0.217, 0.531, 0.779, 0.913, 1.0]),
)
def test_probabilities_are_those_computed_by_hand(
    logits: list[float], temperature: float, top_k: int | None, top_p: float | None
) -> None:
    exact = by_hand(logits, temperature, top_k, top_p)
    probs = sampling.probabilities(torch.tensor([logits]), temperature=temperature, top_k=top_k, top_p=top_p)[0]
    assert probs.sum().item() == pytest.approx(1, abs=1e-5)
    near_the_cut = top_p is not None and any(
        abs(sum(sorted(by_hand(logits, temperature, top_k, None), reverse=True)[:n]) - top_p) < 1e-4
        for n in range(1, len(logits))
    )
    if not near_the_cut:
        assert probs.tolist() == pytest.approx(exact, abs=1e-4)


def test_top_k_keeps_k_and_what_ties_with_the_last() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0, 1.0]])
    assert (sampling.probabilities(logits, top_k=2) > 0).tolist() == [[False, True, False, True, False]]
    assert (sampling.probabilities(logits, top_k=3) > 0).tolist() == [[False, True, True, True, True]]
    assert (sampling.probabilities(logits, top_k=99) > 0).all()


def test_top_p_keeps_the_fewest_that_have_the_share() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.3, 0.1]]).log()
    assert sampling.probabilities(logits, top_p=0.45)[0].tolist() == pytest.approx([0, 1, 0, 0])
    assert sampling.probabilities(logits, top_p=0.55)[0].tolist() == pytest.approx([0, 0.625, 0.375, 0])
    assert sampling.probabilities(logits, top_p=1e-9)[0].tolist() == pytest.approx([0, 1, 0, 0]), "one is always kept"
    assert sampling.probabilities(logits, top_p=1.0)[0].tolist() == pytest.approx([0.1, 0.5, 0.3, 0.1])


def test_top_p_is_a_share_of_what_top_k_left() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.1, 0.1]]).log()
    probs = sampling.probabilities(logits, top_k=2, top_p=0.6)  # 0.5 of 0.8 is 0.625
    assert probs[0].tolist() == pytest.approx([1, 0, 0, 0])


def test_temperature_0_takes_the_first_of_the_largest() -> None:
    logits = torch.tensor([[1.0, 7.0, 7.0], [math.nan, -math.inf, -3.0]])
    probs = sampling.probabilities(logits, temperature=0, top_k=2, top_p=0.5)
    assert probs.tolist() == [[0, 1, 0], [0, 0, 1]]


def test_a_temperature_near_0_is_greedy_and_does_not_overflow() -> None:
    for temperature in (1e-3, 1e-38, 5e-324):
        assert sampling.probabilities(torch.tensor([[-40.0, 40.0, 0.0]]), temperature=temperature)[0, 1] == 1


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_rows_without_a_usable_score_still_draw(temperature: float) -> None:
    logits = torch.tensor([[-math.inf] * 3, [math.nan] * 3, [math.inf, -math.inf, math.nan]])
    probs = sampling.probabilities(logits, temperature=temperature, top_k=2, top_p=0.9)
    assert probs.sum(-1).tolist() == pytest.approx([1, 1, 1])
    assert probs[2].tolist() == [1, 0, 0]
    tokens = sampling.draw(probs, torch.Generator().manual_seed(0))
    assert tokens.shape == (3,)
    assert all(0 <= token < 3 for token in tokens.tolist())


def test_half_precision_is_computed_in_float32() -> None:
    probs = sampling.probabilities(torch.zeros(1, 50_257, dtype=torch.bfloat16), top_p=0.99999)
    assert probs.dtype == torch.float32
    assert probs.sum().item() == pytest.approx(1, abs=1e-4)


@given(st.lists(st.sampled_from([0.0, 0.0, 0.1, 1.0, 1e-7]), min_size=1, max_size=20), st.integers(0, 2**32))
def test_a_token_of_probability_0_is_never_drawn(weights: list[float], seed: int) -> None:
    if sum(weights) == 0:
        weights[0] = 1.0
    probs = torch.tensor([weights]) / sum(weights)
    token = int(sampling.draw(probs, torch.Generator().manual_seed(seed)))
    assert weights[token] > 0


def test_draws_follow_the_probabilities() -> None:
    probs = torch.tensor([0.5, 0.0, 0.3, 0.2]).expand(20_000, 4)
    counts = sampling.draw(probs, torch.Generator().manual_seed(0)).bincount(minlength=4)
    assert (counts / 20_000).tolist() == pytest.approx([0.5, 0, 0.3, 0.2], abs=0.015)


def test_a_draw_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    sampling.draw(torch.tensor([[0.5, 0.5]]), torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)
