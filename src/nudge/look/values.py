"""The values of tensors: their distribution, and the similar rows of a table.

Counts cover all values; a tensor is read piece by piece.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nudge.errors import ConfigError
from nudge.look.arguments import check_number

PIECE = 2**17  # values read at once: 1 MB as float64, which fits in the processor's cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """The distribution of a tensor's finite values; mean, std, low and high are NaN if there are none.

    `counts` has one entry per bin, `edges` one more. `std` divides by n.
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
    """A token whose row has a similar direction: cosine 1 is the same direction, 0 a right angle."""

    token: int
    cosine: float


def neighbours(table: Tensor, token: int, k: int = 8) -> tuple[Neighbour, ...]:
    """Return the k tokens whose rows are most similar to the row of `token`, by the cosine of their angle.

    Shapes: table [V, C]. A row that is zero or not finite has no direction, so it has no similar rows.

    Raises: ConfigError if there is no such row.
    """
    if table.dim() != 2:
        raise ConfigError("not_a_table", shape=list(table.shape))
    check_number("token", token, len(table))
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


def pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Yield all values in float64, PIECE at a time, so that a mapped tensor is never in memory as a whole."""
    for piece in tensor.detach().flatten().split(PIECE):
        yield piece.double()


def relative_change(moved: float, size: float) -> float:
    """Return |dW|/|W| from |dW|^2 and |W|^2; infinite if W was zero and has changed."""
    if size == 0:
        return math.inf if moved > 0 else 0.0 if moved == 0 else math.nan
    return math.sqrt(moved / size)


def _finite(piece: Tensor) -> Tensor:
    """Return the finite values. A finite sum, which is fast, shows that all are finite."""
    return piece if piece.sum().isfinite() else piece[piece.isfinite()]


def histogram_of(name: str, tensor: Tensor, bins: int) -> Histogram:
    """Compute a histogram in two passes: range and mean, then the bins and the standard deviation."""
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
    # A single value, once or many times, is in the middle.
    first, last = (low, high) if low < high else (mean - 0.5, mean + 0.5) if n_finite else (-0.5, 0.5)
    counts, spread = torch.zeros(bins, dtype=torch.float64), 0.0
    for piece in pieces(tensor):
        finite = _finite(piece)
        counts += torch.histc(finite, bins, first, last)
        deviations = finite - mean
        spread += torch.dot(deviations, deviations).item()
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
