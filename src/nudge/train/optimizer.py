"""AdamW, alone or with Muon for the hidden matrices, behind one face.

The state is kept by parameter name (`{"wte.weight": {"exp_avg": ...}}`), so that a checkpoint does not depend on the
order of parameters or on which implementation made the update.
"""

import torch
from torch import Tensor
from torch.nn import Parameter

from nudge.config import TrainConfig
from nudge.errors import CheckpointError
from nudge.model.gpt import GPT

State = dict[str, dict[str, Tensor]]
EPS = 1e-8


class Optimizer:
    """One step moves every parameter a little against its gradient.

    AdamW (Source: Loshchilov & Hutter 2019) in two groups: matrices decay, biases and norms do not. With
    `optimizer="muon"`, the hidden matrices of the blocks get orthogonalized momentum instead (Source: Jordan et al.
    2024). Muon's usual scaling assumes [out, in] matrices and ours are [in, out]; "match_rms_adamw" (Source: Liu et al.
    2025) depends on the larger side only, is the same both ways round, and lets both share one learning rate.
    """

    def __init__(self, network: GPT, train: TrainConfig) -> None:
        self.names = dict(network.named_parameters())
        muon = {name: p for name, p in self.names.items() if train.optimizer == "muon" and is_hidden_matrix(name, p)}
        rest = [p for name, p in self.names.items() if name not in muon]
        groups = [
            {"params": [p for p in rest if p.dim() > 1], "weight_decay": train.weight_decay},
            {"params": [p for p in rest if p.dim() == 1], "weight_decay": 0.0},
        ]
        fused = next(network.parameters()).device.type in ("cpu", "cuda")
        self.adamw = torch.optim.AdamW(groups, lr=train.lr, betas=(train.beta1, train.beta2), eps=EPS, fused=fused)
        self.muon: torch.optim.Muon | None = None
        if muon:
            self.muon = torch.optim.Muon(
                list(muon.values()), lr=train.lr, weight_decay=train.weight_decay, adjust_lr_fn="match_rms_adamw"
            )

    def step(self, lr: float, finite: Tensor) -> None:
        """Update the parameters from their gradients, or leave everything untouched where `finite` (a bool) is False.

        `finite` stays on the device: nothing waits for the host.
        """
        self.adamw.found_inf = (~finite).float()  # type: ignore[attr-defined]  # the fused kernel then does nothing
        _set_lr(self.adamw, lr)
        self.adamw.step()
        if self.muon is not None:
            _set_lr(self.muon, lr)
            _masked_step(self.muon, finite)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.names.values():
            parameter.grad = None

    def state(self) -> State:
        """The moments by parameter name, as they are in memory (not copied)."""
        return {name: dict(self._of(p).state[p]) for name, p in self.names.items() if p in self._of(p).state}

    def load_state(self, state: State) -> None:
        """Go on from `state()`. Raises: CheckpointError if it belongs to another model or optimizer."""
        for name, parameter in self.names.items():
            moments = state.get(name)
            if state and moments is None:
                raise CheckpointError(
                    f"the checkpoint has no optimizer state for {name}",
                    "start a new run from its weights: nudge train --init",
                )
            if moments is not None:
                self._of(parameter).state[parameter] = {
                    key: value.to(parameter.device, copy=True) for key, value in moments.items()
                }

    def _of(self, parameter: Parameter) -> torch.optim.Optimizer:
        in_muon = self.muon is not None and any(parameter is p for p in self.muon.param_groups[0]["params"])
        return self.muon if in_muon and self.muon is not None else self.adamw


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon moves it: a matrix inside of a block."""
    return name.startswith("blocks.") and parameter.dim() == 2


def _set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


@torch.no_grad()
def _masked_step(optimizer: torch.optim.Optimizer, finite: Tensor) -> None:
    """A step whose effect is taken back where `finite` is False, without asking the device what it is.

    Muon has no `found_inf`. The copies cost a pass over its weights and moments, little beside its matrix products.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    before = [(p.clone(), {key: value.clone() for key, value in optimizer.state[p].items()}) for p in parameters]
    optimizer.step()
    for parameter, (weights, moments) in zip(parameters, before, strict=True):
        parameter.copy_(torch.where(finite, parameter, weights))
        for key, value in optimizer.state[parameter].items():
            value.copy_(torch.where(finite, value, moments.get(key, torch.zeros_like(value))))
