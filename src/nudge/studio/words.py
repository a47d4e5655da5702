"""What the studio says, in the person's language: words/en.toml and words/ko.toml hold the same keys."""

import functools
import re
import tomllib
from importlib import resources

from nudge.config import flat

LANGUAGES = {"en": "EN", "ko": "한국어"}  # as the switch shows them
DEFAULT = "en"


class Words:
    """One language: `words("predict.title")`, `words("predict.note", n="24,000")`."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = texts(language)

    def __call__(self, key: str, **values: object) -> str:
        return self._texts[key].format(**values) if values else self._texts[key]

    def has(self, key: str) -> bool:
        return key in self._texts


@functools.cache
def texts(language: str) -> dict[str, str]:
    """Every text of a language by its full key, such as `predict.title`."""
    source = resources.files("nudge.studio").joinpath("words", f"{language}.toml")
    return flat(tomllib.loads(source.read_text(encoding="utf-8")))


def preferred(accept_language: str) -> str:
    """The language of ours that a browser's Accept-Language header likes best."""
    wishes = []
    for order, part in enumerate(accept_language.lower().split(",")):
        match = re.match(r"\s*([a-z]+)[a-z0-9-]*\s*(?:;\s*q=([0-9.]+))?", part)
        if match and match[1] in LANGUAGES:
            wishes.append((-float(match[2] or 1), order, match[1]))
    return min(wishes)[2] if wishes else DEFAULT
