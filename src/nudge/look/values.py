"""The values of tensors: how they are distributed, which rows of a table are alike, how far training moved them.

Every count is over all values; a tensor is read a piece at a time.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nudge.errors import ConfigError
from nudge.look.parameters import Group, Parameter

if TYPE_CHECKING:
    from nudge.look.inspection import Weights

PIECE = 2**17  # values that are looked at together: 1 MB as float64, which stays in the processor's cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """The distribution of a tensor's finite values; mean, std, low and high are NaN if it has none.

    `counts` has one entry per bin, `edges` one more. `std` is that of the values themselves (divided by n).
    """

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    mean: float
    std: float
    low: float
    high: float
    norm: float
    n: int
    n_not_finite: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A token whose row points in nearly the same direction: cosine 1 is the same, 0 a right angle."""

    token: int
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How far one parameter moved: |dW|/|W| (infinite from zero), and the largest change of a single value."""

    name: str
    group: Group
    relative: float
    largest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What changed from one checkpoint to another.

    `parts` has |dW|/|W| of wte, wpe, attention, mlp, norms, head and other, as far as there are any. What does not fit
    is listed: names that only one of them has, and (name, shape before, shape after).
    """

    changes: tuple[Change, ...]
    parts: dict[str, float]
    total: float
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    other_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]


def neighbours(table: Tensor, token: int, k: int = 8) -> tuple[Neighbour, ...]:
    """The tokens whose rows are most alike to that of `token`, by the cosine of the angle between them.

    Shapes: table [V, C]. A row that is zero, or not finite, has no direction: it is nobody's neighbour and has none.

    Raises: ConfigError if there is no such row.
    """
    if table.dim() != 2:
        raise ConfigError(
            f"neighbours are rows of a table [V, C], got the shape {list(table.shape)}", "take wte.weight"
        )
    if not 0 <= token < len(table):
        raise ConfigError(f"token {token} has no row in a table of {len(table):,}", f"0 .. {len(table) - 1}")
    row = table[token].detach().double()
    cosines = []
    for rows in table.detach().split(max(1, PIECE // max(1, table.size(1)))):
        rows = rows.double()
        cosines.append(rows @ row / (rows.norm(dim=1) * row.norm()))
    cosine = torch.cat(cosines)
    cosine[token] = math.nan
    nearest = cosine.nan_to_num(nan=-math.inf).topk(min(k, int(cosine.isfinite().sum())))
    return tuple(
        Neighbour(token=token, cosine=max(-1.0, min(1.0, value)))
        for token, value in zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True)
    )


def difference(before: "Weights", after: "Weights") -> Difference:
    """How far each parameter is from what it was, one tensor of each at a time. Raises: CheckpointError."""
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
        relative = _ratio(moved, size)
        changes.append(Change(name=name, group=parameter.group, relative=relative, largest=largest))
        part = _part(parameter)
        sums[part] = (sums.get(part, (0.0, 0.0))[0] + moved, sums.get(part, (0.0, 0.0))[1] + size)
    return Difference(
        changes=tuple(changes),
        parts={part: _ratio(*both) for part, both in sums.items()},
        total=_ratio(sum(moved for moved, _ in sums.values()), sum(size for _, size in sums.values())),
        only_before=tuple(name for name in old if name not in new),
        only_after=tuple(name for name in new if name not in old),
        other_shape=tuple(other_shape),
    )


def _part(parameter: Parameter) -> str:
    """The group, with the two embeddings told apart: tokens and positions move very differently."""
    if parameter.group == "embedding":
        return parameter.name.partition(".")[0]
    return "norms" if parameter.group == "norm" else parameter.group


def _distance(before: Tensor, after: Tensor) -> tuple[float, float, float]:
    """|dW|^2, |W|^2 of `before`, and the largest change."""
    moved, size, largest = 0.0, 0.0, torch.zeros((), dtype=torch.float64)
    for old, new in zip(pieces(before), pieces(after), strict=True):
        if len(old):
            change = (new - old).abs()
            moved += change.square().sum().item()
            size += old.square().sum().item()
            largest = torch.maximum(largest, change.max())  # unlike Python's max, it keeps a NaN
    return moved, size, largest.item()


def _ratio(moved: float, size: float) -> float:
    """|dW|/|W| from their squares."""
    if size == 0:
        return math.inf if moved > 0 else 0.0 if moved == 0 else math.nan
    return math.sqrt(moved / size)


def pieces(tensor: Tensor) -> Iterator[Tensor]:
    """All values in float64, PIECE at a time: what is mapped from a file is never in memory as a whole."""
    for piece in tensor.detach().flatten().split(PIECE):
        yield piece.double()


def _finite(piece: Tensor) -> Tensor:
    """Its finite values. A finite sum says that all are, in a fraction of the time."""
    return piece if piece.sum().isfinite() else piece[piece.isfinite()]


def histogram_of(name: str, tensor: Tensor, bins: int) -> Histogram:
    """Two passes: the range and the mean first, then the bins and the spread around the mean."""
    n_finite, total, squares, low, high = 0, 0.0, 0.0, math.inf, -math.inf
    for piece in pieces(tensor):
        finite = _finite(piece)
        if len(finite):
            n_finite += len(finite)
            total += finite.sum().item()
            squares += torch.dot(finite, finite).item()
            low, high = min(low, finite.min().item()), max(high, finite.max().item())
    if not n_finite:
        low = high = math.nan
    mean = total / n_finite if n_finite else math.nan
    # One value, or one value many times: bins of a width that shows it in the middle.
    first, last = (low, high) if low < high else (mean - 0.5, mean + 0.5) if n_finite else (-0.5, 0.5)
    counts, spread = torch.zeros(bins, dtype=torch.float64), 0.0
    for piece in pieces(tensor):
        finite = _finite(piece)
        counts += torch.histc(finite, bins, first, last)
        away = finite - mean
        spread += torch.dot(away, away).item()
    return Histogram(
        name=name,
        edges=tuple(torch.linspace(first, last, bins + 1, dtype=torch.float64).tolist()),
        counts=tuple(int(count) for count in counts.tolist()),
        mean=mean,
        std=math.sqrt(spread / n_finite) if n_finite else math.nan,
        low=low,
        high=high,
        norm=math.sqrt(squares),
        n=tensor.numel(),
        n_not_finite=tensor.numel() - n_finite,
    )
