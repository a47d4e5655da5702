"""Mermaid's flowchart. Source of the language: mermaid.js.org/syntax/flowchart; for arrows, its flow.jison."""

import re
from dataclasses import dataclass, field, replace
from typing import Literal

from nudge.errors import SheetError
from nudge.sheet import layers
from nudge.sheet.inline import COLORS, color_of
from nudge.sheet.labels import TEXT, Numbered, label, text_of, with_whole_quotes
from nudge.sheet.page import Edge, Flow, Group, Line, Node, Shape, Tip

# A direction, and whether it runs towards the left or the top.
DIRECTIONS: dict[str, tuple[Literal["LR", "TB"], bool]] = {
    "": ("TB", False),
    "TB": ("TB", False),
    "TD": ("TB", False),
    "BT": ("TB", True),
    "LR": ("LR", False),
    "RL": ("LR", True),
}
MOST_ARROWS = 500  # counting crossings takes quadratic time, and a few `A & B --> C & D` make a million arrows
MOST_SUBGRAPHS = 60
DEEPEST = 4  # subgraphs within subgraphs

BRACKETS: tuple[tuple[Shape, str, str], ...] = (
    ("double", "(((", ")))"),
    ("circle", "((", "))"),
    ("stadium", "([", "])"),
    ("circle", "(-", "-)"),
    ("round", "(", ")"),
    ("subroutine", "[[", "]]"),
    ("cylinder", "[(", ")]"),
    ("lean-right", "[/", "/]"),
    ("lean-left", "[\\", "\\]"),
    ("trapezoid", "[/", "\\]"),
    ("funnel", "[\\", "/]"),
    ("box", "[", "]"),
    ("hexagon", "{{", "}}"),
    ("diamond", "{", "}"),
    ("flag", ">", "]"),
)
SHAPES = [(shape, re.compile(re.escape(begin) + TEXT + re.escape(end))) for shape, begin, end in BRACKETS]
END = re.compile(r"\s*(?:;|%%|$)")
BREAK = re.compile(r"[\s;]*(?:%%.*)?")
SPACE = re.compile(r"\s*")
NAME = re.compile(r"\w+(?:[-./]\w+)*")
CLASS = re.compile(r":::([\w-]+)")
AND = re.compile(r"\s*&\s*")
LABEL = re.compile(rf"\s*\|{TEXT}\|")

# A line with its ends, then the same around a text, which may not contain such a line: `A -- text --> B`.
ARROW = re.compile(r"([xo<]?)(--+[-xo>]|==+[=xo>]|-?\.+-[xo>]?|~~~+)(?![-=>])")
AROUND = tuple(
    re.compile(rf'([xo<]?){begin}\s*+(?:"(?P<quoted>[^"]*)"\s*|(?P<bare>{text}))({end})(?![-=>])')
    for begin, text, end in (
        (r"--(?![->])", r'[^-"]*(?:-(?!-)[^-"]*)*', r"--+[-xo>]"),
        (r"==(?![=>])", r'[^="]*(?:=(?!=)[^="]*)*', r"==+[=xo>]"),
        (r"-\.(?![-.])", r'[^."]*(?:\.(?!-)[^."]*)*', r"\.+-[xo>]?"),
    )
)
AMBIGUOUS = re.compile(r"[xo<]?(?:--|==)[xo]\w")  # `A --ok--> B` has a text, `A --o B` an end
NO_TEXT: Line = ()
TIPS: dict[str, Tip] = {"x": "cross", "o": "circle", "<": "arrow", ">": "arrow"}

STATEMENT = re.compile(
    r"(subgraph|direction|classDef|class|style|linkStyle|click|accTitle|accDescr)\b(?!\s*(?:[-=]|<|&|$))"
)
BARE_SUBGRAPH = re.compile(r"(subgraph)(?=\s*(?:;|%%|$))")
ENDING = re.compile(r"end(?=\s*(?:;|%%|$))")
TITLED = re.compile(rf'(?P<id>[^\["]*)\[{TEXT}\]')
REST = re.compile(r'(?:[^";]|"[^"]*")*')


