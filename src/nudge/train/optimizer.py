"""AdamW, alone or with Muon for the hidden matrices, behind one face.

The state is kept by parameter name (`{"wte.weight": {"exp_avg": ...}}`), so that a checkpoint does not depend on the
order of parameters or on which implementation made the update.
"""

import torch
from torch import Tensor

from nudge.config import TrainConfig
from nudge.errors import CheckpointError
from nudge.model.gpt import GPT
from nudge.train.muon import Muon

State = dict[str, dict[str, Tensor]]
EPS = 1e-8


class Optimizer:
    """One step moves every parameter a little against its gradient.

    AdamW (Source: Loshchilov & Hutter 2019) in two groups: matrices decay, biases and norms do not. With
    `optimizer="muon"`, the hidden matrices of the blocks get orthogonalized momentum instead (Source: Jordan et al.
    2024), in a scale that lets both share one learning rate. `dtype` is that of its matrix products.
    """

    def __init__(self, network: GPT, train: TrainConfig, dtype: str = "float32") -> None:
        self.names = dict(network.named_parameters())
        self.hidden = {n: p for n, p in self.names.items() if train.optimizer == "muon" and is_hidden_matrix(n, p)}
        rest = [p for name, p in self.names.items() if name not in self.hidden]
        groups = [
            {"params": [p for p in rest if p.dim() > 1], "weight_decay": train.weight_decay},
            {"params": [p for p in rest if p.dim() == 1], "weight_decay": 0.0},
        ]
        fused = next(network.parameters()).device.type in ("cpu", "cuda")
        self.adamw = torch.optim.AdamW(groups, lr=train.lr, betas=(train.beta1, train.beta2), eps=EPS, fused=fused)
        self.muon = Muon(self.hidden.values(), train.weight_decay, getattr(torch, dtype))

    def step(self, lr: float, finite: Tensor) -> None:
        """Update the parameters from their gradients, or leave everything untouched where `finite` (a bool) is False.

        `finite` stays on the device: nothing waits for the host.
        """
        self.adamw.found_inf = (~finite).float()  # type: ignore[attr-defined]  # the fused kernel then does nothing
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()
        self.muon.step(lr, finite)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.names.values():
            parameter.grad = None

    def state(self) -> State:
        """The moments by parameter name, as they are in memory (not copied)."""
        moments: dict[Tensor, dict[str, Tensor]] = {**self.adamw.state, **self.muon.state()}
        return {name: dict(moments[p]) for name, p in self.names.items() if p in moments}

    def load_state(self, state: State) -> None:
        """Go on from `state()`. Raises: CheckpointError if it belongs to another model or optimizer."""
        if not state:
            return
        for name, parameter in self.names.items():
            moments = moments_of(state, name, by_muon=name in self.hidden)
            if name not in self.hidden:
                self.adamw.state[parameter] = {
                    key: value.to(parameter.device, copy=True) for key, value in moments.items()
                }
        self.muon.load({p: state[name] for name, p in self.hidden.items()})


def moments_of(state: State, name: str, *, by_muon: bool) -> dict[str, Tensor]:
    """What a checkpoint keeps for one parameter. Raises: CheckpointError if another optimizer wrote it."""
    moments = state.get(name, {})
    if moments.keys() != ({"momentum_buffer"} if by_muon else {"step", "exp_avg", "exp_avg_sq"}):
        raise CheckpointError(
            f"the checkpoint has no optimizer state for {name}",
            "start a new run from its weights: nudge train --init",
        )
    return moments


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon moves it: a matrix inside of a block."""
    return name.startswith("blocks.") and parameter.dim() == 2
