"""Preparations of text, run to their end, for several test files."""

from collections.abc import Generator
from typing import TypeVar

from nudge.events import Preparing

Made = TypeVar("Made")


def finish(preparing: Generator[Preparing, None, Made]) -> tuple[list[Preparing], Made]:
    """Return the events of a preparation, and its result."""
    events = []
    while True:
        try:
            events.append(next(preparing))
        except StopIteration as finished:
            return events, finished.value
