"""The computation of an update, in three ways. The choice is made before update 1 (machine/hardware_probe.py).

fast      a hand-written backward pass with C kernels: GPT-2 on a CPU (fast/fused_update.py)
compiled  autograd through torch.compile: on a GPU
eager     autograd, operation by operation: any model, on any device
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
from nudge.distributed.parallel import LossModule, full_tensor, is_sharded, recompute_blocks
from nudge.distributed.world import ALONE, World
from nudge.fast.fused_update import FusedUpdate
from nudge.model.gpt import GPT
from nudge.optim.optimizer import Optimizer
from nudge.runs.checkpoint import Checkpoint, OptimizerState

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule


class Update(Protocol):
    """An update: call `forward_backward` once for each pass, then `step` (or `forget`)."""

    def forward_backward(self, tokens: Tensor, targets: Tensor, share: float, *, last: bool = True) -> Tensor:
        """Compute the gradients of one pass; return its mean loss times `share`, the pass's share of the update.

        Shapes: tokens and targets [B, T]. `last`: this is the last pass before `step`, so the exchange of gradients
        between processes can start.
        """

    def step(self, lr: float, loss: Tensor) -> Tensor:
        """Clip the gradients and update the weights; return the norm of the gradients before clipping.

        If `loss` or the norm is not finite, change nothing.
        """

    def forget(self) -> None:
        """Delete the gradients of the passes so far."""

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of windows [B, T] for an evaluation, without gradients."""

    def state(self) -> OptimizerState:
        """Return the optimizer's moments by parameter name, not copied."""

    def load_state(self, state: OptimizerState) -> None:
        """Restore the moments from a `state()`, after the network's weights were loaded. Raises: CheckpointError."""


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
            with world.watch_processes():
                self._ddp = DistributedDataParallel(cast(nn.Module, self._loss), gradient_as_bucket_view=True)
            self._loss = self._ddp
        self.optimizer = Optimizer(network, self.train, self.dtype, world)

    def forward_backward(self, tokens: Tensor, targets: Tensor, share: float, *, last: bool = True) -> Tensor:
        # Sharded gradients are exchanged after every pass: unsharded, they would take the memory that sharding saves.
        with self._ddp.no_sync() if self._ddp and not last else contextlib.nullcontext():
            with compute_in(self.device, self.dtype):
                loss = self._loss(tokens, targets) * share
            (loss * self.world.size).backward()  # DDP and FSDP average over processes; an update is the sum
        return loss.detach()

    def step(self, lr: float, loss: Tensor) -> Tensor:
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.train.grad_clip)
        norm = full_tensor(norm)
        self.optimizer.step(
            lr, torch.isfinite(loss) & torch.isfinite(norm)
        )  # checked on the device, so that the host need not wait
        self.optimizer.zero_grad()
        return norm

    def forget(self) -> None:
        self.optimizer.zero_grad()

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        # FSDP gathers blocks in place, and inference mode forbids that.
        with torch.no_grad() if self.sharded else torch.inference_mode(), compute_in(self.device, self.dtype):
            loss = self.network.loss(tokens, targets)
        if self.sharded:
            # The pass left gathered blocks in memory, and the sharded weights will be read or changed next.
            cast("FSDPModule", self.network).reshard()
        return loss

    def state(self) -> OptimizerState:
        return self.optimizer.state()

    def load_state(self, state: OptimizerState) -> None:
        self.optimizer.load_state(state)

    def load_parts(self, saved: Checkpoint) -> None:
        """Restore weights and moments from a checkpoint of several files; each process reads only its own part."""
        state = self.optimizer.blank_state() if saved.step else {}
        sharded_checkpoint.load(saved.path, sharded_checkpoint.named_tensors(self.network, state))
        self.optimizer.load_state(state, of_parts=True)


def make_update(network: GPT, config: ResolvedConfig, world: World = ALONE) -> Update:
    """Return the update that the config names. Raises: UnavailableError if it is the fast one and cannot run here."""
    if config.machine.update == "fast":
        return FusedUpdate(network, config.train, getattr(torch, config.machine.dtype), world)
    return AutogradUpdate(network, config, world)


def compute_in(device: torch.device, dtype: str) -> contextlib.AbstractContextManager[object]:
    """Return a context for matrix products in `dtype` and the rest (norms, softmax, loss) in float32: autocast."""
    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, getattr(torch, dtype))
