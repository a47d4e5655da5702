"""The three Mermaid diagrams that a sheet draws: flowchart, mindmap, sequenceDiagram. Anything else is an error.

Source of the language: mermaid.js.org/syntax (flowchart, mindmap, sequenceDiagram).
"""

import re
from dataclasses import dataclass, field, replace
from typing import Literal

from nudge.errors import SheetError, did_you_mean
from nudge.sheet import layers
from nudge.sheet.inline import color_of, line
from nudge.sheet.page import Branch, Edge, Flow, Line, Message, Mindmap, Node, Sequence

KINDS = ("flowchart", "graph", "mindmap", "sequenceDiagram")
DIRECTIONS: dict[str, Literal["LR", "TB"]] = {"LR": "LR", "TB": "TB", "TD": "TB"}

MOST_ARROWS = 500  # counting crossings takes quadratic time, and a few `A & B --> C & D` make a million arrows

# These begin other statements of Mermaid's flowchart, so they cannot be names of nodes.
RESERVED = ("subgraph", "end", "class", "classDef", "style", "linkStyle", "click", "direction")

Numbered = tuple[int, str]  # a line and its number in the sheet
Arrow = tuple[Literal["solid", "dashed", "thick"], bool]  # style, has a head

ARROWS: dict[str, Arrow] = {
    "-->": ("solid", True),
    "---": ("solid", False),
    "-.->": ("dashed", True),
    "-.-": ("dashed", False),
    "==>": ("thick", True),
    "===": ("thick", False),
}
# What stands between two brackets. No character fits two parts of it, so that a long text takes no quadratic time.
TEXT = r'(?:\s*"(?P<quoted>[^"]*)"\s*|(?P<bare>(?![/\\])[^"\[\](){}|]+))'
SHAPES: tuple[tuple[Literal["box", "round", "circle", "diamond"], re.Pattern[str]], ...] = (
    ("circle", re.compile(rf"\(\({TEXT}\)\)")),
    ("round", re.compile(rf"\({TEXT}\)")),
    ("box", re.compile(rf"\[{TEXT}\]")),
    ("diamond", re.compile(rf"\{{{TEXT}\}}")),
)
SPACE = re.compile(r"\s*")
NAME = re.compile(r"\w+")
COLOR = re.compile(r":::(\w+)")
AND = re.compile(r"\s*&\s*")
ARROW = re.compile(r"(-->|---|-\.->|-\.-|==>|===)(?![-.=>])")
LABEL = re.compile(rf"\s*\|{TEXT}\|")
LABELLED = re.compile(r'--(?:\s+"(?P<quoted>[^"]*)"\s*|(?P<bare>\s[^"\[\](){}|]*?))\s(-->|---)(?![->])')

MIND_NODE = re.compile(r"\w*(?:\(\((?P<a>.*)\)\)|\[(?P<b>.*)\]|\((?P<c>.*)\))")
PARTICIPANT = re.compile(r"(?:participant|actor)\s+(\w+)(?:\s+as\s+(.+))?")
MESSAGE = re.compile(r"(\w+)\s*(-->>|->>|-->|->)\s*(\w+)\s*:\s*(.+)")
NOTE = re.compile(r"[Nn]ote\s+over\s+(\w+)(?:\s*,\s*(\w+))?\s*:\s*(.+)")
LOOP = re.compile(r"loop\s+(.+)")


