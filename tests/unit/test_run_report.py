"""The report of a finished run."""

import pytest

from nudge.cli.run_report import share_known


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("def is_open(self): return 42", 1),
        ("returnself def", 0.5),  # words that ran into each other are none
        ("글자를 세는 낱맒", 2 / 3),
        ("?! 1 x", 0),
        ("", 0),
    ],
)
def test_words_that_ran_together_or_are_misspelled_are_not_known(text: str, share: float) -> None:
    assert share_known(text, {"def", "is", "open", "self", "return", "글자를", "세는"}) == pytest.approx(share)