def flowchart(lines: list[Numbered], at: int, direction: str) -> Flow:
    """Parse a flowchart and arrange its nodes in layers.

    Raises: SheetError.
    """
    if direction not in DIRECTIONS:
        raise SheetError("direction", line=at, got=direction)
    chart = _Chart()
    for number, content in with_whole_quotes(lines):
        chart.read(number, content.strip())
    chart.check(at)
    along, is_reversed = DIRECTIONS[direction]
    return _arranged(chart, along, is_reversed)


def _arranged(chart: "_Chart", direction: Literal["LR", "TB"], is_reversed: bool) -> Flow:
    group_of = [chart.group_of[name] for name in chart.nodes]
    parents = [group.parent for group in chart.groups]
    ranks = layers.nested_ranks(group_of, parents, chart.pairs)
    edges, pairs = chart.edges, chart.pairs
    if is_reversed:  # drawn as the other direction: the last layer first, and arrows from their end to their start
        last = max(ranks)
        ranks = [last - rank for rank in ranks]
        edges = [replace(edge, start=edge.end, end=edge.start, tail=edge.head, head=edge.tail) for edge in edges]
        pairs = [(end, start) for start, end in pairs]
    nodes = zip(chart.nodes.values(), group_of, ranks, layers.order_ranks(ranks, pairs), strict=True)
    return Flow(
        direction=direction,
        nodes=tuple(replace(node, group=group, rank=rank, order=float(order)) for node, group, rank, order in nodes),
        edges=tuple(replace(edge, back=ranks[edge.end] <= ranks[edge.start]) for edge in edges),
        groups=tuple(
            replace(group, first=min(inside), last=max(inside))
            for group, inside in zip(chart.groups, layers.ranks_inside(group_of, parents, ranks), strict=True)
        ),
    )


