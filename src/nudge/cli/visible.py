"""What a terminal can show: the text of a model, and shares as bars."""

import math

EIGHTHS = " ▏▎▍▌▋▊▉"  # of a cell

# A model that has learned nothing yet may write any character. Control characters are shown (as U+2400 and on).
_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
_VISIBLE |= dict.fromkeys(range(0x7F, 0xA0), 0xFFFD)


def visible(text: str) -> str:
    """The text with its control characters shown instead of obeyed."""
    return text.translate(_VISIBLE)


def bar(share: float, cells: int) -> str:
    """A bar of so much of `cells`, to an eighth of a cell; anything above 0 can be seen."""
    eighths = round(8 * cells * min(max(share, 0.0), 1.0)) if math.isfinite(share) else 0
    eighths = max(eighths, share > 0)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
