"""Waiting for what other processes do: on a condition, and as long as a busy machine may need."""

import time
from collections.abc import Callable

LONG_S = 300  # a test fails rather than waits for ever; a machine that is busy with other work is no failure


def wait_until(happened: Callable[[], object], what: str, *, timeout_s: float = LONG_S) -> None:
    """Wait for a condition. Fails with `what` was waited for."""
    end = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < end, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.02)
