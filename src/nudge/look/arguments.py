"""Checks of arguments that several functions of this package have."""

from collections.abc import Sequence

from nudge.errors import ConfigError


def check_at_least(name: str, value: int, least: int = 1) -> None:
    """Check the lower bound of a setting that has a default. Raises: ConfigError."""
    if value < least:
        raise ConfigError("below_minimum", name=name, got=value, least=least)


def check_number(name: str, number: int, n: int) -> None:
    """Check that a number is below `n`, for example a head's. Raises: ConfigError."""
    if not 0 <= number < n:
        raise ConfigError("no_such_number", name=name, got=number, last=n - 1)


def check_index(name: str, index: Sequence[int], shape: Sequence[int]) -> None:
    """Check that a tensor of this shape has a value at `index`. Raises: ConfigError."""
    if len(index) != len(shape) or not all(0 <= i < n for i, n in zip(index, shape, strict=True)):
        last = [n - 1 for n in shape]
        raise ConfigError("no_such_index", name=name, got=list(index), shape=list(shape), last=last)
