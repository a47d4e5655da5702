"""What a person gives a model to read: text from the command line or standard input, token ids, one token."""

import re
import sys
from typing import TYPE_CHECKING

import click

from nudge.errors import ConfigError, TokenizerError

if TYPE_CHECKING:
    from nudge.infer.engine import LanguageModel

SHOWN_TOKENS = 24  # of a context


def read_prompt(prompt: str) -> str:
    """The prompt, from standard input if it is "-"; the newline that ends a pipe's last line is not part of it."""
    if prompt != "-":
        return prompt
    # Bytes that are not UTF-8 stay what they are, as Python already does with the command line's.
    text = sys.stdin.buffer.read().decode("utf-8", errors="surrogateescape")
    return text.removesuffix("\n").removesuffix("\r")


def clean(prompt: str) -> str:
    """The prompt as it can be printed."""
    return prompt.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


def read_context(model: "LanguageModel", prompt: str, ids: str | None) -> tuple[int, ...]:
    """The ids that the model reads: those of --ids as they are, or those of a prompt, which starts a document.

    Raises: ConfigError for ids that are no numbers, or both; TokenizerError for text that the vocabulary lacks.
    """
    if ids is None:
        return tuple(model.prompt_ids(read_prompt(prompt)))
    if prompt:
        raise ConfigError("a prompt and ids were given, expected one of them", "leave out --prompt or --ids")
    words = ids.replace(",", " ").split()
    strange = next((word for word in words if _id(word) is None), None)
    if strange is not None:
        raise ConfigError(f"{strange!r} is not a token id", "ids are numbers with commas between: --ids 91,860,287")
    return tuple(int(word) for word in words)


def one_token(model: "LanguageModel", text: str) -> int:
    """The token that TEXT|ID means: a number is an id, anything else the text of one token.

    Raises: ConfigError for text of several tokens or none.
    """
    from nudge.data.tokenizer import shown_token

    token = _id(text)
    if token is not None:
        if (written := _single(model, text)) not in (None, token):
            click.echo(f"{text} is read as an id; the token with the text {text!r} has the id {written}", err=True)
        return token
    tokens = model.tokenizer.encode(text)
    if not tokens:
        raise ConfigError("an empty text is no token", "give some text, or an id")
    if len(tokens) > 1:
        listed = ", ".join(f"{token} ({shown_token(model.tokenizer, token)})" for token in tokens[:8])
        more = ", ..." if len(tokens) > 8 else ""
        raise ConfigError(
            f"{clean(text)!r} is {len(tokens)} tokens of this vocabulary, expected one: {listed}{more}",
            f"give the id of one of them, such as {tokens[0]}",
        )
    return tokens[0]


def _id(word: str) -> int | None:
    return int(word) if re.fullmatch("[0-9]{1,18}", word) else None


def _single(model: "LanguageModel", text: str) -> int | None:
    try:
        tokens = model.tokenizer.encode(text)
    except TokenizerError:
        return None
    return tokens[0] if len(tokens) == 1 else None


def shown_context(model: "LanguageModel", context: tuple[int, ...]) -> str:
    """The end of a context, token by token."""
    from nudge.data.tokenizer import shown_token

    start = "… " if len(context) > SHOWN_TOKENS else ""
    return start + " ".join(shown_token(model.tokenizer, token) for token in context[-SHOWN_TOKENS:])
