"""The logit lens: the final norm and the head, read after every block."""

from typing import Any

import pytest
import torch
from tests.refusals import refused

from nudge.config import ModelConfig
from nudge.look.forward_pass import trace
from nudge.look.logit_lens import lens
from nudge.model.gpt import GPT, init_weights

TOKENS = [5, 9, 2, 2, 30, 11]


@pytest.fixture(params=[{}, {"rotary": True, "untied": True}], ids=["gpt2", "modern"])
def network(request: pytest.FixtureRequest) -> GPT:
    network = GPT(ModelConfig(n_layer=3, n_head=2, n_embd=32, block_size=80, vocab_size=50, **request.param))
    init_weights(network, seed=3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.empty(parameter.shape).normal_(0.0, 0.2, generator=generator))
    return network


@torch.no_grad()
def test_the_last_layer_is_what_the_network_says(network: GPT) -> None:
    seen = lens(trace(network, TOKENS), k=50)
    said = network(torch.tensor([TOKENS]))[0].softmax(-1)
    assert seen.layers == ("embedding", "block 0", "block 1", "block 2")
    assert seen.positions == tuple(range(6))
    assert seen.tokens.shape == seen.probabilities.shape == (4, 6, 50)
    assert torch.allclose(seen.probabilities[-1], said.gather(1, seen.tokens[-1]), rtol=1e-4, atol=1e-7)
    assert torch.equal(seen.tokens[-1, :, 0], said.argmax(-1))
    assert seen.target_ranks is None


@torch.no_grad()
def test_every_layer_is_the_norm_and_the_head_on_the_stream(network: GPT) -> None:
    targets = [9, 2, 2, 30, 11, 0]
    seen = lens(trace(network, TOKENS), k=3, targets=targets)
    streams: list[torch.Tensor] = []
    handles = [block.register_forward_pre_hook(lambda _, given: streams.append(given[0])) for block in network.blocks]
    network(torch.tensor([TOKENS]))
    for handle in handles:
        handle.remove()
    assert seen.target_ranks is not None
    for layer, stream in enumerate(streams):
        probabilities = network.logits(network.ln_f(stream))[0].softmax(-1)
        assert torch.allclose(seen.probabilities[layer], probabilities.topk(3).values, rtol=1e-4)
        for t, target in enumerate(targets):
            assert seen.target_ranks[layer, t] == 1 + sum(p > probabilities[t, target] for p in probabilities[t])


def test_only_some_positions(network: GPT) -> None:
    tokens = [(7 * t) % 50 for t in range(80)]  # more than go through the head at once
    opened = trace(network, tokens, cap_bytes=0)
    every, some = lens(opened, targets=[1] * 80), lens(opened, positions=[79, 3, 70], targets=[1, 1, 1])
    assert some.tokens.shape == (4, 3, 5)
    assert torch.equal(some.tokens, every.tokens[:, [79, 3, 70]])
    assert every.target_ranks is not None
    assert some.target_ranks is not None
    assert torch.equal(some.target_ranks, every.target_ranks[:, [79, 3, 70]])
    assert lens(trace(network, [4])).tokens.shape == (4, 1, 5)


@pytest.mark.parametrize(
    ("arguments", "code", "values"),
    [
        ({"k": 0}, "lens_k", {"got": 0, "most": 50}),
        ({"k": 51}, "lens_k", {"got": 51, "most": 50}),
        ({"positions": [6]}, "no_such_number", {"name": "position", "got": 6, "last": 5}),
        ({"targets": [1, 2]}, "lens_targets", {"n": 6, "got": [1, 2]}),
        ({"positions": [0], "targets": [50]}, "lens_targets", {"n": 1, "last": 49}),
    ],
)
def test_what_does_not_fit(network: GPT, arguments: dict[str, Any], code: str, values: dict[str, object]) -> None:
    with refused(f"config.{code}", **values):
        lens(trace(network, TOKENS), **arguments)
