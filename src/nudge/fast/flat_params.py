"""All parameters of a network in one array, and AdamW and Muon on that array: the optimizer of the fast update.

With one array instead of a hundred tensors, a gradient is written directly to the place that the optimizer reads, and a
step takes a few passes over memory, however many layers there are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nudge.config import TrainConfig
from nudge.distributed.parallel import divide_work
from nudge.distributed.world import ALONE, World
from nudge.fast.gram_steps import orthogonalize
from nudge.fast.kernels import Kernels
from nudge.model.gpt import GPT
from nudge.optim import muon
from nudge.optim.optimizer import EPS, is_hidden_matrix, moments_of
from nudge.runs.checkpoint import OptimizerState

ALIGNMENT = 64  # numbers: each group, and each row of logits, starts at a multiple of this


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that are adjacent in memory and updated in the same way."""

    names: tuple[str, ...]
    span: slice
    weight_decay: float
    by_muon: bool  # if True, all are [n_in, n_out] matrices of the same shape


class FlatParameters:
    """Three arrays: weights in float32, weights in `compute_dtype` for the products, gradients in `compute_dtype`.

    The network's own parameters become views of the float32 array.
    """

    def __init__(self, network: GPT, train: TrainConfig, compute_dtype: torch.dtype) -> None:
        parameters = dict(network.named_parameters())
        self.shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self.starts: dict[str, int] = {}
        self.groups: list[Group] = []
        hidden = [name for name, p in parameters.items() if train.optimizer == "muon" and is_hidden_matrix(name, p)]
        rest = [name for name in parameters if name not in hidden]
        size = 0
        size = self._append([n for n in rest if len(self.shapes[n]) > 1], size, train.weight_decay)
        size = self._append([n for n in rest if len(self.shapes[n]) == 1], size, 0.0)
        self.n_adamw = size
        for shape in dict.fromkeys(self.shapes[name] for name in hidden):
            same = [name for name in hidden if self.shapes[name] == shape]
            size = self._append(same, size, train.weight_decay, by_muon=True)
        self.weights = torch.zeros(size)
        for name, parameter in parameters.items():
            view = self.view(self.weights, name)
            parameter.data = view.copy_(parameter.data)
        self.compute_weights = self.weights if compute_dtype == torch.float32 else self.weights.to(compute_dtype)
        self.grads = torch.zeros(size, dtype=compute_dtype)

    def _append(self, names: Sequence[str], start: int, weight_decay: float, *, by_muon: bool = False) -> int:
        """Add a group of parameters at `start`; return its end, where the next group starts."""
        end = start
        for name in names:
            self.starts[name] = end
            end += self.shapes[name].numel() if name != "wte.weight" else self.padded_vocabulary * self.shapes[name][1]
        end = _align(end)
        self.groups.append(Group(tuple(names), slice(start, end), weight_decay, by_muon))
        return end

    @property
    def padded_vocabulary(self) -> int:
        """The number of rows of `wte` with rows of zeros added, so that each row of logits starts on a cache line."""
        return _align(self.shapes["wte.weight"][0])

    def view(self, array: Tensor, name: str, *, padded: bool = False) -> Tensor:
        """Return a parameter's part of `array`, in its shape; `padded` includes the rows of zeros after `wte`."""
        shape = self.shapes[name]
        if padded and name == "wte.weight":
            shape = torch.Size((self.padded_vocabulary, shape[1]))
        return array[self.starts[name] : self.starts[name] + shape.numel()].view(shape)


class FlatOptimizer:
    """AdamW, alone or with Muon for the hidden matrices, on flat arrays: the fast version of nudge.optim.optimizer."""

    def __init__(self, flat: FlatParameters, train: TrainConfig, kernels: Kernels, world: World = ALONE) -> None:
        self.flat = flat
        self.world = world
        self.train = train
        self.kernels = kernels
        self.n_steps = 0
        self.first = torch.zeros(len(flat.weights))  # AdamW's first moments, then Muon's momentum
        self.second = torch.zeros(flat.n_adamw)

    def step(self, lr: float, clip: float, earlier: Tensor | None) -> None:
        """Update each weight from its gradient times `clip`. `earlier`: summed gradients of all passes but the last."""
        self.n_steps += 1
        for group in self.flat.groups:
            (self._muon if group.by_muon else self._adamw)(group, lr, clip, earlier)

    def _adamw(self, group: Group, lr: float, clip: float, earlier: Tensor | None) -> None:
        """Update a group of parameters with AdamW."""
        flat, train, span = self.flat, self.train, group.span
        self.kernels.adamw(
            span.stop - span.start,
            flat.weights[span],
            self.first[span],
            self.second[span],
            flat.grads[span],
            None if earlier is None else earlier[span],
            flat.compute_weights[span],
            clip,
            lr,
            train.beta1,
            train.beta2,
            EPS,
            group.weight_decay,
            1 - train.beta1**self.n_steps,
            1 - train.beta2**self.n_steps,
        )

    def _muon(self, group: Group, lr: float, clip: float, earlier: Tensor | None) -> None:
        """Update a group of matrices with Muon; the processes divide the orthogonalization."""
        flat, span, n = self.flat, group.span, group.span.stop - group.span.start
        update = torch.empty(n)
        sums = None if earlier is None else earlier[span]
        self.kernels.momentum(n, self.first[span], flat.grads[span], sums, clip, muon.MOMENTUM, update)
        n_in, n_out = flat.shapes[group.names[0]]
        matrices = update[: len(group.names) * n_in * n_out].view(-1, n_in, n_out)
        direction = divide_work(lambda part: orthogonalize(part, flat.compute_weights.dtype), matrices, self.world)
        rate = lr * muon.scale(n_in, n_out)
        self.kernels.step(
            direction.numel(),
            flat.weights[span],
            direction,
            flat.compute_weights[span],
            rate,
            1 - lr * group.weight_decay,
        )

    def state(self) -> OptimizerState:
        """Return views of the moments by parameter name, named as in nudge.optim; empty before the first step."""
        return self._views() if self.n_steps else {}

    def _views(self) -> OptimizerState:
        """Return views of the moments by parameter name, and the step count, a copy."""
        state: OptimizerState = {}
        for group in self.flat.groups:
            for name in group.names:
                first = self.flat.view(self.first, name)
                if group.by_muon:
                    state[name] = {"momentum_buffer": first}
                else:
                    second = self.flat.view(self.second, name)
                    state[name] = {"step": torch.tensor(float(self.n_steps)), "exp_avg": first, "exp_avg_sq": second}
        return state

    def load_state(self, state: OptimizerState) -> None:
        """Restore the moments and the step count that `state()` returned.

        Raises: CheckpointError if they belong to another model or optimizer.
        """
        if not state:
            return
        for name, views in self._views().items():
            for key, value in moments_of(state, name, by_muon="momentum_buffer" in views).items():
                if key == "step":
                    self.n_steps = int(value)
                else:
                    views[key].copy_(value)


def _align(n: int) -> int:
    """Round n up to a multiple of ALIGNMENT."""
    return math.ceil(n / ALIGNMENT) * ALIGNMENT
