"""Statistics of a few timings: the median, the spread, and the interval of a ratio."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

RESAMPLES = 10_000
FEW = 5  # rounds; with fewer, resampling is not better than the range of the ratios


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, the lowest and the highest of some figures."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of speeds with its 95% interval, or with its range if there are few rounds."""

    ratio: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of at least one figure."""
    return Spread(median(values), min(values), max(values))


def ratio(ours: Sequence[float], others: Sequence[float]) -> Ratio:
    """Return the median of `ours[i] / others[i]`, with its 95% interval by the bootstrap over the rounds.

    More is better in both. The figures of a round are measured one right after the other, so a slowdown of the machine
    affects both and cancels out in their ratio. Source: Efron & Tibshirani 1993, percentile interval.
    """
    assert len(ours) == len(others) > 0, "there is one of each per round"
    ratios = [our_figure / other for our_figure, other in zip(ours, others, strict=True)]
    if len(ratios) < FEW:
        return Ratio(median(ratios), min(ratios), max(ratios))
    rng = random.Random(0)  # so that the same figures give the same interval
    medians = sorted(median(rng.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return Ratio(median(ratios), medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1])
