"""The text of labels in Mermaid diagrams."""

import re
from dataclasses import replace
from html import unescape
from html.entities import html5

from nudge.errors import SheetError
from nudge.sheet.inline import OF_LABELS, line
from nudge.sheet.page import Line

Numbered = tuple[int, str]  # a line and its number in the sheet

# What stands between two brackets. No character fits two parts of it, so that a long text takes no quadratic time.
TEXT = r'(?:\s*"(?P<quoted>[^"]*)"\s*|(?P<bare>[^"\[\](){}|]+))'
ENTITY = re.compile(r"(?<!&)#(\w+);")
OPENED = re.compile(r'[\[({>|]\s*"')


def label(text: str, at: int) -> Line:
    """Return the spans of a label. In Mermaid, backticks just inside the quotes mean Markdown, not code.

    Raises: SheetError.
    """
    if len(text) > 1 and text[0] == text[-1] == "`" and text.count("`") == 2:  # more backticks mean code at both ends
        text = text[1:-1]
    spans = line(ENTITY.sub(_entity, text), at=at, parser=OF_LABELS)
    if not spans:
        raise SheetError("no_text", line=at, what="a label")
    return tuple(replace(span, text=unescape(span.text)) if span.code else span for span in spans)


def text_of(found: re.Match[str]) -> str:
    """Return what a match of TEXT has between its brackets."""
    return found["bare"].strip() if found["quoted"] is None else found["quoted"]


def with_whole_quotes(lines: list[Numbered]) -> list[Numbered]:
    """Join the lines of quoted labels that have several."""
    joined: list[Numbered] = []
    parts: list[str] = []
    for number, content in lines:
        if parts:
            parts.append(content.strip())
            if content.count('"') % 2:
                joined.append((joined.pop()[0], "<br>".join(parts)))
                parts = []
            continue
        joined.append((number, content))
        if content.count('"') % 2 and OPENED.search(content):
            parts = [content]
    if parts:
        raise SheetError("open_quote", line=joined[-1][0])
    return joined


def _entity(found: re.Match[str]) -> str:
    """Return HTML's entity for Mermaid's: `#35;` is `&#35;`, `#quot;` is `&quot;`."""
    if found[1].isdecimal():
        return f"&#{found[1]};"
    return f"&{found[1]};" if f"{found[1]};" in html5 else found[0]