@dataclass(slots=True)
class _Chart:
    """The nodes by name and the edges of the lines read so far; `place` is the position in the current line."""

    nodes: dict[str, Node] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)  # of the nodes, in their order
    lines: dict[str, int] = field(default_factory=dict)  # on which the nodes are first named
    group_of: dict[str, int | None] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    pairs: list[layers.Pair] = field(default_factory=list)  # the ends of the edges, also of those that are not drawn
    groups: list[Group] = field(default_factory=list)
    group_lines: list[int] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)  # of groups
    open: list[int] = field(default_factory=list)  # groups
    classes: list[tuple[str, str, int]] = field(default_factory=list)  # node, class, line
    defined: set[str] = field(default_factory=set)  # classes
    at: int = 0
    text: str = ""
    place: int = 0

    def read(self, at: int, text: str) -> None:
        self.at, self.text, self.place = at, text, 0
        self._next(BREAK)
        while self.place < len(text):
            self._statement()
            if not END.match(text, self.place):
                raise SheetError("expected_arrow", line=at, got=self._rest())
            self._next(BREAK)

    def check(self, at: int) -> None:
        """Check the whole chart, and give the nodes the colors of their classes."""
        if self.open:
            raise SheetError("open_frame", line=self.group_lines[self.open[-1]], word="subgraph")
        if not self.nodes:
            raise SheetError("no_nodes", line=at)
        parents = [group.parent for group in self.groups]
        inside = layers.ranks_inside(list(self.group_of.values()), parents, [0] * len(self.nodes))
        for number, some in enumerate(inside):
            if not some:
                raise SheetError("empty_subgraph", line=self.group_lines[number])
        for name in self.names.keys() & self.nodes.keys():
            raise SheetError("arrow_to_subgraph", line=self.lines[name], name=name)
        for name, word, line in self.classes:
            if word in COLORS or word not in self.defined:
                if name not in self.nodes:
                    raise SheetError("unknown_node", line=line, name=name)
                self.nodes[name] = replace(self.nodes[name], color=color_of(word, line))

    def _next(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.place)
        if found:
            self.place = found.end()
        return found

    def _rest(self) -> str:
        return self.text[self.place :].strip()[:40]

    def _statement(self) -> None:
        if self._next(ENDING):
            if not self.open:
                raise SheetError("unknown_statement", line=self.at, word="end")
            self.open.pop()
        elif found := self._next(BARE_SUBGRAPH) or self._next(STATEMENT):
            rest = self._next(REST)
            self._keyword(found[1], rest[0].strip() if rest else "")
        else:
            self._edges()

    def _keyword(self, word: str, rest: str) -> None:
        """Read a statement. Those that only change colors, line widths and links are left out: a pen has its own."""
        rest = rest.partition("%%")[0].strip() if word != "click" else rest
        names, _, last = rest.rpartition(" ")
        if word == "subgraph":
            self._open_group(rest)
        elif word == "direction" and not (self.open and rest in DIRECTIONS):
            raise SheetError("unknown_statement", line=self.at, word=self.text[:40])
        elif word == "class":
            self.classes += [(name.strip(), last, self.at) for name in names.split(",")]
        elif word == "classDef":
            self.defined.update(name.strip() for name in rest.partition(" ")[0].split(","))

    def _open_group(self, rest: str) -> None:
        if len(self.open) == DEEPEST:
            raise SheetError("nested_subgraphs", line=self.at, most=DEEPEST)
        if len(self.groups) == MOST_SUBGRAPHS:
            raise SheetError("too_many_subgraphs", line=self.at, most=MOST_SUBGRAPHS)
        title: Line = ()
        name = rest
        if found := TITLED.fullmatch(rest):
            name, title = found["id"].strip(), label(text_of(found), self.at)
        elif rest:
            title = label(rest.strip('"'), self.at)
        if name:
            self.names[name] = len(self.groups)
        parent = self.open[-1] if self.open else None
        self.open.append(len(self.groups))
        self.groups.append(Group(spans=title, parent=parent))
        self.group_lines.append(self.at)

    def _edges(self) -> None:
        starts = self._some_nodes()
        while not END.match(self.text, self.place):
            edge = self._arrow()
            ends = self._some_nodes()
            pairs = [(start, end) for start in starts for end in ends]
            if len(self.pairs) + len(pairs) > MOST_ARROWS:
                raise SheetError("too_many_arrows", line=self.at, most=MOST_ARROWS)
            self.pairs += pairs
            self.edges += [replace(edge, start=start, end=end) for start, end in pairs if edge]
            starts = ends

    def _some_nodes(self) -> list[int]:
        """Parse `A & B` and return the numbers of the nodes."""
        numbers = [self._node()]
        while self._next(AND):
            numbers.append(self._node())
        return numbers

    def _node(self) -> int:
        found = self._next(NAME)
        if not found:
            raise SheetError("expected_node", line=self.at, got=self._rest())
        name = found[0]
        node = self.nodes.get(name) or Node(spans=label(name, self.at))
        for shape, pattern in SHAPES:
            if found := self._next(pattern):
                node = replace(node, spans=label(text_of(found), self.at), shape=shape)
                break
        else:
            if self.text[self.place : self.place + 1] in ("[", "(", "{", ">"):
                raise SheetError("label_end", line=self.at, got=self._rest())
        while found := self._next(CLASS):
            self.classes.append((name, found[1], self.at))
        self.nodes[name] = node
        self.lines.setdefault(name, self.at)
        if self.group_of.get(name) in (None, *self.open):  # the first subgraph has it, or one within that
            self.group_of[name] = self.open[-1] if self.open else None
        return self.numbers.setdefault(name, len(self.numbers))

    def _arrow(self) -> Edge | None:
        """Parse an arrow with its label. `~~~` only places nodes: it has no line."""
        self._next(SPACE)
        begin = self.place
        found = None if AMBIGUOUS.match(self.text, begin) else self._next(ARROW)
        around = None if found else next(filter(None, map(self._next, AROUND)), None)
        found = found or around or self._next(ARROW)
        if not found:
            raise SheetError("expected_arrow", line=self.at, got=self._rest())
        line, words = found[found.lastindex or 0], NO_TEXT
        if around:
            line, words = around[around.lastindex or 0], label(text_of(around), self.at)
        elif named := self._next(LABEL):
            words = label(text_of(named), self.at)
        elif self.text[self.place :].lstrip().startswith("|"):
            raise SheetError("label_end", line=self.at, got=self._rest())
        self._next(SPACE)
        if line.startswith("~"):
            return None
        style: Literal["solid", "dashed", "thick"] = "thick" if "=" in line else "dashed" if "." in line else "solid"
        return Edge(
            start=0, end=0, spans=words, style=style, tail=TIPS.get(found[1], "none"), head=TIPS.get(line[-1], "none")
        )
