"""The change of each parameter from one checkpoint to another."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nudge.look.inspection import Weights
from nudge.look.parameters import Group, Parameter
from nudge.look.values import pieces, relative_change


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The change of one parameter: |dW|/|W| (infinite from zero), and the largest change of a single value."""

    name: str
    group: Group
    relative: float
    largest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The changes from one checkpoint to another.

    `parts` has |dW|/|W| of wte, wpe, attention, mlp, norms, head and other, as far as they exist. `other_shape` has
    (name, shape before, shape after).
    """

    changes: tuple[Change, ...]
    parts: dict[str, float]
    total: float
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    other_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]


def difference(before: Weights, after: Weights) -> Difference:
    """Compare two checkpoints, reading one tensor of each at a time. Raises: CheckpointError."""
    old, new = ({p.name: p for p in side.parameters} for side in (before, after))
    changes, other_shape = [], []
    sums: dict[str, tuple[float, float]] = {}  # of each part: |dW|^2, |W|^2
    for name, parameter in new.items():
        if name not in old:
            continue
        if old[name].shape != parameter.shape:
            other_shape.append((name, old[name].shape, parameter.shape))
            continue
        moved, size, largest = _distance(before.tensor(name), after.tensor(name))
        relative = relative_change(moved, size)
        changes.append(Change(name=name, group=parameter.group, relative=relative, largest=largest))
        part = _part(parameter)
        sums[part] = (sums.get(part, (0.0, 0.0))[0] + moved, sums.get(part, (0.0, 0.0))[1] + size)
    return Difference(
        changes=tuple(changes),
        parts={part: relative_change(*both) for part, both in sums.items()},
        total=relative_change(sum(moved for moved, _ in sums.values()), sum(size for _, size in sums.values())),
        only_before=tuple(name for name in old if name not in new),
        only_after=tuple(name for name in new if name not in old),
        other_shape=tuple(other_shape),
    )


def _part(parameter: Parameter) -> str:
    """Return a parameter's group, but wte and wpe by name, because they change very differently."""
    if parameter.group == "embedding":
        return parameter.name.partition(".")[0]
    return "norms" if parameter.group == "norm" else parameter.group


def _distance(before: Tensor, after: Tensor) -> tuple[float, float, float]:
    """Return |dW|^2, |W|^2 of `before`, and the largest change."""
    moved, size, largest = 0.0, 0.0, torch.zeros((), dtype=torch.float64)
    for old, new in zip(pieces(before), pieces(after), strict=True):
        if len(old):
            change = (new - old).abs()
            moved += change.square().sum().item()
            size += old.square().sum().item()
            largest = torch.maximum(largest, change.max())  # unlike Python's max, it keeps a NaN
    return moved, size, largest.item()