def diagram(text: str, at: int) -> Flow | Mindmap | Sequence:
    """Parse a diagram that begins on line `at` of the sheet.

    Raises: SheetError.
    """
    lines = [
        (number, content.rstrip())
        for number, content in enumerate(text.expandtabs(4).split("\n"), at)
        if content.strip() and not content.strip().startswith("%%")
    ]
    if not lines:
        raise SheetError("empty_diagram", line=at, kinds=", ".join(KINDS))
    (number, first), *rest = lines
    kind, *words = first.split()
    if kind not in KINDS:
        raise SheetError("unknown_diagram", line=number, kind=kind, closest=did_you_mean(kind, KINDS))
    after = " ".join(words)
    if kind in ("flowchart", "graph"):
        if after not in DIRECTIONS:
            raise SheetError("direction", line=number, kind=kind, got=after)
        return flowchart(rest, number, DIRECTIONS[after])
    if after:
        raise SheetError("words_after_diagram", line=number, kind=kind, got=after)
    return mindmap(rest, number) if kind == "mindmap" else sequence(rest, number)


def label(text: str, at: int) -> Line:
    """Return the spans of a label. In Mermaid, backticks just inside the quotes mean Markdown, not code."""
    if len(text) > 1 and text[0] == text[-1] == "`" and text.count("`") == 2:  # more backticks mean code at both ends
        text = text[1:-1]
    spans = line(text, at=at)
    if not spans:
        raise SheetError("no_text", line=at, what="a label")
    return spans


def _text(found: re.Match[str]) -> str:
    return found["bare"].strip() if found["quoted"] is None else found["quoted"]


# --- flowchart -------------------------------------------------------------------------------------------------------


def flowchart(lines: list[Numbered], at: int, direction: Literal["LR", "TB"]) -> Flow:
    """Parse a flowchart and arrange its nodes in layers."""
    chart = _Chart()
    for number, content in lines:
        chart.read(number, content.strip())
    if not chart.nodes:
        raise SheetError("no_nodes", line=at)
    pairs = [(edge.start, edge.end) for edge in chart.edges]
    ranks, back = layers.assign_ranks(len(chart.nodes), pairs)
    nodes = zip(chart.nodes.values(), ranks, layers.order_ranks(ranks, pairs), strict=True)
    return Flow(
        direction=direction,
        nodes=tuple(replace(node, rank=rank, order=float(order)) for node, rank, order in nodes),
        edges=tuple(replace(edge, back=leads_back) for edge, leads_back in zip(chart.edges, back, strict=True)),
    )


@dataclass(slots=True)
class _Chart:
    """The nodes by name and the edges of the lines read so far; `place` is the position in the current line."""

    nodes: dict[str, Node] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)  # of the nodes, in their order
    edges: list[Edge] = field(default_factory=list)
    at: int = 0
    text: str = ""
    place: int = 0

    def read(self, at: int, text: str) -> None:
        self.at, self.text, self.place = at, text, 0
        if (found := NAME.match(text)) and found[0] in RESERVED:
            raise SheetError("unknown_statement", line=at, word=found[0])
        starts = self._group()
        while self.place < len(text):
            edge = self._arrow()
            ends = self._group()
            if len(self.edges) + len(starts) * len(ends) > MOST_ARROWS:
                raise SheetError("too_many_arrows", line=at, most=MOST_ARROWS)
            self.edges += [replace(edge, start=start, end=end) for start in starts for end in ends]
            starts = ends

    def _next(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.place)
        if found:
            self.place = found.end()
        return found

    def _rest(self) -> str:
        return self.text[self.place :][:40]

    def _group(self) -> list[int]:
        """Parse `A & B` and return the numbers of the nodes."""
        numbers = [self._node()]
        while self._next(AND):
            numbers.append(self._node())
        self._next(SPACE)
        return numbers

    def _node(self) -> int:
        name = self._next(NAME)
        if not name:
            raise SheetError("expected_node", line=self.at, got=self._rest())
        node = self.nodes.setdefault(name[0], Node(spans=line(name[0], at=self.at)))
        for shape, pattern in SHAPES:
            if found := self._next(pattern):
                node = replace(node, spans=label(_text(found), self.at), shape=shape)
                break
        if found := self._next(COLOR):
            node = replace(node, color=color_of(found[1], self.at))
        self.nodes[name[0]] = node
        return self.numbers.setdefault(name[0], len(self.numbers))

    def _arrow(self) -> Edge:
        if found := self._next(LABELLED):
            words = label(_text(found), self.at)
            style, arrow = ARROWS[found[3]]
        elif found := self._next(ARROW):
            style, arrow = ARROWS[found[1]]
            named = self._next(LABEL)
            words = label(_text(named), self.at) if named else ()
        else:
            raise SheetError("expected_arrow", line=self.at, got=self._rest())
        self._next(SPACE)
        return Edge(start=0, end=0, spans=words, style=style, arrow=arrow)


