"""Errors that a test expects, by their code and values."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from nudge.errors import NudgeError


@contextlib.contextmanager
def refused(code: str, /, **values: Any) -> Iterator[pytest.ExceptionInfo[NudgeError]]:
    """Expect the error with this code and at least these values, in one line and with a hint."""
    with pytest.raises(NudgeError) as caught:
        yield caught
    error = caught.value
    assert error.code == code, error
    assert {name: error.values.get(name) for name in values} == values
    assert "\n" not in error.message
    assert error.hint
