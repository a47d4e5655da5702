"""Both languages say the same things, and numbers are written as people write them."""

import re
import string

import pytest

from nudge.studio import numbers
from nudge.studio.words import LANGUAGES, Words, preferred, texts


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_languages_have_the_same_keys_and_fields() -> None:
    english = texts("en")
    for language in LANGUAGES:
        assert texts(language).keys() == english.keys()
        assert {key: fields(text) for key, text in texts(language).items()} == {
            key: fields(text) for key, text in english.items()
        }


def test_korean_is_korean() -> None:
    english, korean = texts("en"), texts("ko")
    same = {key for key in english if english[key] == korean[key] and re.search("[a-z]{4}", english[key])}
    names = {key for key in same if re.fullmatch(r"[\w.+ -]+", english[key]) and len(english[key].split()) <= 2}
    assert same == names, "these were not translated"


def test_a_missing_key_is_a_bug() -> None:
    with pytest.raises(KeyError):
        Words("en")("predict.nothing_like_this")


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("ko-KR,ko;q=0.9,en-US;q=0.8", "ko"),
        ("en-US,en;q=0.9,ko;q=0.8", "en"),
        ("de-DE,de;q=0.9,ko;q=0.5", "ko"),
        ("de", "en"),
        ("", "en"),
        ("*;q=0.1,;;q=x", "en"),
    ],
)
def test_language_of_a_browser(header: str, language: str) -> None:
    assert preferred(header) == language


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.count(19_961_856), "20.0 M"),
        (numbers.count(19_961_856, "ko"), "1,996만"),
        (numbers.count(124_439_808, "ko"), "1.244억"),
        (numbers.count(1152), "1.15 k"),
        (numbers.count(384), "384"),
        (numbers.percent(0.31234), "31.2%"),
        (numbers.percent(0.00031), "0.031%"),
        (numbers.percent(1e-9), "< 0.0001%"),
        (numbers.percent(0.0), "0%"),
        (numbers.percent(1.0), "100%"),
        (numbers.percent(0.9996), "99.96%"),
        (numbers.percent(0.99949), "99.9%"),
        (numbers.percent(float("nan")), "NaN"),
        (numbers.fixed(-0.314, 2), "−0.31"),
        (numbers.fixed(0.314, 2, sign=True), "+0.31"),
        (numbers.fixed(-0.001, 2, sign=True), "0.00"),
        (numbers.fixed(float("inf")), "∞"),
        (numbers.significant(0.0123456), "0.0123"),
        (numbers.significant(9.996), "10.0"),
        (numbers.significant(1234.5), "1,234"),
        (numbers.significant(0.00000123), "1.23e−6"),
        (numbers.significant(0), "0"),
        (numbers.points(0.0145), "+1.45"),
        (numbers.points(-0.123), "−12.3"),
        (numbers.size(239_600_000), "240 MB"),
        (numbers.size(12), "12 B"),
        (numbers.duration(0.038), "38 ms"),
        (numbers.duration(95), "1 min 35 s"),
        (numbers.duration(5400), "1 h 30 min"),
        (numbers.duration(60), "1 min"),
        (numbers.duration(95, "ko"), "1분 35초"),
        (numbers.duration(9.97), "10 s"),
        (numbers.duration(86_400 * 2 + 3600 * 3), "2 d 3 h"),
    ],
)
def test_numbers(written: str, expected: str) -> None:
    assert written == expected
