"""How much a text looks like Python, as numbers: what Python's own tokenizer and parser say of its lines."""

import ast
import io
import token
import tokenize
import warnings
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lines:
    """How many lines that are not blank a text has, and how many of them the tokenizer and the parser accept."""

    total: int
    tokenized: int
    parsed: int


def count_lines(text: str) -> Lines:
    """Judge each line by itself.

    The tokenizer refuses a string that does not end, a character that Python does not know, a number that runs into a
    word; an open bracket is no fault. The parser wants a whole statement, or the head of one (`def f(x):`).
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "1if" is only a warning
        return Lines(len(lines), sum(map(_is_tokenized, lines)), sum(map(_is_parsed, lines)))


def _is_tokenized(line: str) -> bool:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(line + "\n").readline))
    except (tokenize.TokenError, SyntaxError, SyntaxWarning, DeprecationWarning) as error:
        return "EOF in multi-line statement" in str(error)
    return not any(item.type == token.ERRORTOKEN for item in tokens)


def _is_parsed(line: str) -> bool:
    if line.startswith("#"):
        return _is_tokenized(line)
    if line.startswith(("elif", "else")):  # the rest of a statement whose head stands elsewhere
        line = f"if x: pass\n{line}"
    elif line.startswith(("except", "finally")):
        line = f"try: pass\n{line}"
    elif line.startswith("try:"):
        line = f"{line} pass\nfinally: pass"
    for body in ("", " pass"):
        try:
            ast.parse(line + body)
        except (SyntaxError, SyntaxWarning, DeprecationWarning, ValueError):
            continue
        return True
    return False
