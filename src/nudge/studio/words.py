"""The studio's texts: words/en.toml and words/ko.toml hold the same keys, words/errors.ko.toml those of errors.toml."""

import functools
import re
import tomllib
from importlib import resources
from typing import Any

from starlette.requests import HTTPConnection

from nudge.config import flatten
from nudge.errors import NudgeError
from nudge.util import formatting

LANGUAGES = {"en": "EN", "ko": "한국어"}  # as the switch shows them
DEFAULT = "en"
PHRASES = {"advice", "closest", "expected", "found", "hint", "split", "what"}  # values of errors that may be phrases


class Words:
    """One language: `words("predict.title")`, `words("weights.more_rows", n=24000)`.

    Whole numbers are written with commas; pass an id, an index or a seed as a string.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = texts(language)

    def __call__(self, key: str, /, **values: object) -> str:
        if not values:
            return self._texts[key]
        written = {name: formatting.whole(value) if isinstance(value, int) else value for name, value in values.items()}
        return self._texts[key].format_map(written)

    def has(self, key: str) -> bool:
        return key in self._texts

    def failure(self, error: NudgeError) -> tuple[str, str]:
        """Return an error's message and hint: translated by its code, or else in English."""
        wording = errors(self.language).get(error.family, {}).get(error.name)
        if wording is None:
            return error.message, error.hint
        values = {
            key: self.phrase(one) if key in PHRASES and isinstance(one, str) else one
            for key, one in error.values.items()
        }
        return error.worded(wording, values)

    def phrase(self, english: str) -> str:
        """Return a value that is a phrase of ours, such as "0 or more"; in English if there is no translation."""
        for pattern, translation in errors(self.language).get("phrases", {}).items():
            if match := re.fullmatch(pattern, english):
                return match.expand(translation)
        return english


@functools.cache
def texts(language: str) -> dict[str, str]:
    """Return every text of a language by its full key, such as `predict.title`."""
    return flatten(_read(f"{language}.toml"))


@functools.cache
def errors(language: str) -> dict[str, dict[str, Any]]:
    """Return the wording of errors as `nudge.errors.catalog` does, and `phrases`: none for English."""
    return {} if language == DEFAULT else _read(f"errors.{language}.toml")


def _read(file: str) -> dict[str, Any]:
    source = resources.files("nudge.studio").joinpath("words", file)
    return tomllib.loads(source.read_text(encoding="utf-8"))


def preferred_language(accept_language: str) -> str:
    """Return the language of ours that ranks highest in an Accept-Language header."""
    wishes = []
    for order, part in enumerate(accept_language.lower().split(",")):
        match = re.match(r"\s*([a-z]+)[a-z0-9-]*\s*(?:;\s*q=([0-9.]+))?", part)
        if match and match[1] in LANGUAGES:
            wishes.append((-float(match[2] or 1), order, match[1]))
    return min(wishes)[2] if wishes else DEFAULT


def preferences(request: HTTPConnection) -> tuple[str, str]:
    """Return the language and the theme (light, dark, or "" for the browser's) that a browser asks for."""
    language, theme = (request.cookies.get(f"nudge_{name}", "") for name in ("language", "theme"))
    if language not in LANGUAGES:
        language = preferred_language(request.headers.get("accept-language", ""))
    return language, theme if theme in ("light", "dark") else ""
