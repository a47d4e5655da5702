"""Both languages have the same texts, and errors are translated by their codes."""

import re
import string

import pytest

from nudge import errors
from nudge.studio.words import LANGUAGES, Words, preferred_language, texts


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_languages_have_the_same_keys_and_fields() -> None:
    english = {key: fields(text) for key, text in texts("en").items()}
    for language in LANGUAGES:
        found = {key: fields(text) for key, text in texts(language).items() if not key.startswith("error.")}
        assert found == english


def test_translated_errors_are_errors_with_the_same_values() -> None:
    for key, text in texts("ko").items():
        if key.startswith("error."):
            _, family, name, part = key.split(".")
            wording = errors.catalog()[family][name]
            assert part in wording
            assert fields(text) <= {field for words in wording.values() for field in fields(words)}


def test_an_error_is_shown_in_the_language_of_the_page() -> None:
    error = errors.ConfigError("not_an_index", text="x", n=2)
    assert Words("ko").failure(error) == (
        "“x”은(는) 인덱스가 아닙니다",
        "차원 2개에 숫자 하나씩 씁니다. 예: 3, 17",
    )
    assert Words("en").failure(error) == (error.message, error.hint)
    other = errors.MachineError("busy")
    assert Words("ko").failure(other) == (other.message, other.hint)


def test_whole_numbers_get_their_commas() -> None:
    assert Words("en")("weights.nearest_note", n=50257) == "cosine of the angle between rows, over all 50,257 tokens"
    assert Words("en")("play.id", id="50257") == "id 50257"


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
    assert preferred_language(header) == language
