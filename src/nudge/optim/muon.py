"""Muon: orthogonalized momentum (Source: Jordan et al. 2024, and Liu et al. 2025 for the scale).

An update is the momentum of a matrix with all its singular values made about equal, so that rare directions in the
gradient are learned as fast as frequent ones. A singular value decomposition would be too slow. Instead a few
polynomials p(x) = a x + b x^3 + c x^5, applied to the matrix itself, move every singular value toward 1 by matrix
products only.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from nudge.distributed.parallel import divide_work, is_sharded, local_rows, row_span, whole_matrices
from nudge.distributed.world import ALONE, World
from nudge.model.sizes import MUON_STACK_NUMBERS as STACK_NUMBERS

Polynomial = tuple[float, float, float]  # a, b, c

JORDAN: tuple[Polynomial, ...] = 5 * ((3.4445, -4.7750, 2.0315),)  # as in PyTorch
# Each step is the odd polynomial of degree 5 that is closest to 1: the first step on [0.01, 1], each later step on the
# values of the step before, an interval made 2% wider for rounding errors (Source: Amsel et al. 2025, for five steps or
# more). The steps map [0.01, 1] into [0.72, 1.28]. Three steps learn almost as well as Jordan's five:
# docs/decisions/0004-modern.md.
STEPS: tuple[Polynomial, ...] = (
    (8.0934, -23.6204, 17.4462),
    (3.5779, -2.5779, 0.4886),
    (2.6461, -1.9024, 0.4183),
)
MOMENTUM = 0.95


def scale(n: int, m: int) -> float:
    """Return the factor that gives an orthogonalized [n, m] (or [m, n]) the size of AdamW's updates."""
    return 0.2 * math.sqrt(max(n, m))


def orthogonalize(update: Tensor, steps: Sequence[Polynomial] = STEPS, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return matrices [S, n, m] with the singular vectors of `update` and singular values of about 1, in `dtype`."""
    tall = update.size(-2) > update.size(-1)
    X = update.mT if tall else update
    X = (X / X.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-30)).to(dtype)
    gram = X @ X.mT
    bound = gram.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-30)  # of the squared singular values
    X, gram = X / bound.sqrt(), gram / bound
    for i, (a, b, c) in enumerate(steps):
        if i > 0:
            gram = X @ X.mT
        X = torch.baddbmm(X, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), X, beta=a)
    return X.mT if tall else X


class Muon:
    """Orthogonalized Nesterov momentum with decoupled weight decay. Matrices of the same shape are computed together.

    nudge.fast.flat_params is the fast version, with C kernels.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        weight_decay: float,
        dtype: torch.dtype,
        steps: Sequence[Polynomial] = STEPS,
        world: World = ALONE,
    ) -> None:
        self.weight_decay = weight_decay
        self.dtype = dtype
        self.steps = steps
        self.world = world
        self.stacks = _group_by_shape(parameters, world.size)
        self.momentum: list[Tensor] = []  # [matrices, n, m] for each stack; allocated at the first step

    @torch.no_grad()
    def step(self, lr: float, finite: Tensor) -> None:
        """Update the parameters and the momentum; if `finite` (a bool) is False, change neither."""
        if not self.momentum:
            self._make_momentum()
        go = finite.float()
        for parameters, momentum in zip(self.stacks, self.momentum, strict=True):
            # Mask, because NaN and infinity times 0 are NaN.
            gradient = torch.stack([local_rows(_gradient(p)) for p in parameters]).masked_fill_(~finite, 0.0)
            momentum.lerp_(gradient, (1 - MOMENTUM) * go)
            update = self._orthogonalize_together(gradient.lerp_(momentum, MOMENTUM), parameters[0])
            update = update.float().mul_(go * (lr * scale(*parameters[0].shape)))
            for parameter, change in zip(parameters, update, strict=True):
                local_rows(parameter).mul_(1 - go * (lr * self.weight_decay)).sub_(change)

    def _orthogonalize_together(self, updates: Tensor, example: Tensor) -> Tensor:
        """Orthogonalize updates [S, n, m], dividing the stack among the processes.

        `example`: any parameter of the stack. If it is sharded, gather all rows of the updates first, and return only
        this process's rows.
        """
        whole = whole_matrices(updates, len(example), self.world) if is_sharded(example) else updates
        directions = divide_work(lambda stack: orthogonalize(stack, self.steps, self.dtype), whole, self.world)
        return directions[:, row_span(example)]

    def state(self) -> dict[Tensor, dict[str, Tensor]]:
        """Return the momentum of each parameter, not copied; empty before the first step."""
        return {
            parameter: {"momentum_buffer": buffer}
            for parameters, momentum in zip(self.stacks, self.momentum, strict=False)
            for parameter, buffer in zip(parameters, momentum.unbind(0), strict=True)
        }

    def load(self, state: Mapping[Tensor, dict[str, Tensor]]) -> None:
        """Restore the momentum from a saved `state()`."""
        self._make_momentum()
        for parameters, momentum in zip(self.stacks, self.momentum, strict=True):
            for parameter, buffer in zip(parameters, momentum, strict=True):
                buffer.copy_(state[parameter]["momentum_buffer"])

    def _make_momentum(self) -> None:
        self.momentum = [torch.zeros_like(torch.stack([local_rows(p) for p in stack])) for stack in self.stacks]


def _group_by_shape(parameters: Iterable[Tensor], n_processes: int) -> list[list[Tensor]]:
    """Group parameters of the same shape, in groups of at most STACK_NUMBERS numbers for each process."""
    by_shape: dict[torch.Size, list[Tensor]] = {}
    for parameter in parameters:
        by_shape.setdefault(parameter.shape, []).append(parameter)
    stacks = []
    for shape, same_shape in by_shape.items():
        size = n_processes * max(1, STACK_NUMBERS // shape.numel())
        stacks += [same_shape[start : start + size] for start in range(0, len(same_shape), size)]
    return stacks


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None, "every parameter needs a gradient"
    return parameter.grad
