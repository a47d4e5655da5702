"""Both languages have the same texts, and errors are translated by their codes."""

import re
import string
from pathlib import Path

import pytest

from nudge import errors
from nudge.studio.words import LANGUAGES, Words, preferred_language, texts


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_languages_have_the_same_keys_and_fields() -> None:
    english = {key: fields(text) for key, text in texts("en").items()}
    for language in LANGUAGES:
        assert {key: fields(text) for key, text in texts(language).items()} == english


def test_an_error_is_shown_in_the_language_of_the_page() -> None:
    error = errors.ConfigError("prompt_too_long", n_tokens=1500, block_size=1024).within("b.txt: ")
    assert Words("ko").failure(error) == (
        "b.txt: 프롬프트가 1,500토큰인데, 이 모델의 문맥 길이는 1,024토큰입니다",
        "프롬프트를 줄이세요. 모델은 끝부분만 보게 됩니다",
    )
    assert Words("en").failure(error) == (error.message, error.hint)
    untranslated = errors.FormatError("not_found", source="x")  # of a command that no page calls
    assert Words("ko").failure(untranslated) == (untranslated.message, untranslated.hint)


def test_a_phrase_of_ours_within_an_error_is_translated_and_a_users_word_is_not() -> None:
    error = errors.ConfigError("out_of_range", key="train.lr", expected="0 or more", value="a number")
    assert Words("ko").failure(error)[0] == "train.lr 값이 범위를 벗어났습니다: a number (조건: 0 이상)"
    error = errors.DataError("missing", path="tinny", closest=errors.did_you_mean("tinny", ["tiny", "tin"]))
    assert Words("ko").failure(error) == ("찾을 수 없습니다: tinny", "혹시 이것인가요? 'tiny', 'tin'")


def test_a_path_in_a_command_is_quoted_for_the_shell() -> None:
    error = errors.RunError("folder_taken", path=Path("my runs"))
    message, hint = Words("ko").failure(error)
    assert message == "my runs: 이미 실행이 있습니다"
    assert "(nudge resume 'my runs')" in hint


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
