"""The network: what a token may see, and that the cache changes nothing but the time."""

import math

import pytest
import torch
from torch import Tensor

from nudge.config import ModelConfig
from nudge.model.gpt import GPT, Cache, init_weights

CONFIG = ModelConfig(n_layer=2, n_head=4, n_embd=32, block_size=24, vocab_size=61)


@pytest.fixture
def network() -> GPT:
    network = GPT(CONFIG)
    init_weights(network, seed=0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(5)
    return network


def tokens(n_tokens: int, batch: int = 2) -> Tensor:
    return torch.randint(CONFIG.vocab_size, (batch, n_tokens), generator=torch.Generator().manual_seed(1))


def through_cache(network: GPT, x: Tensor, chunks: list[int]) -> Tensor:
    """Return the logits of all positions of `x`, read in parts of these lengths."""
    cache = Cache(network, batch=x.size(0))
    return torch.cat([network.logits(network.hidden(piece, cache)) for piece in x.split(chunks, dim=1)], dim=1)


@pytest.mark.parametrize(
    "chunks",
    [[24], [1] * 24, [10] + [1] * 14, [7, 9, 8], [1, 23], [23, 1]],
    ids=["all at once", "one by one", "prefill, then one by one", "three chunks", "1 + 23", "23 + 1"],
)
@torch.no_grad()
def test_the_cache_gives_the_logits_of_the_whole_forward_at_every_position(network: GPT, chunks: list[int]) -> None:
    x = tokens(CONFIG.block_size)
    torch.testing.assert_close(through_cache(network, x, chunks), network(x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_smaller_cache_is_enough_for_fewer_tokens(network: GPT) -> None:
    x = tokens(5)
    cache = Cache(network, batch=2, room=5)
    torch.testing.assert_close(network.logits(network.hidden(x, cache)), network(x))
    assert cache.n_tokens == 5


@torch.no_grad()
def test_a_token_does_not_see_what_comes_after_it(network: GPT) -> None:
    x = tokens(CONFIG.block_size)
    changed = x.clone()
    changed[:, 12] = (changed[:, 12] + 1) % CONFIG.vocab_size
    before, after = network(x), network(changed)
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


def test_the_first_loss_is_that_of_guessing() -> None:
    network = GPT(CONFIG)
    init_weights(network, seed=0)
    x = tokens(CONFIG.block_size, batch=8)
    assert network.loss(x, x.roll(-1, dims=1)).item() == pytest.approx(math.log(CONFIG.vocab_size), abs=0.05)


def test_a_target_of_minus_1_is_not_learned(network: GPT) -> None:
    x, y = tokens(6), tokens(6).roll(1, dims=1)
    first = network.loss(x[:, :3], y[:, :3])
    y[:, 3:] = -1
    torch.testing.assert_close(network.loss(x, y), first)


def test_the_same_seed_draws_the_same_weights_and_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    one, two, other = GPT(CONFIG), GPT(CONFIG), GPT(CONFIG)
    state_after_construction = torch.get_rng_state()
    init_weights(one, seed=3)
    init_weights(two, seed=3)
    init_weights(other, seed=4)
    assert torch.equal(torch.get_rng_state(), state_after_construction)
    torch.set_rng_state(before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.wte.weight, other.wte.weight)


def test_weights_are_drawn_as_openai_drew_them() -> None:
    config = ModelConfig(n_layer=8, n_head=4, n_embd=64, block_size=256, vocab_size=500)
    network = GPT(config)
    init_weights(network, seed=0)
    block = network.blocks[3]
    assert network.wte.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert network.wpe.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert block.attn.c_attn.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.mlp.c_proj.weight.std().item() == pytest.approx(0.02 / math.sqrt(16), rel=0.05)
    assert (block.ln_1.weight == 1).all()
    assert (network.ln_f.weight == 1).all()
    assert not block.attn.c_attn.bias.any()
    assert not network.ln_f.bias.any()
