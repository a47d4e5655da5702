"""One real update on one example."""

import hashlib
import math

import pytest
import torch
from tests.refusals import refused

from nudge.config import ModelConfig
from nudge.errors import CheckpointError
from nudge.look.prediction import kl_divergence
from nudge.look.single_update import OPTIMIZERS, Nudge, Optimizer, find_example, nudge_once
from nudge.model.gpt import GPT, init_weights


@pytest.fixture
def network() -> GPT:
    network = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=50))
    init_weights(network, seed=3)
    return network


def fingerprint(network: GPT) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_target_becomes_more_likely_and_the_network_stays_as_it_is(network: GPT, optimizer: Optimizer) -> None:
    before, parameters = fingerprint(network), list(network.parameters())
    nudge = nudge_once(network, [1, 2, 3], target=7, optimizer=optimizer, controls=[[4], [5, 6]])
    assert nudge.probability_after > nudge.probability_before
    assert nudge.loss_change < 0
    assert nudge.rank_after <= nudge.rank_before
    assert fingerprint(network) == before
    assert all(now is then for now, then in zip(network.parameters(), parameters, strict=True))
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_small_rate_does_what_it_predicts(network: GPT, optimizer: Optimizer) -> None:
    nudge = nudge_once(network, [1, 2, 3], target=7, lr=1e-5, optimizer=optimizer)
    assert nudge.loss_change == pytest.approx(nudge.predicted_loss_change, rel=0.02)


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 1.0), ("adamw", 1.0)])
def test_too_high_a_rate_overshoots(network: GPT, optimizer: Optimizer, lr: float) -> None:
    torch.nn.init.normal_(network.wte.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    small, huge = (nudge_once(network, [1, 2, 3], 7, rate, optimizer=optimizer) for rate in (1e-5, lr))
    assert small.loss_change < 0
    assert huge.loss_change > 0 > huge.predicted_loss_change
    assert huge.probability_after < huge.probability_before


def test_a_network_whose_parameters_are_frozen(network: GPT) -> None:
    expected = nudge_once(network, [1, 2, 3], target=7)
    assert nudge_once(network.requires_grad_(False), [1, 2, 3], target=7) == expected
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_left_out_the_rate_turns_3_percent_into_4(network: GPT, optimizer: Optimizer) -> None:
    nudge = nudge_once(network, [1, 2, 3], target=7, optimizer=optimizer)
    assert nudge.predicted_loss_change == pytest.approx(-math.log(4 / 3))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_is_what_pytorchs_own_optimizer_does(network: GPT, optimizer: Optimizer) -> None:
    context, target, lr = [4, 4, 9, 2], 11, 0.01
    nudge = nudge_once(network, context, target, lr, optimizer=optimizer, controls=[[8, 1]], n_moved=50)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    control_before = network(torch.tensor([[8, 1]]))[0, -1].detach()
    theirs: torch.optim.Optimizer
    if optimizer == "sgd":
        theirs = torch.optim.SGD(network.parameters(), lr=lr)
    else:
        theirs = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0)
    network.loss(torch.tensor([context]), torch.tensor([[-1, -1, -1, target]])).backward()
    slope = sum(
        -(p.grad * (p.grad * lr if optimizer == "sgd" else lr * p.grad / (p.grad.abs() + 1e-8))).sum().item()
        for p in network.parameters()
        if p.grad is not None
    )
    theirs.step()
    with torch.no_grad():
        after = network(torch.tensor([context]))[0, -1]
        control_after = network(torch.tensor([[8, 1]]))[0, -1]
    torch.testing.assert_close(nudge.after, after.softmax(-1), rtol=1e-4, atol=1e-7)
    assert nudge.loss_after == pytest.approx(-after.log_softmax(-1)[target].item(), rel=1e-4)
    assert nudge.rank_after == 1 + int((after > after[target]).sum())
    assert nudge.predicted_loss_change == pytest.approx(slope, rel=1e-4)
    assert nudge.drift[0].context == (8, 1)
    assert nudge.drift[0].kl == pytest.approx(kl_divergence(control_before, control_after), rel=1e-3)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        # A key bias changes nothing under softmax: its gradient is rounding noise, of which AdamW makes full steps.
        felt = parameter.grad.abs() > 1e-6
        torch.testing.assert_close(nudge.weights[name][felt], parameter.detach()[felt], rtol=1e-4, atol=1e-6)
        norm = before[name].norm()
        expected = ((parameter.detach() - before[name]).norm() / norm).item() if norm else math.inf
        assert nudge.relative_change[name] == pytest.approx(expected, rel=0.01)
    assert 0 < nudge.total_relative_change < 1


