"""The update that is written out against autograd: every gradient, ten updates of both optimizers, and their state."""

import copy
import types
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from nudge.config import Config, MachineConfig, ModelConfig, TrainConfig, override
from nudge.errors import CheckpointError
from nudge.fast import fused_update
from nudge.fast.fused_update import FusedUpdate, why_not_fast
from nudge.model import sizes
from nudge.model.gpt import GPT, init_weights
from nudge.train.update import AutogradUpdate, Update

if obstacle := why_not_fast("cpu", "float32"):
    pytest.skip(obstacle, allow_module_level=True)

SMALL = ModelConfig(n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=67)
MODELS = {  # and the windows: B, T
    "usual": (ModelConfig(n_layer=2, n_head=4, n_embd=128, block_size=64, vocab_size=500), 3, 64),
    "odd sizes": (ModelConfig(n_layer=1, n_head=3, n_embd=15, block_size=7, vocab_size=11), 2, 7),
    "one head, shorter windows": (ModelConfig(n_layer=3, n_head=1, n_embd=48, block_size=11, vocab_size=3), 5, 4),
    "two chunks of logits": (ModelConfig(n_layer=2, n_head=2, n_embd=64, block_size=32, vocab_size=1025), 40, 32),
    "three spans of queries": (ModelConfig(n_layer=1, n_head=2, n_embd=32, block_size=700, vocab_size=33), 2, 700),
    "one token": (ModelConfig(n_layer=2, n_head=2, n_embd=10, block_size=5, vocab_size=65), 1, 1),
}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def eager(train: TrainConfig, dtype: str) -> Config:
    return override(Config(train=train), {"machine": {"update": "eager", "dtype": dtype}})


def make(config: ModelConfig = SMALL, noise: float = 0.05) -> GPT:
    """Return a network whose norms and biases are not the initial ones and zeros."""
    network = GPT(config)
    init_weights(network, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += noise * torch.randn(parameter.shape, generator=generator)
    return network


def windows(config: ModelConfig, B: int, T: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    ids = torch.randint(0, config.vocab_size, (B, T + 1), generator=torch.Generator().manual_seed(seed))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("config", "B", "T"), MODELS.values(), ids=MODELS)
def test_every_gradient_is_that_of_autograd(config: ModelConfig, B: int, T: int, dtype: torch.dtype) -> None:
    network = make(config)
    twin = copy.deepcopy(network)
    update = FusedUpdate(network, TrainConfig(), dtype)
    tokens, targets = windows(config, B, T)
    if B > 1:
        targets[0, 0] = -1
    loss = update.forward_backward(tokens, targets, 0.5)
    expected = 0.5 * twin.loss(tokens, targets)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5 if dtype == torch.float32 else 1e-2)
    whole = torch.cat([parameter.grad.flatten() for parameter in twin.parameters()]).norm()
    for name, parameter in twin.named_parameters():
        grad = update.flat.view(update.flat.grads, name).float()
        distance = (grad - parameter.grad).norm()
        # The bias of the keys changes no probability and its gradient is rounding only: compare with the whole.
        tolerance = 1e-5 if dtype == torch.float32 else 3e-2
        assert distance <= tolerance * parameter.grad.norm() + 1e-6 * whole, name


def losses(update: Update, n: int, parts: int = 1) -> list[float]:
    found = []
    for seed in range(n):
        tokens, targets = windows(SMALL, 8, 16, seed % 3)
        loss = sum(
            update.forward_backward(x, y, 1 / parts)
            for x, y in zip(tokens.chunk(parts), targets.chunk(parts), strict=True)
        )
        update.step(1e-2, torch.as_tensor(loss))
        found.append(float(loss))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("parts", [1, 4])
def test_ten_updates_are_those_of_the_plain_optimizer(optimizer: str, parts: int) -> None:
    train = TrainConfig(optimizer=optimizer, weight_decay=0.3, grad_clip=0.5)  # type: ignore[arg-type]
    network = make()
    plain = AutogradUpdate(copy.deepcopy(network), eager(train, "float32"))
    written_out = FusedUpdate(network, train, torch.float32)
    found = losses(written_out, 10, parts)
    assert found == pytest.approx(losses(plain, 10, parts), rel=1e-4)
    assert found[9] < found[0] - 0.5  # the same windows again


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize(("first", "second"), [("fast", "eager"), ("eager", "fast"), ("fast", "fast")])
def test_a_run_may_go_on_the_other_way(optimizer: str, first: str, second: str) -> None:
    """Both implementations have the same names and shapes of moments."""
    train = TrainConfig(optimizer=optimizer)  # type: ignore[arg-type]

    def update(kind: str, network: GPT) -> Update:
        if kind == "fast":
            return FusedUpdate(network, train, torch.float32)
        return AutogradUpdate(network, eager(train, "float32"))

    network, other = make(), make()
    begun = update(first, network)
    losses(begun, 3)
    gone_on = update(second, other)
    other.load_state_dict(network.state_dict())
    gone_on.load_state(begun.state())
    assert losses(gone_on, 4) == pytest.approx(losses(begun, 4), rel=1e-4)


