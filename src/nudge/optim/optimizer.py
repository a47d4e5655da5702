"""AdamW, alone or with Muon for the hidden matrices, behind one interface.

The state has parameter names as keys (`{"wte.weight": {"exp_avg": ...}}`), so that a checkpoint depends neither on the
order of the parameters nor on the implementation of the update.
"""

import torch
from torch import Tensor

from nudge.config import TrainConfig
from nudge.distributed.parallel import local_rows, row_span
from nudge.distributed.world import ALONE, World
from nudge.errors import CheckpointError
from nudge.model.gpt import GPT
from nudge.optim.muon import Muon
from nudge.runs.checkpoint import OptimizerState

EPS = 1e-8
FUSED = ("cpu", "cuda")  # where AdamW is one kernel, which heeds found_inf


class Optimizer:
    """The optimizer of a network: each step changes every parameter a little, against its gradient.

    AdamW (Source: Loshchilov & Hutter 2019) has two groups: matrices decay, biases and norms do not. With
    `optimizer="muon"` the matrices of the blocks use orthogonalized momentum instead (Source: Jordan et al. 2024),
    scaled so that both can share one learning rate. `dtype` is the dtype of Muon's matrix products.
    """

    def __init__(self, network: GPT, train: TrainConfig, dtype: str = "float32", world: World = ALONE) -> None:
        self.parameters = dict(network.named_parameters())
        by_muon = train.optimizer == "muon"
        self.hidden = {n: p for n, p in self.parameters.items() if by_muon and is_hidden_matrix(n, p)}
        # AdamW updates each number independently, so of a sharded parameter it gets only this process's rows.
        self.by_adamw = {n: local_rows(p) for n, p in self.parameters.items() if n not in self.hidden}
        groups = [
            {"params": [p for p in self.by_adamw.values() if p.dim() > 1], "weight_decay": train.weight_decay},
            {"params": [p for p in self.by_adamw.values() if p.dim() == 1], "weight_decay": 0.0},
        ]
        self.fused = next(network.parameters()).device.type in FUSED
        betas = (train.beta1, train.beta2)
        self.adamw = torch.optim.AdamW(groups, lr=train.lr, betas=betas, eps=EPS, fused=self.fused)
        self.muon = Muon(self.hidden.values(), train.weight_decay, getattr(torch, dtype), world=world)

    def step(self, lr: float, finite: Tensor) -> None:
        """Update the parameters from their gradients; if `finite` (a bool) is False, change nothing.

        `finite` is a tensor on the device, so that the host does not have to wait for a kernel that heeds it.
        """
        for name, local_shard in self.by_adamw.items():
            gradient = self.parameters[name].grad
            if local_shard is not self.parameters[name]:  # AdamW updates the shard, so give it the shard's gradient
                local_shard.grad = None if gradient is None else local_rows(gradient)
        if self.fused:
            self.adamw.found_inf = (~finite).float()  # type: ignore[attr-defined]  # if 1, the kernel does nothing
        elif not finite:  # here the host does wait
            return
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()
        self.muon.step(lr, finite)

    def zero_grad(self) -> None:
        """Delete the gradients."""
        for parameter in (*self.parameters.values(), *self.by_adamw.values()):
            parameter.grad = None

    def state(self) -> OptimizerState:
        """Return the moments by parameter name, not copied; for sharded parameters only this process's rows."""
        moments: dict[Tensor, dict[str, Tensor]] = {**self.adamw.state, **self.muon.state()}
        keys = {name: self.by_adamw.get(name, parameter) for name, parameter in self.parameters.items()}
        return {name: dict(moments[key]) for name, key in keys.items() if key in moments}

    def load_state(self, state: OptimizerState, *, of_parts: bool = False) -> None:
        """Restore a saved `state()`. `of_parts`: it has only this process's rows.

        Raises: CheckpointError if it belongs to another model or optimizer.
        """
        if not state:
            return
        parts = {}
        for name, parameter in self.parameters.items():
            moments = moments_of(state, name, by_muon=name in self.hidden)
            rows = slice(None) if of_parts else row_span(parameter)
            parts[name] = {key: value[rows] if value.dim() else value for key, value in moments.items()}
        for name, part in self.by_adamw.items():
            self.adamw.state[part] = {key: value.to(part.device, copy=True) for key, value in parts[name].items()}
        self.muon.load({p: parts[name] for name, p in self.hidden.items()})

    def blank_state(self) -> OptimizerState:
        """Return zeros in the shapes of this process's state, to be filled from a checkpoint."""
        blank: OptimizerState = {}
        for name, parameter in self.parameters.items():
            keys = ("momentum_buffer",) if name in self.hidden else ("exp_avg", "exp_avg_sq")
            blank[name] = {key: torch.zeros_like(local_rows(parameter)) for key in keys}
            if name not in self.hidden:
                blank[name]["step"] = torch.zeros(())
        return blank


def moments_of(state: OptimizerState, name: str, *, by_muon: bool) -> dict[str, Tensor]:
    """Return the moments of one parameter. Raises: CheckpointError if they belong to another model or optimizer."""
    moments = state.get(name, {})
    if moments.keys() != ({"momentum_buffer"} if by_muon else {"step", "exp_avg", "exp_avg_sq"}):
        raise CheckpointError("no_optimizer_state", name=name)
    return moments


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Return whether Muon updates a parameter: it is a matrix inside a block."""
    return name.startswith("blocks.") and parameter.dim() == 2
