"""Both languages say the same things."""

import re
import string

import pytest

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
