"""What Python's own tokenizer and parser say of lines."""

import inspect

import pytest

from nudge.look import python_text
from nudge.look.python_text import Lines, count_lines


@pytest.mark.parametrize(
    "line",
    [
        "def f(self, x):",
        "x = 'it is'",
        "# a comment, don't mind",
        "else:",
        "elif x > 1:",
        "except ValueError as error:",
        "try:",
        "return x  # a comment",
        "import os",
        "@property",
    ],
)
def test_accepted_by_both(line: str) -> None:
    if line == "@property":  # a decorator alone is half a statement
        assert count_lines(line) == Lines(1, 1, 0)
    else:
        assert count_lines(line) == Lines(1, 1, 1)


@pytest.mark.parametrize("line", ["return {", "a = b if c else d)", "foo Return:", "self self = in", "def 30dbits ="])
def test_words_of_python_without_its_grammar(line: str) -> None:
    assert count_lines(line).parsed == 0


@pytest.mark.parametrize("line", ["it's not closed", "a ? b", "$x", 'say "hello', "x = €"])
def test_refused_by_both(line: str) -> None:
    assert count_lines(line) == Lines(1, 0, 0)


def test_blank_lines_do_not_count() -> None:
    assert count_lines("\n\n  \nx = 1\n") == Lines(1, 1, 1)
    assert count_lines("") == Lines(0, 0, 0)


def test_real_code_is_accepted_and_noise_is_not() -> None:
    real = count_lines(inspect.getsource(python_text))
    assert real.tokenized / real.total > 0.85  # lines inside of docstrings may hold an apostrophe
    assert real.parsed / real.total > 0.6
    noise = count_lines("\n".join(bytes(range(33 + i, 127 - i)).decode() for i in range(20)))
    assert noise.tokenized / noise.total < 0.2
    assert noise.parsed < 3
