"""Text of a model on a terminal."""

# A model that has learned nothing yet may write any character. Control characters are shown (as U+2400 and on).
_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
_VISIBLE |= dict.fromkeys(range(0x7F, 0xA0), 0xFFFD)


def visible(text: str) -> str:
    """The text with its control characters shown instead of obeyed."""
    return text.translate(_VISIBLE)
