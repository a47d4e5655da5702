"""Mermaid's mindmap. Source of the language: mermaid.js.org/syntax/mindmap."""

import re
from dataclasses import replace

from nudge.errors import SheetError
from nudge.sheet.labels import Numbered, label, with_whole_quotes
from nudge.sheet.page import Branch, Line, Mindmap

INNER = r'"[^"]*"|[^][(){}"]*'  # brackets within are text, not a shape: f(x) of [y]
# All shapes of a point; a sheet draws them alike: the root round, branches in boxes, leaves without.
SHAPES = re.compile(
    rf"[^][(){{}}\s]*(?:\(\(({INNER})\)\)|\[({INNER})\]|\(({INNER})\)|\)\)({INNER})\(\(|\)({INNER})\(|\{{\{{({INNER})\}}\}})"
)
DECORATIONS = ("::icon(", ":::")  # of the point above: an icon of a font from the web, a class of CSS


def mindmap(lines: list[Numbered], at: int) -> Mindmap:
    """Parse a root, its branches and their leaves by their indentation.

    Raises: SheetError.
    """
    lines = [one for one in with_whole_quotes(lines) if not one[1].lstrip().startswith(DECORATIONS)]
    if not lines:
        raise SheetError("no_root", line=at)
    (number, first), *rest = lines
    root = _point(first.strip(), number)
    branches: list[Branch] = []
    leaves: list[Line] = []  # of the last branch
    indents = [_indent(first)]  # of the root, the last branch and the last leaf

    def close() -> None:
        if leaves:
            branches[-1] = replace(branches[-1], leaves=tuple(leaves))
            leaves.clear()

    for number, content in rest:
        indent = _indent(content)
        indents = [outer for outer in indents if outer < indent]
        if not indents:
            raise SheetError("second_root", line=number, text=content.strip())
        if len(indents) > 2:
            raise SheetError("fourth_level", line=number, text=content.strip())
        if len(indents) == 1:
            close()
            branches.append(Branch(spans=_point(content.strip(), number)))
        else:
            leaves.append(_point(content.strip(), number))
        indents.append(indent)
    if branches:
        close()
    return Mindmap(root=root, branches=tuple(branches))


def _indent(content: str) -> int:
    return len(content) - len(content.lstrip())


def _point(text: str, at: int) -> Line:
    """Return the text of a point without its shape."""
    text = re.sub(r":::[\w -]*$", "", text)
    if found := SHAPES.fullmatch(text):
        text = next(group for group in found.groups() if group is not None).strip()
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = text[1:-1]
    return label(text, at)
