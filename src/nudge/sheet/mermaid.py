"""The three Mermaid diagrams that a sheet draws: flowchart, mindmap, sequenceDiagram. Anything else is an error.

Source of the language: mermaid.js.org/syntax (flowchart, mindmap, sequenceDiagram, directives).
"""

from dataclasses import replace

from nudge.errors import SheetError, did_you_mean
from nudge.sheet.flowchart import flowchart
from nudge.sheet.labels import Numbered, label
from nudge.sheet.mindmap import mindmap
from nudge.sheet.page import Flow, Line, Mindmap, Sequence
from nudge.sheet.sequence import sequence

KINDS = ("flowchart", "graph", "mindmap", "sequenceDiagram")


def diagram(text: str, at: int) -> Flow | Mindmap | Sequence:
    """Parse a diagram that begins on line `at` of the sheet.

    Raises: SheetError.
    """
    numbered = [(number, content.rstrip()) for number, content in enumerate(text.expandtabs(4).split("\n"), at)]
    title, lines = _split_front_matter([(number, content) for number, content in numbered if content])
    lines = _without_comments(lines)
    if not lines:
        raise SheetError("empty_diagram", line=at, kinds=", ".join(KINDS))
    (number, first), *rest = lines
    kind = first.replace(";", " ").split()[0] if first.strip("; ") else first
    after = first.strip().removeprefix(kind).strip()
    if kind not in KINDS:
        raise SheetError("unknown_diagram", line=number, kind=kind, closest=did_you_mean(kind, KINDS))
    drawn: Flow | Mindmap | Sequence
    if kind in ("flowchart", "graph"):
        direction, _, same_line = after.partition(";")
        drawn = flowchart([(number, same_line), *rest], number, direction.partition("%%")[0].strip())
    elif after.strip(";"):
        raise SheetError("words_after_diagram", line=number, kind=kind, got=after)
    else:
        drawn = mindmap(rest, number) if kind == "mindmap" else sequence(rest, number)
    return replace(drawn, title=title) if title else drawn


def _split_front_matter(lines: list[Numbered]) -> tuple[Line, list[Numbered]]:
    """Return the title and the lines after the front matter, whose other settings only change colors and fonts."""
    ends = [place for place, (_, content) in enumerate(lines) if content.strip() == "---"]
    if len(ends) < 2 or ends[0] != 0:
        return (), lines
    title: Line = ()
    for number, content in lines[1 : ends[1]]:
        key, _, value = content.partition(":")
        if key == "title" and value.strip():
            title = label(value.strip().strip("\"'"), number)
    return title, lines[ends[1] + 1 :]


def _without_comments(lines: list[Numbered]) -> list[Numbered]:
    """Leave out comments, and directives `%%{init: ...}%%`, which may have several lines."""
    kept: list[Numbered] = []
    last = max((place for place, (_, content) in enumerate(lines) if "}%%" in content), default=-1)
    in_directive = False
    for place, (number, content) in enumerate(lines):
        begins = content.lstrip().startswith("%%{") and place <= last
        if in_directive or begins:
            in_directive = "}%%" not in content
        elif content.strip() and not content.lstrip().startswith("%%"):
            kept.append((number, content))
    return kept