# --- mindmap ---------------------------------------------------------------------------------------------------------


def mindmap(lines: list[Numbered], at: int) -> Mindmap:
    """Parse a root, its branches and their leaves by their indentation."""
    if not lines:
        raise SheetError("no_root", line=at)
    (number, first), *rest = lines
    root = _branch_text(first.strip(), number)
    branches: list[Branch] = []
    indents = [_indent(first)]  # of the root, the last branch and the last leaf
    for number, content in rest:
        indent = _indent(content)
        indents = [outer for outer in indents if outer < indent]
        if not indents:
            raise SheetError("second_root", line=number, text=content.strip())
        if len(indents) > 2:
            raise SheetError("fourth_level", line=number, text=content.strip())
        text = _branch_text(content.strip(), number)
        if len(indents) == 1:
            branches.append(Branch(spans=text))
        else:
            branches[-1] = replace(branches[-1], leaves=(*branches[-1].leaves, text))
        indents.append(indent)
    return Mindmap(root=root, branches=tuple(branches))


def _indent(content: str) -> int:
    return len(content) - len(content.lstrip())


def _branch_text(text: str, at: int) -> Line:
    if found := MIND_NODE.fullmatch(text):
        text = next(group for group in found.groups() if group is not None).strip()
        if len(text) > 1 and text[0] == text[-1] == '"':
            return label(text[1:-1], at)
    if text.startswith(":") or re.search(r'[][(){}"]', text):
        raise SheetError("mindmap_line", line=at, text=text[:40])
    return label(text, at)


# --- sequence --------------------------------------------------------------------------------------------------------


def sequence(lines: list[Numbered], at: int) -> Sequence:
    """Parse the participants and their messages."""
    actors: dict[str, Line] = {}
    numbers: dict[str, int] = {}  # of the actors, in their order
    messages: list[Message] = []
    loops: list[int] = []  # the lines on which the open loops begin

    def actor(name: str, number: int) -> int:
        if name not in actors:
            actors[name] = line(name, at=number)
        return numbers.setdefault(name, len(numbers))

    for number, content in lines:
        text = content.strip()
        if found := PARTICIPANT.fullmatch(text):
            if found[1] in actors:
                raise SheetError("late_participant", line=number, name=found[1])
            actors[found[1]] = label(found[2] or found[1], number)
            numbers[found[1]] = len(numbers)
        elif found := NOTE.fullmatch(text):
            start, end = sorted((actor(found[1], number), actor(found[2] or found[1], number)))
            messages.append(Message(kind="note", spans=label(found[3], number), start=start, end=end))
        elif found := LOOP.fullmatch(text):
            loops.append(number)
            messages.append(Message(kind="loop", spans=label(found[1], number)))
        elif text == "end" and loops:
            loops.pop()
            messages.append(Message(kind="end"))
        elif found := MESSAGE.fullmatch(text):
            start, end = actor(found[1], number), actor(found[3], number)
            messages.append(
                Message(spans=label(found[4], number), start=start, end=end, dashed=found[2].startswith("--"))
            )
        else:
            raise SheetError("sequence_line", line=number, text=text[:60])
    if loops:
        raise SheetError("open_loop", line=loops[-1])
    if not any(message.kind == "message" for message in messages):
        raise SheetError("no_message", line=at)
    return Sequence(actors=tuple(actors.values()), messages=tuple(messages))
