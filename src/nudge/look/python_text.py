"""How much a text looks like Python, as a number: the share of its lines that Python's own tokenizer accepts."""

import io
import token
import tokenize
import warnings


def accepted_lines(text: str) -> tuple[int, int]:
    """(accepted, all) of the lines that are not blank.

    Each line stands alone: open brackets are no fault, as a line of real code may open one; a string that does not
    end, a character that Python does not know, or a number that runs into a word is.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return sum(map(_is_accepted, lines)), len(lines)


def _is_accepted(line: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "1if" is a warning
            tokens = list(tokenize.generate_tokens(io.StringIO(line + "\n").readline))
    except (tokenize.TokenError, SyntaxError, SyntaxWarning, DeprecationWarning) as error:
        return "EOF in multi-line statement" in str(error)
    return not any(item.type == token.ERRORTOKEN for item in tokens)
