"""Statistics of a few timings: the median, the spread, and the interval of a ratio."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

RESAMPLES = 10_000
FEW = 5  # rounds; with fewer, resampling says no more than the range of the ratios


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, the lowest and the highest of some figures."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast, and the 95% interval, or the range if there are few rounds."""

    ratio: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of at least one figure."""
    return Spread(median(values), min(values), max(values))


def ratio(ours: Sequence[float], others: Sequence[float]) -> Ratio:
    """Return the median of `ours[i] / others[i]`, with its 95% interval by the bootstrap over the rounds.

    Both are "more is better". The figures of a round were measured right after each other, so a slowdown of the machine
    affects both and cancels in their ratio. Source: Efron & Tibshirani 1993, percentile interval.
    """
    assert len(ours) == len(others) > 0, "there is one of each per round"
    pairs = [own / other for own, other in zip(ours, others, strict=True)]
    if len(pairs) < FEW:
        return Ratio(median(pairs), min(pairs), max(pairs))
    rng = random.Random(0)  # so that the same figures give the same interval
    medians = sorted(median(rng.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    return Ratio(median(pairs), medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1])
