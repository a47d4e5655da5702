"""A small step on an example makes its target more likely, whatever the network and the example."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nudge.config import ModelConfig
from nudge.look.single_update import OPTIMIZERS, Optimizer, nudge_once
from nudge.model.gpt import GPT, init_weights

V, BLOCK_SIZE = 40, 8


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    std=st.sampled_from([0.02, 0.1, 0.2]),
    context=st.lists(st.integers(0, V - 1), min_size=1, max_size=BLOCK_SIZE),
    target=st.integers(0, V - 1),
)
def test_the_targets_probability_rises(
    optimizer: Optimizer, seed: int, std: float, context: list[int], target: int
) -> None:
    network = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=BLOCK_SIZE, vocab_size=V))
    init_weights(network, seed)
    torch.nn.init.normal_(network.wte.weight, std=std, generator=torch.Generator().manual_seed(seed))
    nudge = nudge_once(network, context, target, lr=1e-4, optimizer=optimizer)
    assert nudge.probability_after > nudge.probability_before