def test_state_of_another_optimizer_is_refused() -> None:
    muon = FusedUpdate(make(), TrainConfig(optimizer="muon"), torch.float32)
    adamw = FusedUpdate(make(), TrainConfig(optimizer="adamw"), torch.float32)
    losses(adamw, 1)
    with pytest.raises(CheckpointError) as error:
        muon.load_state(adamw.state())
    assert error.value.code == "checkpoint.no_optimizer_state"


def test_what_is_not_finite_moves_nothing() -> None:
    network = make()
    update = FusedUpdate(network, TrainConfig(), torch.float32)
    losses(update, 2)
    before = copy.deepcopy((network.state_dict(), update.state()))
    tokens, targets = windows(SMALL, 8, 16)
    update.forward_backward(tokens, targets)
    update.step(1e-2, torch.tensor(torch.nan))
    update.forward_backward(tokens, targets)
    update.flat.grads[5] = torch.inf
    assert update.step(1e-2, torch.tensor(1.0)).isinf()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[0][name])
    for name, moments in update.state().items():
        assert all(torch.equal(value, before[1][name][key]) for key, value in moments.items())


def test_passes_that_are_forgotten_leave_nothing() -> None:
    a, b = (FusedUpdate(make(), TrainConfig(), torch.float32) for _ in range(2))
    a.forward_backward(*windows(SMALL, 4, 16, seed=7))
    a.forward_backward(*windows(SMALL, 4, 16, seed=8))
    a.forget()
    assert losses(a, 3, parts=2) == losses(b, 3, parts=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_four_threads_make_the_same_bits_every_time(dtype: torch.dtype) -> None:
    torch.set_num_threads(4)
    runs = []
    for _ in range(3):
        network = make()
        losses(FusedUpdate(network, TrainConfig(optimizer="muon"), dtype), 5, parts=2)
        runs.append(network.state_dict())
    for name, tensor in runs[0].items():
        assert torch.equal(tensor, runs[1][name]), name
        assert torch.equal(tensor, runs[2][name]), name


@pytest.mark.slow
def test_bfloat16_learns_as_autocast_does() -> None:
    """Check that both losses fall together in 60 updates on a few windows; docs/performance.md has the long curves."""
    train = TrainConfig(optimizer="adamw")
    written_out = losses(FusedUpdate(make(), train, torch.bfloat16), 60)
    plain = losses(AutogradUpdate(make(), eager(train, "bfloat16")), 60)
    exact = losses(AutogradUpdate(make(), eager(train, "float32")), 60)
    assert exact[-1] < exact[0] / 2
    off = max(abs(a - b) for a, b in zip(plain, exact, strict=True))
    assert max(abs(a - b) for a, b in zip(written_out, exact, strict=True)) < 2 * off + 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("T", [64, 512])
def test_memory_is_as_forecast(dtype: torch.dtype, T: int) -> None:
    config = ModelConfig(n_layer=3, n_head=4, n_embd=64, block_size=T, vocab_size=3000)
    update = FusedUpdate(make(config), TrainConfig(optimizer="adamw"), dtype)
    for _ in range(2):
        update.forward_backward(*windows(config, 2048 // T, T))
    flat, optimizer = update.flat, update.optimizer
    arrays = [*update.buffers.values(), flat.weights, flat.grads, optimizer.first, optimizer.second]
    arrays += [update.earlier] if update.earlier is not None else []
    arrays += [flat.compute_weights] if flat.compute_weights is not flat.weights else []
    used = sum(array.nbytes for array in arrays)
    name = str(dtype).removeprefix("torch.")
    train = TrainConfig(optimizer="adamw", micro_batch=2048 // T, batch_tokens=4096)
    run = Config(model=config, train=train, machine=MachineConfig(dtype=name, update="fast"))
    assert sizes.memory_of_run(run).total == pytest.approx(used, rel=0.03)


def test_loss_without_gradients_is_that_of_the_network() -> None:
    network = make()
    update = FusedUpdate(network, TrainConfig(), torch.float32)
    tokens, targets = windows(SMALL, 3, 16)
    targets[1, 4:] = -1
    assert update.loss(tokens, targets) == pytest.approx(network.loss(tokens, targets).item(), rel=1e-5)
    losses(update, 1)
    before = update.flat.grads.clone()
    update.loss(tokens, targets)
    assert torch.equal(update.flat.grads, before)


@pytest.mark.parametrize(("threads", "fast"), [(1, True), (2, True), (3, False)])
def test_kernels_for_one_thread_do_not_keep_many_waiting(
    threads: int, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_update, "Kernels", lambda dtype: types.SimpleNamespace(is_serial=True))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert (why_not_fast("cpu", "float32") is None) == fast
