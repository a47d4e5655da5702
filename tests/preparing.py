"""Preparations of text, run to their end, for tests of more than one file."""

from collections.abc import Generator
from typing import TypeVar

from nudge.events import Preparing

Made = TypeVar("Made")


def finish(preparing: Generator[Preparing, None, Made]) -> tuple[list[Preparing], Made]:
    """What was said on the way, and what was made."""
    events = []
    while True:
        try:
            events.append(next(preparing))
        except StopIteration as finished:
            return events, finished.value