def test_what_moved_most(network: GPT) -> None:
    nudge = nudge_once(network, [1, 2], target=7, lr=0.1, n_moved=4)
    changes = (nudge.after - nudge.before).abs()
    assert [moved.token for moved in nudge.moved] == changes.topk(4).indices.tolist()
    assert {m.token: (m.before, m.after) for m in nudge.moved}[7] == (nudge.probability_before, nudge.probability_after)


def test_no_rate_is_no_change(network: GPT) -> None:
    nudge = nudge_once(network, [1, 2], target=7, lr=0.0, controls=[[3]])
    assert nudge.loss_change == pytest.approx(0, abs=1e-6)
    assert nudge.drift[0].kl == 0
    assert set(nudge.relative_change.values()) == {0.0}


def test_the_lectures_own_example() -> None:
    """ "|", "View", "ing", " Single" and then " Post", in the ids of cl100k, on a network that has learned nothing."""
    network = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=8, vocab_size=100_277))
    init_weights(network, seed=0)
    nudge = nudge_once(network, [91, 860, 287, 11579], target=3962, lr=0.1)
    assert nudge.loss_before == pytest.approx(math.log(100_277), rel=0.02)
    assert nudge.probability_after > nudge.probability_before
    assert nudge.rank_after < nudge.rank_before
    assert nudge.before.shape == nudge.after.shape == (100_277,)
    assert len(nudge.moved) == 10


def run(network: GPT, **changes: object) -> Nudge:
    arguments = {"context": [1, 2], "target": 7, **changes}
    return nudge_once(network, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "code", "values"),
    [
        ({"lr": -1.0}, "bad_learning_rate", {"got": -1.0}),
        ({"lr": math.nan}, "bad_learning_rate", {}),
        ({"lr": math.inf}, "bad_learning_rate", {"got": math.inf}),
        ({"lr": 1e30}, "learning_rate_overflows", {"lr": 1e30}),
        ({"target": 50}, "unknown_token", {"token": 50, "vocab_size": 50}),
        ({"context": []}, "empty_context", {}),
        ({"context": [0] * 17}, "context_too_long", {"got": 17}),
        ({"controls": [[51]]}, "unknown_token", {"token": 51}),
        ({"optimizer": "adam"}, "unknown_optimizer", {"name": "adam"}),
    ],
)
def test_what_cannot_be(network: GPT, changes: dict[str, object], code: str, values: dict[str, object]) -> None:
    with refused(f"config.{code}", **values):
        run(network, **changes)


def test_a_network_that_diverged(network: GPT) -> None:
    with torch.no_grad():
        network.wpe.weight[0, 0] = math.inf
    with pytest.raises(CheckpointError, match="are not numbers"):
        run(network)


def test_find_example(network: GPT) -> None:
    torch.nn.init.normal_(network.wte.weight, std=0.5)  # probabilities that differ
    tokens = torch.randint(0, 50, (17,), generator=torch.Generator().manual_seed(0))
    position = find_example(network, tokens, probability=0.03, at_least=4)
    assert 4 <= position < len(tokens)
    probabilities = network(tokens[None, :-1])[0].softmax(-1)
    errors = {t: abs(math.log(probabilities[t - 1, tokens[t]].item() / 0.03)) for t in range(4, len(tokens))}
    assert position == min(errors, key=errors.__getitem__)


def test_left_out_the_rate_asks_for_no_more_than_is_left(network: GPT) -> None:
    """At 99% there is no loss of 0.29 nats to take away: a step that promised it would go far past."""
    nudge = nudge_once(network, [1, 2, 3], target=7)
    while nudge.probability_after < 0.999:
        nudge = nudge_once(network, [1, 2, 3], target=7)
        assert nudge.probability_after > nudge.probability_before
        network.load_state_dict(dict(nudge.weights))
