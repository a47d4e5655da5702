"""Tokens and text of a model as the user can read them: control and invisible characters become visible."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nudge.data import tokenizer as tokenizers
from nudge.data.tokenizer import shown_token
from nudge.util.terminal_text import make_readable, visible_bytes


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"def", "def"),
        (b" os\n\t", "·os⏎⇥"),
        ("한글".encode(), "한글"),
        ("한".encode()[:2], "<ED 95>"),
        (b"a\xed\x95b\x80", "a<ED 95>b<80>"),
        (b"\x00\x1b[31m\x7f\r", "␀␛[31m␡␍"),
        ("\u0085".encode(), "<C2 85>"),
        ("\u202e\u200b".encode(), "<E2 80 AE><E2 80 8B>"),
        ("\ufffd".encode(), "<EF BF BD>"),
        ("·⏎".encode(), "<C2 B7><E2 8F 8E>"),  # these signs stand for a space and a line break
        ("\u0301".encode(), "◌\u0301"),
        ("\u1161\u11a8".encode(), "◌\u1161\u11a8"),  # without its first consonant
        ("\u1100\u1161".encode(), "\u1100\u1161"),
        (b"", ""),
    ],
)
def test_shown(data: bytes, expected: str) -> None:
    assert visible_bytes(data) == expected


def test_every_byte_can_be_seen_and_no_two_look_alike() -> None:
    table = [visible_bytes(bytes([byte])) for byte in range(256)]
    assert len(set(table)) == 256
    assert all(text.isprintable() and text.strip() and "\ufffd" not in text for text in table)


def test_tokens_without_text() -> None:
    tokenizer = tokenizers.get("bytes")
    assert [shown_token(tokenizer, token) for token in (97, 32, 256, 300)] == ["a", "·", "<|endoftext|>", "<id 300>"]


def test_the_special_tokens_of_a_published_vocabulary(shared_data: Path) -> None:
    tokenizer = tokenizers.get(str(shared_data / "cl100k_base.tiktoken"))
    assert shown_token(tokenizer, 100258) == "<|fim_prefix|>"
    assert shown_token(tokenizer, 100261) == "<id 100261>"  # an id that the vocabulary leaves out
    assert shown_token(tokenizer, 3962) == "·Post"


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
    assert make_readable(text) == expected


@given(st.text())
def test_readable_text_can_always_be_sent(text: str) -> None:
    shown = make_readable(text)
    shown.encode("utf-8")
    assert not any(ord(character) < 32 and character not in "\n\t" for character in shown)
    assert make_readable(shown) == shown
