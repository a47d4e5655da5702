"""The axes of a chart: round numbers around the values."""

import math
from collections.abc import Sequence

Ticks = tuple[tuple[float, str], ...]

MOST_TICKS = 6
ROUND = (1.0, 2.0, 2.5, 5.0)  # times a power of ten
TOLERANCE = 1e-9  # numbers with a smaller difference are equal


def axis_range_and_ticks(values: Sequence[float]) -> tuple[tuple[float, float], Ticks]:
    """Return the range of an axis and its 4 to 6 ticks. Both ends are ticks, and every value lies between them."""
    low, high = min(values), max(values)
    largest = max(abs(low), abs(high))
    if high - low < TOLERANCE * max(1.0, largest):
        margin = largest / 10 if largest > TOLERANCE else 1.0
        low, high = low - margin, high + margin
    for step in steps(high - low):
        # 0.3 / 0.1 is a little below 3, which must not add one more step.
        first, last = math.floor(low / step + TOLERANCE), math.ceil(high / step - TOLERANCE)
        if last - first < MOST_TICKS:
            return (round_to(first, step), round_to(last, step)), ticks(first, last, step)
    raise AssertionError("steps grow until they span the range")


def ticks_within(low: float, high: float) -> Ticks:
    """Return the ticks, at most 6, of an axis with a given range."""
    for step in steps(high - low):
        first, last = math.ceil(low / step - TOLERANCE), math.floor(high / step + TOLERANCE)
        if last - first < MOST_TICKS:
            return ticks(first, last, step)
    raise AssertionError("steps grow until they span the range")


def steps(span: float) -> list[float]:
    """Return growing round steps, from one with too many ticks to one that covers the span."""
    power = math.floor(math.log10(span / MOST_TICKS))
    return [base * 10.0**exponent for exponent in range(power, power + 3) for base in ROUND]


def ticks(first: int, last: int, step: float) -> Ticks:
    """Return the multiples of a step with labels, which have as many decimals as the step."""
    decimals = next((n for n in range(7) if math.isclose(round(step, n), step, rel_tol=TOLERANCE)), None)
    return tuple(
        (place, f"{place:g}" if decimals is None else f"{place:,.{decimals}f}")
        for place in (round_to(count, step) for count in range(first, last + 1))
    )


def round_to(count: int, step: float) -> float:
    """Return `count` steps without binary rounding errors: 3 * 0.1 is 0.3."""
    return float(f"{count * step:.12g}") + 0.0  # + 0.0: no -0
