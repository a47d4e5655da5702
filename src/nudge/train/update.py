"""How an update is computed. Three ways behind one face; which one it is, is decided before update 1
(machine/hardware_probe.py).

fast      written out in full, with C kernels: GPT-2 on a CPU (fast/fused_update.py)
compiled  autograd through torch.compile: a GPU
eager     autograd, operation by operation: everything, everywhere
"""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from nudge.config import ResolvedConfig
from nudge.distributed import sharded_checkpoint
from nudge.distributed.parallel import LossModule, is_sharded, recompute_blocks, whole
from nudge.distributed.world import ALONE, World
from nudge.fast.fused_update import FusedUpdate
from nudge.model.gpt import GPT
from nudge.optim.optimizer import Optimizer
from nudge.runs.checkpoint import Checkpoint, OptimizerState

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule


class Update(Protocol):
    """`forward_backward` once for each pass, then `step` (or `forget`)."""

    def forward_backward(self, tokens: Tensor, targets: Tensor, share: float, *, last: bool = True) -> Tensor:
        """The mean loss of one pass times `share`, its part of the update. tokens, targets [B, T].

        `last`: no other pass of this process comes before `step`, so that its gradients can travel already.
        """

    def step(self, lr: float, loss: Tensor) -> Tensor:
        """Clip the gradients and move the weights; the gradients' norm before clipping.

        If the update's `loss` or the norm is not finite, nothing is moved.
        """

    def forget(self) -> None:
        """Drop the gradients of the passes so far."""

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of windows [B, T], without gradients: what an evaluation asks for."""

    def state(self) -> OptimizerState:
        """The optimizer's moments by parameter name, as they are in memory."""

    def load_state(self, state: OptimizerState) -> None:
        """Go on from `state()`, after the network got its weights. Raises: CheckpointError."""


class AutogradUpdate:
    """An update by PyTorch's autograd, on any device, in one process or several."""

    def __init__(self, network: GPT, config: ResolvedConfig, world: World = ALONE) -> None:
        self.network, self.train, self.world = network, config.train, world
        self.dtype = config.machine.dtype
        self.device = network.wte.weight.device
        self.sharded = is_sharded(network.wte.weight)
        if config.machine.recompute:
            recompute_blocks(network)
        self._loss: nn.Module | Callable[..., Tensor] = LossModule(network)
        if config.machine.update == "compiled":
            self._loss = torch.compile(self._loss, dynamic=False)
        self._ddp: DistributedDataParallel | None = None
        if world.size > 1 and not self.sharded:
            with world.watched():
                self._ddp = DistributedDataParallel(cast(nn.Module, self._loss), gradient_as_bucket_view=True)
            self._loss = self._ddp
        self.optimizer = Optimizer(network, self.train, self.dtype, world)

    def forward_backward(self, tokens: Tensor, targets: Tensor, share: float, *, last: bool = True) -> Tensor:
        # Sharded gradients travel after every pass: kept whole, they would take the memory that sharding saves.
        with self._ddp.no_sync() if self._ddp and not last else contextlib.nullcontext():
            with compute_in(self.device, self.dtype):
                loss = self._loss(tokens, targets) * share
            (loss * self.world.size).backward()  # DDP and FSDP take the mean over processes, an update is their sum
        return loss.detach()

    def step(self, lr: float, loss: Tensor) -> Tensor:
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.train.grad_clip)
        norm = whole(norm)
        self.optimizer.step(lr, torch.isfinite(loss) & torch.isfinite(norm))  # decided on the device: nothing waits
        self.optimizer.zero_grad()
        return norm

    def forget(self) -> None:
        self.optimizer.zero_grad()

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        # FSDP puts blocks together in place, which inference mode forbids.
        with torch.no_grad() if self.sharded else torch.inference_mode(), compute_in(self.device, self.dtype):
            loss = self.network.loss(tokens, targets)
        if self.sharded:
            # The last pass left blocks whole, and the weights are about to be read or to change.
            cast("FSDPModule", self.network).reshard()
        return loss

    def state(self) -> OptimizerState:
        return self.optimizer.state()

    def load_state(self, state: OptimizerState) -> None:
        self.optimizer.load_state(state)

    def load_parts(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint of which each process reads what it needs, weights included."""
        state = self.optimizer.blank_state() if saved.step else {}
        sharded_checkpoint.load(saved.path, sharded_checkpoint.named(self.network, state))
        self.optimizer.load_state(state, of_parts=True)


def make_update(network: GPT, config: ResolvedConfig, world: World = ALONE) -> Update:
    """The update that the config names. Raises: UnavailableError for the fast one where it cannot be had."""
    if config.machine.update == "fast":
        return FusedUpdate(network, config.train, getattr(torch, config.machine.dtype), world)
    return AutogradUpdate(network, config, world)


def compute_in(device: torch.device, dtype: str) -> contextlib.AbstractContextManager[object]:
    """Matrix products in `dtype`, the rest (norms, softmax, loss) in float32: PyTorch's autocast, or nothing to do."""
    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, getattr(torch, dtype))
