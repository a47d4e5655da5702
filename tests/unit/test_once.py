"""One real update on one example."""

import math

import pytest
import torch

from nudge.config import ModelConfig
from nudge.look.once import find_example, nudge_once
from nudge.model.gpt import GPT, init_weights


@pytest.fixture
def network() -> GPT:
    network = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=50))
    init_weights(network, seed=3)
    return network


def test_the_target_becomes_more_likely_and_the_network_stays_as_it_is(network: GPT) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    nudge = nudge_once(network, torch.tensor([1, 2, 3]), target=7)
    assert nudge.probability_after > nudge.probability_before
    assert nudge.loss_change < 0
    assert nudge.rank_after <= nudge.rank_before
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_small_rate_does_what_it_predicts(network: GPT) -> None:
    nudge = nudge_once(network, torch.tensor([1, 2, 3]), target=7, lr=1e-4)
    assert nudge.loss_change == pytest.approx(nudge.predicted_loss_change, rel=0.02)


def test_it_is_plain_gradient_descent(network: GPT) -> None:
    context, target, lr = torch.tensor([4, 4, 9, 2]), 11, 0.01
    nudge = nudge_once(network, context, target, lr=lr)
    network.loss(context[None], torch.tensor([[-1, -1, -1, target]])).backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= lr * parameter.grad
        after = network(context[None])[0, -1].softmax(-1)[target].item()
    assert nudge.probability_after == pytest.approx(after, rel=1e-5)


def test_find_example(network: GPT) -> None:
    torch.nn.init.normal_(network.wte.weight, std=0.5)  # probabilities that differ
    tokens = torch.randint(0, 50, (17,), generator=torch.Generator().manual_seed(0))
    position = find_example(network, tokens, probability=0.03, at_least=4)
    assert 4 <= position < len(tokens)
    probabilities = network(tokens[None, :-1])[0].softmax(-1)
    errors = {t: abs(math.log(probabilities[t - 1, tokens[t]].item() / 0.03)) for t in range(4, len(tokens))}
    assert position == min(errors, key=errors.__getitem__)
