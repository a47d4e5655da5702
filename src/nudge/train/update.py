"""How an update is computed. Three ways behind one face; which one it is, is decided before update 1 (probe.py).

fast      written out in full, with C kernels: GPT-2 on a CPU (explicit.py)
compiled  autograd through torch.compile: a GPU
eager     autograd, operation by operation: everything, everywhere
"""

from typing import Protocol

import torch
from torch import Tensor

from nudge.config import Config, ModelConfig, TrainConfig
from nudge.model.gpt import GPT
from nudge.native import UnavailableError
from nudge.native.kernels import Kernels
from nudge.train.evaluation import compute_in
from nudge.train.explicit import ExplicitUpdate
from nudge.train.optimizer import Optimizer, State


class Update(Protocol):
    """`forward_backward` once for each pass, then `step` (or `forget`)."""

    def forward_backward(self, tokens: Tensor, targets: Tensor, share: float) -> Tensor:
        """The mean loss of one pass times `share`, its part of the update. tokens, targets [B, T]."""

    def step(self, lr: float, loss: Tensor) -> Tensor:
        """Clip the gradients and move the weights; the gradients' norm before clipping.

        If the update's `loss` or the norm is not finite, nothing is moved.
        """

    def forget(self) -> None:
        """Drop the gradients of the passes so far."""

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of windows [B, T], without gradients: what an evaluation asks for."""

    def state(self) -> State:
        """The optimizer's moments by parameter name, as they are in memory."""

    def load_state(self, state: State) -> None:
        """Go on from `state()`, after the network got its weights. Raises: CheckpointError."""


class AutogradUpdate:
    """An update by PyTorch's autograd, on any device."""

    def __init__(self, network: GPT, train: TrainConfig, dtype: str, *, compiled: bool = False) -> None:
        self.network, self.train, self.dtype = network, train, dtype
        self.device = network.wte.weight.device
        self.optimizer = Optimizer(network, train, dtype)
        self._loss = torch.compile(network.loss, dynamic=False) if compiled else network.loss

    def forward_backward(self, tokens: Tensor, targets: Tensor, share: float) -> Tensor:
        with compute_in(self.device, self.dtype):
            loss = self._loss(tokens, targets) * share
        loss.backward()
        return loss.detach()

    def step(self, lr: float, loss: Tensor) -> Tensor:
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.train.grad_clip)
        self.optimizer.step(lr, torch.isfinite(loss) & torch.isfinite(norm))  # decided on the device: nothing waits
        self.optimizer.zero_grad()
        return norm

    def forget(self) -> None:
        self.optimizer.zero_grad()

    @torch.inference_mode()
    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        with compute_in(self.device, self.dtype):
            return self.network.loss(tokens, targets)

    def state(self) -> State:
        return self.optimizer.state()

    def load_state(self, state: State) -> None:
        self.optimizer.load_state(state)


def make_update(network: GPT, config: Config) -> Update:
    """The update that the config names. Raises: UnavailableError for the fast one where it cannot be had."""
    how, dtype = config.machine.update or "eager", config.machine.dtype or "float32"
    if how == "fast":
        return ExplicitUpdate(network, config.train, getattr(torch, dtype))
    return AutogradUpdate(network, config.train, dtype, compiled=how == "compiled")


def why_not_fast(device: str, dtype: str, model: ModelConfig | None = None) -> str | None:
    """Why the fast update cannot be had here, in a few words; None if it can. Compiles the kernels if need be."""
    if model and not model.is_gpt2:
        return f"the fast update knows plain GPT-2 only, not {' and '.join(model.departures)}"
    if device != "cpu":
        return f"the fast update is for a CPU, not for {device}"
    try:
        Kernels(getattr(torch, dtype))
    except UnavailableError as error:
        return str(error)
    return None
