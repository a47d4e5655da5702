"""The likeness of a text to Python: the lines that Python's tokenizer and parser accept."""

import ast
import io
import token
import tokenize
import warnings
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lines:
    """The numbers of nonblank lines, of lines that the tokenizer accepts, and of lines that the parser accepts."""

    total: int
    tokenized: int
    parsed: int


def count_lines(text: str) -> Lines:
    """Count the lines that the tokenizer and the parser accept, each line by itself.

    The tokenizer rejects a string without an end, a character that is not Python's, and a number directly before a
    word; an open bracket is allowed. The parser accepts a whole statement, or the head of one (`def f(x):`).
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
    if line.startswith(("elif", "else")):  # the rest of a statement
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
