"""What a Mac's GPU (mps) needs, as far as a machine without one can tell: no float64, no fused AdamW, one process."""

import dataclasses
import types
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nudge.config import Config, MachineConfig, ModelConfig, TrainConfig
from nudge.distributed.world import World
from nudge.errors import MachineError
from nudge.machine import device, hardware_probe
from nudge.machine.memory_check import GPU_PASS_TOKENS, choose_micro_batch
from nudge.model.gpt import GPT, init_weights
from nudge.optim import optimizer
from nudge.train.update import AutogradUpdate

MPS = torch.device("mps")
MODEL = ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=31)


class NoFloat64(TorchDispatchMode):
    """Refuses every operation with a float64 tensor, as a Mac's GPU does."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            assert not isinstance(value, Tensor) or value.dtype != torch.float64, f"{func} in float64"
        return result


def update_with(kind: str, *, learning_rate: float = 1e-2) -> AutogradUpdate:
    network = GPT(MODEL)
    init_weights(network, seed=0)
    machine = MachineConfig(device="cpu", dtype="float32", threads=1, update="eager")
    train = TrainConfig(optimizer=kind, lr=learning_rate)  # type: ignore[arg-type]
    return AutogradUpdate(network, Config(model=MODEL, train=train, machine=machine))  # type: ignore[arg-type]


def three_losses(update: AutogradUpdate) -> list[float]:
    ids = torch.randint(31, (4, 9), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(3):
        loss = update.forward_backward(ids[:, :-1], ids[:, 1:], 1.0)
        update.step(1e-2, loss)
        losses.append(update.loss(ids[:, :-1], ids[:, 1:]).item())
    return losses


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_an_update_without_the_fused_kernel_is_the_same_and_never_in_float64(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = three_losses(update_with(kind))
    monkeypatch.setattr(optimizer, "FUSED", ())
    with NoFloat64():
        losses = three_losses(update_with(kind))
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses[2] < losses[0]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_without_the_fused_kernel_an_infinite_gradient_changes_nothing(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizer, "FUSED", ())
    update = update_with(kind)
    three_losses(update)
    before = {name: value.clone() for name, value in update.network.state_dict().items()}
    moments = {name: value["step"].clone() for name, value in update.state().items() if "step" in value}
    ids = torch.zeros(1, 9, dtype=torch.long)
    loss = update.forward_backward(ids[:, :-1], ids[:, 1:], float("inf"))
    update.step(1e-2, loss)
    assert all(torch.equal(value, before[name]) for name, value in update.network.state_dict().items())
    assert moments
    assert all(update.state()[name]["step"] == step for name, step in moments.items())


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The functions of torch.mps, and the calls of its `synchronize`."""
    calls: list[str] = []
    mps = types.SimpleNamespace(
        synchronize=lambda: calls.append("synchronize"),
        recommended_max_memory=lambda: 8_000,
        driver_allocated_memory=lambda: 3_000,
    )
    monkeypatch.setattr(torch, "mps", mps)
    return calls


def test_the_clock_waits_for_the_gpu(mac: list[str]) -> None:
    device.synchronize(torch.device("cpu"))
    assert mac == []
    device.synchronize(MPS)
    assert mac == ["synchronize"]


def test_a_mac_has_one_memory(mac: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.free_memory(MPS) == 5_000
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=1_000))
    assert device.free_memory(MPS) == 1_000


def test_the_gpu_has_the_name_of_the_processor() -> None:
    assert device.gpu_name(torch.device("cpu")) is None
    assert device.gpu_name(MPS) == device.cpu_name()


def test_a_gpu_without_bfloat16_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def product_s(n: int, device: torch.device, dtype: torch.dtype) -> float:
        if dtype == torch.bfloat16:
            raise TypeError("BFloat16 is not supported on MPS")
        return 0.5

    monkeypatch.setattr(hardware_probe, "_product_s", product_s)
    monkeypatch.setattr(hardware_probe, "_device", lambda name: MPS)
    monkeypatch.setattr(hardware_probe, "free_memory", lambda device: 10**10)
    machine = hardware_probe.probe(MachineConfig(device="mps"))
    assert (machine.device, machine.dtype, machine.update) == ("mps", "float32", "eager")
    assert machine.peak_flops["bfloat16"] == 0
    assert machine.reasons[0] == "device mps: as asked"


def test_several_processes_cannot_share_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware_probe, "_device", lambda name: MPS)
    with pytest.raises(MachineError) as error:
        hardware_probe.probe(MachineConfig(device="mps"), world=World(rank=0, size=2, local_size=2))
    assert error.value.code == "machine.device_index"
    assert error.value.values["kind"] == "cpu"


def test_a_pass_on_a_slow_gpu_is_short() -> None:
    machine = hardware_probe.Machine(
        device="mps",
        dtype="float32",
        threads=1,
        update="eager",
        cpu="Apple",
        gpu="Apple",
        memory_bytes=10**12,
        peak_flops={"float32": 1e9},
        reasons=(),
    )
    config = Config(model=MODEL, train=TrainConfig(batch_tokens=GPU_PASS_TOKENS))
    on_cuda = choose_micro_batch(config, dataclasses.replace(machine, device="cuda"))
    assert choose_micro_batch(config, machine) < on_cuda
