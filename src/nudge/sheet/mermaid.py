"""The three diagrams of mermaid that a sheet draws: flowchart, mindmap, sequenceDiagram. All else of it is an error.

Source of the language: mermaid.js.org/syntax (flowchart, mindmap, sequenceDiagram).
"""

import re
from dataclasses import dataclass, field, replace
from typing import Literal

from nudge.errors import nearest
from nudge.sheet import layers
from nudge.sheet.inline import colour_of, fault, line
from nudge.sheet.page import Branch, Edge, Flow, Line, Message, Mindmap, Node, Sequence

KINDS = ("flowchart", "graph", "mindmap", "sequenceDiagram")
DIRECTIONS: dict[str, Literal["LR", "TB"]] = {"LR": "LR", "TB": "TB", "TD": "TB"}

FLOW = (
    'a line is: A["text"] --> B("text"); shapes [box] (round) ((circle)) {diamond}, each with :::colour or without; '
    "arrows --> --- -.-> -.- ==> === with |label|, or A -- label --> B; several: A & B --> C"
)
MIND = (
    'a line is text, ["text"], ("text") or (("text")); a root, below it its branches, below each its leaves, by indent'
)
SEQUENCE = "a line is: participant A as Name; actor A; A->>B: text; A-->>B: text; Note over A,B: text; loop text; end"

MOST_ARROWS = 500  # counting who crosses whom takes their square, and `A & B --> C & D` is soon a million

# Words that begin a statement of mermaid's flowchart, so that they name no node.
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
TEXT = r'(?:"(?P<quoted>[^"]*)"|(?P<bare>[^"\[\](){}|/\\][^"\[\](){}|]*?))'
SHAPES: tuple[tuple[Literal["box", "round", "circle", "diamond"], re.Pattern[str]], ...] = (
    ("circle", re.compile(rf"\(\(\s*{TEXT}\s*\)\)")),
    ("round", re.compile(rf"\(\s*{TEXT}\s*\)")),
    ("box", re.compile(rf"\[\s*{TEXT}\s*\]")),
    ("diamond", re.compile(rf"\{{\s*{TEXT}\s*\}}")),
)
SPACE = re.compile(r"\s*")
NAME = re.compile(r"\w+")
COLOUR = re.compile(r":::(\w+)")
AND = re.compile(r"\s*&\s*")
ARROW = re.compile(r"(-->|---|-\.->|-\.-|==>|===)(?![-.=>])")
LABEL = re.compile(rf"\s*\|\s*{TEXT}\s*\|")
LABELLED = re.compile(rf"--\s+{TEXT}\s+(-->|---)(?![->])")

MIND_NODE = re.compile(r"\w*(?:\(\((?P<a>.*)\)\)|\[(?P<b>.*)\]|\((?P<c>.*)\))")
PARTICIPANT = re.compile(r"(?:participant|actor)\s+(\w+)(?:\s+as\s+(.+))?")
MESSAGE = re.compile(r"(\w+)\s*(-->>|->>|-->|->)\s*(\w+)\s*:\s*(.+)")
NOTE = re.compile(r"[Nn]ote\s+over\s+(\w+)(?:\s*,\s*(\w+))?\s*:\s*(.+)")
LOOP = re.compile(r"loop\s+(.+)")


def diagram(text: str, at: int) -> Flow | Mindmap | Sequence:
    """The diagram whose text begins in line `at` of the sheet.

    Raises: SheetError.
    """
    lines = [
        (number, content.rstrip())
        for number, content in enumerate(text.expandtabs(4).split("\n"), at)
        if content.strip() and not content.strip().startswith("%%")
    ]
    if not lines:
        raise fault(at, "an empty mermaid diagram", f"it begins with one of: {', '.join(KINDS)}")
    (number, first), *rest = lines
    kind, *words = first.split()
    if kind not in KINDS:
        raise fault(number, f"mermaid's {kind!r} is not drawn", nearest(kind, KINDS))
    if kind in ("flowchart", "graph"):
        if len(words) != 1 or words[0] not in DIRECTIONS:
            raise fault(number, f"expected a direction after {kind}, got {' '.join(words)!r}", "flowchart LR, TB or TD")
        return flowchart(rest, number, DIRECTIONS[words[0]])
    if words:
        raise fault(
            number, f"expected {kind} alone in its line, got {first.strip()!r}", "move the rest to the next line"
        )
    return mindmap(rest, number) if kind == "mindmap" else sequence(rest, number)


def label(text: str, at: int) -> Line:
    """The spans of a label. Mermaid's own mark of markdown, backticks just inside the quotes, is no code."""
    if len(text) > 1 and text[0] == text[-1] == "`" and text.count("`") == 2:  # more are of code at both ends
        text = text[1:-1]
    spans = line(text, at=at)
    if not spans:
        raise fault(at, "a label without text", "write some, or leave it out")
    return spans


def _text(found: re.Match[str]) -> str:
    return found["bare"] if found["quoted"] is None else found["quoted"]


# --- flowchart -------------------------------------------------------------------------------------------------------


def flowchart(lines: list[Numbered], at: int, direction: Literal["LR", "TB"]) -> Flow:
    """A flowchart, its nodes in their layers."""
    chart = _Chart()
    for number, content in lines:
        chart.read(number, content.strip())
    if not chart.nodes:
        raise fault(at, "a flowchart without nodes", FLOW)
    names = list(chart.nodes)
    pairs = [(names.index(start), names.index(end)) for start, end, _ in chart.edges]
    rank, back = layers.layers(len(names), pairs)
    order = layers.orders(rank, pairs)
    return Flow(
        direction=direction,
        nodes=tuple(
            replace(node, rank=rank[number], order=float(order[number]))
            for number, node in enumerate(chart.nodes.values())
        ),
        edges=tuple(
            replace(edge, start=start, end=end, back=leads_back)
            for (start, end), (_, _, edge), leads_back in zip(pairs, chart.edges, back, strict=True)
        ),
    )


