"""AdamW and Muon behind one interface: what they update, what they leave alone, and their state in a checkpoint."""

import copy

import pytest
import torch

from nudge.config import ModelConfig, TrainConfig
from nudge.errors import CheckpointError
from nudge.model.gpt import GPT, init_weights
from nudge.optim.optimizer import Optimizer

SMALL = ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=11)
FINITE, NOT_FINITE = torch.tensor(True), torch.tensor(False)


def make(optimizer: str, **settings: float) -> tuple[GPT, Optimizer]:
    network = GPT(SMALL)
    init_weights(network, seed=1)
    return network, Optimizer(network, TrainConfig(optimizer=optimizer, **settings))  # type: ignore[arg-type]


def give_gradients(network: GPT, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, SMALL.vocab_size, (4, SMALL.block_size + 1), generator=generator)
    network.loss(tokens[:, :-1], tokens[:, 1:]).backward()


def train(network: GPT, optimizer: Optimizer, seeds: range) -> None:
    for seed in seeds:
        give_gradients(network, seed)
        optimizer.step(1e-2, FINITE)
        optimizer.zero_grad()


def everything(network: GPT, optimizer: Optimizer) -> dict[str, torch.Tensor]:
    moments = {f"{name}/{key}": v for name, state in optimizer.state().items() for key, v in state.items()}
    return copy.deepcopy({**network.state_dict(), **moments})


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_an_update_that_is_not_finite_leaves_weights_and_moments_untouched(kind: str) -> None:
    network, optimizer = make(kind)
    train(network, optimizer, range(3))
    before = everything(network, optimizer)
    give_gradients(network, 9)
    network.wte.weight.grad.fill_(torch.nan)
    network.blocks[0].mlp.c_fc.weight.grad[0, 0] = torch.inf
    optimizer.step(1e-2, NOT_FINITE)
    assert_same(before, everything(network, optimizer))
    optimizer.zero_grad()
    train(network, optimizer, range(3, 4))
    assert not torch.equal(before["wte.weight"], network.wte.weight)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_the_first_update_may_be_the_one_that_is_not_finite(kind: str) -> None:
    network, optimizer = make(kind)
    other, other_optimizer = make(kind)
    give_gradients(network, 0)
    for parameter in network.parameters():
        parameter.grad.fill_(torch.nan)
    optimizer.step(1e-2, NOT_FINITE)
    optimizer.zero_grad()
    train(network, optimizer, range(2))
    train(other, other_optimizer, range(2))
    assert_same(everything(network, optimizer), everything(other, other_optimizer))


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_state_goes_through_a_checkpoint_to_the_same_next_update(kind: str) -> None:
    network, optimizer = make(kind)
    train(network, optimizer, range(3))
    resumed, resumed_optimizer = make(kind)
    resumed.load_state_dict(copy.deepcopy(network.state_dict()))
    resumed_optimizer.load_state(copy.deepcopy(optimizer.state()))
    for pair in ((network, optimizer), (resumed, resumed_optimizer)):
        train(*pair, range(3, 6))
    assert_same(everything(network, optimizer), everything(resumed, resumed_optimizer))


def test_loading_does_not_share_memory_with_the_checkpoint() -> None:
    network, optimizer = make("adamw")
    train(network, optimizer, range(2))
    state = copy.deepcopy(optimizer.state())
    kept = copy.deepcopy(state)
    other, other_optimizer = make("adamw")
    other_optimizer.load_state(state)
    train(other, other_optimizer, range(2))
    for name in kept:
        assert_same(kept[name], state[name])


def test_state_of_another_model_is_refused() -> None:
    network, optimizer = make("adamw")
    train(network, optimizer, range(1))
    state = optimizer.state()
    del state["wpe.weight"]
    with pytest.raises(CheckpointError) as error:
        make("adamw")[1].load_state(state)
    assert error.value.code == "checkpoint.no_optimizer_state"
    assert error.value.values == {"name": "wpe.weight"}


def test_only_matrices_decay() -> None:
    network, optimizer = make("adamw", weight_decay=0.5)
    for parameter in network.parameters():
        torch.nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.1, FINITE)
    for name, parameter in network.named_parameters():
        expected = 1 - 0.1 * 0.5 if parameter.dim() > 1 else 1.0
        assert torch.allclose(parameter, torch.full_like(parameter, expected)), name


def test_muon_takes_the_hidden_matrices_and_nothing_else() -> None:
    network, optimizer = make("muon")
    train(network, optimizer, range(1))
    names = {name for name, moments in optimizer.state().items() if moments.keys() == {"momentum_buffer"}}
    rest = {name for name, moments in optimizer.state().items() if moments.keys() == {"step", "exp_avg", "exp_avg_sq"}}
    assert names | rest == dict(network.named_parameters()).keys()
    ends = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
    assert names == {f"blocks.{i}.{end}" for i in range(2) for end in ends}
