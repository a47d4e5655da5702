"""Which lines Python's own tokenizer accepts."""

import inspect

import pytest

from nudge.look import python_text
from nudge.look.python_text import accepted_lines


@pytest.mark.parametrize(
    "line", ["def f(self, x):", "    return {", "x = 'it is'", "# a comment, don't mind", "else:", "a = b if c else d)"]
)
def test_accepted(line: str) -> None:
    assert accepted_lines(line) == (1, 1)


@pytest.mark.parametrize("line", ["it's not closed", "a ? b", "$x", 'say "hello', "x = €"])
def test_refused(line: str) -> None:
    assert accepted_lines(line) == (0, 1)


def test_blank_lines_do_not_count() -> None:
    assert accepted_lines("\n\n  \nx = 1\n") == (1, 1)
    assert accepted_lines("") == (0, 0)


def test_real_code_is_accepted_and_noise_is_not() -> None:
    good, lines = accepted_lines(inspect.getsource(python_text))
    assert good / lines > 0.85  # lines inside of docstrings may hold an apostrophe
    noise = "\n".join(bytes(range(33 + i, 127 - i)).decode() for i in range(20))
    good, lines = accepted_lines(noise)
    assert good / lines < 0.2