@dataclass(slots=True)
class _Chart:
    """Nodes by their names, and edges between names, as the lines of a flowchart add them."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[tuple[str, str, Edge]] = field(default_factory=list)
    at: int = 0
    text: str = ""
    place: int = 0

    def read(self, at: int, text: str) -> None:
        self.at, self.text, self.place = at, text, 0
        if (found := NAME.match(text)) and found[0] in RESERVED:
            raise fault(at, f"mermaid's {found[0]!r} is not drawn", FLOW)
        starts = self._group()
        while self.place < len(text):
            edge = self._arrow()
            ends = self._group()
            if len(self.edges) + len(starts) * len(ends) > MOST_ARROWS:
                raise fault(at, f"more than {MOST_ARROWS} arrows in a flowchart", "part it: a page has room for fewer")
            self.edges += [(start, end, edge) for start in starts for end in ends]
            starts = ends

    def _next(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.place)
        if found:
            self.place = found.end()
        return found

    def _wrong(self, expected: str) -> Exception:
        got = self.text[self.place :][:40]
        return fault(self.at, f"expected {expected}, got {got!r}" if got else f"expected {expected} at its end", FLOW)

    def _group(self) -> list[str]:
        names = [self._node()]
        while self._next(AND):
            names.append(self._node())
        self._next(SPACE)
        return names

    def _node(self) -> str:
        name = self._next(NAME)
        if not name:
            raise self._wrong("the name of a node")
        node = self.nodes.setdefault(name[0], Node(spans=line(name[0], at=self.at)))
        for shape, pattern in SHAPES:
            if found := self._next(pattern):
                node = replace(node, spans=label(_text(found), self.at), shape=shape)
                break
        if found := self._next(COLOUR):
            node = replace(node, colour=colour_of(found[1], self.at))
        self.nodes[name[0]] = node
        return name[0]

    def _arrow(self) -> Edge:
        if found := self._next(LABELLED):
            words = label(_text(found), self.at)
            style, arrow = ARROWS[found[3]]
        elif found := self._next(ARROW):
            style, arrow = ARROWS[found[1]]
            named = self._next(LABEL)
            words = label(_text(named), self.at) if named else ()
        else:
            raise self._wrong("an arrow")
        self._next(SPACE)
        return Edge(start=0, end=0, spans=words, style=style, arrow=arrow)


# --- mindmap ---------------------------------------------------------------------------------------------------------


def mindmap(lines: list[Numbered], at: int) -> Mindmap:
    """A root, its branches and their leaves, by their indents."""
    if not lines:
        raise fault(at, "a mind map without a root", MIND)
    (number, first), *rest = lines
    root = _thing(first.strip(), number)
    branches: list[Branch] = []
    indents = [_indent(first)]  # of the root, the last branch and the last leaf
    for number, content in rest:
        indent = _indent(content)
        while indents and indents[-1] >= indent:
            indents.pop()
        if not indents:
            raise fault(number, f"a second root: {content.strip()!r}", MIND)
        if len(indents) > 2:
            raise fault(number, f"a fourth level: {content.strip()!r}", MIND)
        words = _thing(content.strip(), number)
        if len(indents) == 1:
            branches.append(Branch(spans=words))
        else:
            branches[-1] = replace(branches[-1], leaves=(*branches[-1].leaves, words))
        indents.append(indent)
    return Mindmap(root=root, branches=tuple(branches))


def _indent(content: str) -> int:
    return len(content) - len(content.lstrip())


def _thing(text: str, at: int) -> Line:
    if found := MIND_NODE.fullmatch(text):
        text = next(group for group in found.groups() if group is not None).strip()
        if len(text) > 1 and text[0] == text[-1] == '"':
            return label(text[1:-1], at)
    if text.startswith(":") or re.search(r'[][(){}"]', text):
        raise fault(at, f"not understood: {text[:40]!r}", f'text with brackets or quotes stands in ["..."]; {MIND}')
    return label(text, at)


# --- sequence --------------------------------------------------------------------------------------------------------


def sequence(lines: list[Numbered], at: int) -> Sequence:
    """Who says what to whom."""
    actors: dict[str, Line] = {}
    messages: list[Message] = []
    loops: list[int] = []  # the lines of those that are open

    def actor(name: str, number: int) -> int:
        actors.setdefault(name, line(name, at=number))
        return list(actors).index(name)

    for number, content in lines:
        text = content.strip()
        if found := PARTICIPANT.fullmatch(text):
            if found[1] in actors:
                raise fault(number, f"{found[1]!r} is there already", "name each participant once, before its messages")
            actors[found[1]] = label(found[2] or found[1], number)
        elif found := NOTE.fullmatch(text):
            start = actor(found[1], number)
            end = actor(found[2], number) if found[2] else start
            messages.append(
                Message(kind="note", spans=label(found[3], number), start=min(start, end), end=max(start, end))
            )
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
            raise fault(number, f"not understood: {text[:60]!r}", SEQUENCE)
    if loops:
        raise fault(loops[-1], "a loop without its end", "add a line: end")
    if not any(message.kind == "message" for message in messages):
        raise fault(at, "a sequence diagram without a message", SEQUENCE)
    return Sequence(actors=tuple(actors.values()), messages=tuple(messages))
