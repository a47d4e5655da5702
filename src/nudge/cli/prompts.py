"""The input of commands: paths, the language, the model, a prompt or token ids, and single tokens."""

import contextlib
import locale
import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import click

from nudge.cli.terminal import echo
from nudge.errors import ConfigError, TokenizerError

if TYPE_CHECKING:
    from nudge.infer.engine import LanguageModel

SHOWN_TOKENS = 24  # of a context


class FilePath(click.Path):
    """A path that a person types. A control character in it is a mistake: nobody can type it again or read it.

    A path that is not text, such as a file name in Latin-1, cannot be written into the records of a run.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(readable=False, **options)  # what reads it says what is wrong with it

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        categories = set(map(unicodedata.category, os.fsdecode(value)))
        if "Cc" in categories:
            self.fail(f"{value!r} has a control character", param, ctx)
        if "Cs" in categories:  # Python keeps bytes that the encoding lacks as lone surrogates
            self.fail(f"{value!r} is not {sys.getfilesystemencoding().upper()}: rename it, or set LC_ALL", param, ctx)
        return super().convert(value, param, ctx)


def system_language() -> Literal["en", "ko"]:
    """Return the language that the system is set to, or English if it is none of ours."""
    name = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), None) or locale.getlocale()[0]
    return "ko" if (name or "").lower().startswith("ko") else "en"


def note_hidden_names(paths: Iterable[str]) -> None:
    """Print, on standard error, which names of texts are taken by a file or folder here."""
    from nudge.data import named_texts

    for path in filter(named_texts.is_hidden, paths):
        echo(f"{path} is read from here; the text of that name ('nudge data list') is not used", err=True)


class Count(click.ParamType[int]):
    """A number of tokens: 500000, 5e5, 10M, 33.5B."""

    name = "count"

    def __init__(self, *, min: int | None = None) -> None:
        self.min = min

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from nudge.config import parse_count

        try:
            count = value if isinstance(value, int) else parse_count(value)
        except ConfigError as error:
            self.fail(f"{error.message}: {error.hint}", param, ctx)
        if self.min is not None and count < self.min:
            self.fail(f"{count} is below {self.min}", param, ctx)
        return count


def load_model(source: str | None, **options: Any) -> "LanguageModel":
    """Load a model and print its notes on standard error. `options` are infer.engine.load's."""
    from nudge.runs.folder import find_source

    find_source(source)  # what is not there is refused before torch is imported, which takes seconds
    from nudge.infer import engine

    model = engine.load(source, **options)
    for note in model.notes:
        echo(note, err=True)
    return model


def check_sampling(**values: Any) -> None:
    """Check settings of SampleConfig before a model is loaded. Raises: ConfigError for one out of its range."""
    from nudge.config import SampleConfig, check_ranges

    check_ranges(SampleConfig(**values), "sample.")


def read_prompt(prompt: str) -> str:
    """Return the prompt; "-" reads it from standard input, without the newline at its end."""
    if prompt != "-":
        return prompt
    # Bytes that are not UTF-8 are kept, as Python does in arguments of the command line.
    text = sys.stdin.buffer.read().decode("utf-8-sig", errors="surrogateescape")
    return text.removesuffix("\n").removesuffix("\r")


def clean(prompt: str) -> str:
    """Return the prompt with unprintable characters replaced."""
    return prompt.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


def read_context(model: "LanguageModel", prompt: str, ids: str | None) -> tuple[int, ...]:
    """Return the ids that the model reads: exactly --ids, or the ids of a prompt at the start of a document.

    Raises: ConfigError for ids that are not numbers, or for both; TokenizerError for text that the vocabulary lacks.
    """
    if ids is None:
        return tuple(model.prompt_ids(read_prompt(prompt)))
    if prompt:
        raise ConfigError("exclusive_options", options="--prompt, --ids")
    words = ids.replace(",", " ").split()
    wrong = next((word for word in words if _id(word) is None), None)
    if wrong is not None:
        raise ConfigError("not_a_token_id", word=wrong)
    return tuple(int(word) for word in words)


def one_token(model: "LanguageModel", text: str) -> int:
    """Return the token of a TEXT|ID argument: a number is an id, anything else the text of one token.

    Raises: ConfigError for text that is not exactly one token.
    """
    from nudge.data.tokenizer import shown_token

    token = _id(text)
    if token is not None:
        with contextlib.suppress(TokenizerError):
            tokens = model.tokenizer.encode(text)
            if len(tokens) == 1 and tokens[0] != token:
                echo(f"{text} is read as an id; the token with the text {text!r} has the id {tokens[0]}", err=True)
        return token
    tokens = model.tokenizer.encode(text)
    if not tokens:
        raise ConfigError("no_token_in_text")
    if len(tokens) > 1:
        listed = [f"{token} ({shown_token(model.tokenizer, token)})" for token in tokens[:8]]
        some = ", ".join([*listed, "..."] if len(tokens) > 8 else listed)
        raise ConfigError("several_tokens", text=clean(text), n=len(tokens), tokens=some, first=tokens[0])
    return tokens[0]


def _id(word: str) -> int | None:
    return int(word) if re.fullmatch("[0-9]{1,18}", word) else None


def format_context(model: "LanguageModel", context: tuple[int, ...]) -> str:
    """Return the end of a context, token by token."""
    from nudge.data.tokenizer import shown_token

    start = "… " if len(context) > SHOWN_TOKENS else ""
    return start + " ".join(shown_token(model.tokenizer, token) for token in context[-SHOWN_TOKENS:])
