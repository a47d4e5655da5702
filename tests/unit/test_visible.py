"""Text of a model is shown as it is, and what would be obeyed or not be seen is made visible."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nudge.data.visible import readable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f():\n\treturn 1", "def f():\n\treturn 1"),
        ("어느 날\u3000", "어느 날\u3000"),
        ("a\x00b\x1b[31m", "a\u2400b\u241b[31m"),
        ("\u202egnirts", "<E2 80 AE>gnirts"),
        ("\u200b", "<E2 80 8B>"),
        ("\udc80", "<ED B2 80>"),
        ("half \ufffd", "half \ufffd"),
        ("<b>&amp;", "<b>&amp;"),
        ("·", "·"),
    ],
)
def test_readable(text: str, expected: str) -> None:
    assert readable(text) == expected


@given(st.text())
def test_readable_text_can_always_be_sent(text: str) -> None:
    shown = readable(text)
    shown.encode("utf-8")
    assert not any(ord(character) < 32 and character not in "\n\t" for character in shown)
    assert readable(shown) == shown
