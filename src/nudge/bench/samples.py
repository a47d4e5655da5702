"""What a handful of timings says: the middle, the spread, and how sure a ratio is."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

RESAMPLES = 10_000
FEW = 5  # rounds; with fewer, resampling cannot say more than from where to where the ratios went


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some figures, and the lowest and highest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast, and the interval that holds it with 95%; of few rounds, all that was seen."""

    ratio: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """The median of at least one figure, with the lowest and the highest."""
    return Spread(median(values), min(values), max(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """The median of `ours[i] / theirs[i]`, with the 95% interval of the bootstrap over the rounds (of few, the range).

    The figures of a round were measured one right after the other, so what slows the machine down for a while slows
    both and falls out of their ratio. Both are "more is better". Source: Efron & Tibshirani 1993, percentile interval.
    """
    assert len(ours) == len(theirs) > 0, "figures come in pairs, one of each for every round"
    pairs = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    if len(pairs) < FEW:
        return Ratio(median(pairs), min(pairs), max(pairs))
    rng = random.Random(0)  # the same figures give the same interval
    medians = sorted(median(rng.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    return Ratio(median(pairs), medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1])
