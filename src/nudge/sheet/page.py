"""The parts of a sheet: regions and their blocks, read from Markdown (source.py) and drawn by Typst (typst/)."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, get_args

Language = Literal["ko", "en"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
Alignment = Literal["left", "center", "right"]
Color = Literal["ink", "blue", "green", "orange", "purple", "red", "gray", "yellow"]
Tip = Literal["none", "arrow", "half", "circle", "cross"]  # of a line
# fmt: off
Shape = Literal[
    "box", "round", "circle", "diamond", "stadium", "subroutine", "cylinder", "double", "hexagon", "flag",
    "lean-right", "lean-left", "trapezoid", "funnel",
]
# fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A piece of a line. An icon's `text` is its emoji, for screen readers."""

    text: str
    kind: Literal["text", "icon", "footnote", "break"] = "text"
    icon: str = ""  # its name in typst/icons.typ
    bold: bool = False
    code: bool = False
    mark: Color | None = None  # the color of a felt-tip marker behind it


Line = tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """Text, or a bold heading inside a region."""

    spans: Line
    heading: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item of a list, with the list below it. `ticked`: `[x]` or `[ ]`, None if it has no check box."""

    spans: Line
    ticked: bool | None = None
    items: "tuple[Item, ...]" = ()
    numbered: bool = False  # the list below it


@dataclass(frozen=True, slots=True, kw_only=True)
class Bullets:
    """A list. `keys`: all items begin with a marked figure, so figures and their meanings form two columns."""

    items: tuple[Item, ...]
    numbered: bool = False
    keys: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; `align` has one value per column."""

    head: tuple[Line, ...]
    rows: tuple[tuple[Line, ...], ...]
    align: tuple[Alignment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A quoted text and the note below it."""

    spans: Line
    note: Line = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Lines of code, drawn unchanged."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A boxed remark. `color`: of the box; None for the region's color."""

    spans: Line
    color: Color | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A box of a flowchart. `rank`: its layer along the direction; `order`: its place in that layer."""

    spans: Line
    shape: Shape = "box"
    color: Color | None = None
    group: int | None = None  # the innermost subgraph that it is in, by number
    rank: int = 0
    order: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """An arrow between two nodes by number. `back`: it points against the direction, or from a node to itself."""

    start: int
    end: int
    spans: Line = ()
    style: Literal["solid", "dashed", "thick"] = "solid"
    tail: Tip = "none"
    head: Tip = "arrow"
    back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A subgraph: a frame around all nodes of the ranks `first` to `last`, inside the frame of its `parent`."""

    spans: Line = ()
    parent: int | None = None
    first: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A flowchart: `LR` from left to right, `TB` from top to bottom."""

    direction: Literal["LR", "TB"]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    groups: tuple[Group, ...] = ()
    title: Line = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A branch of a mind map and its leaves."""

    spans: Line
    leaves: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mindmap:
    """A mind map: the root and its branches."""

    root: Line
    branches: tuple[Branch, ...]
    title: Line = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An arrow of a sequence diagram, a note, or the beginning, a new part or the end of a frame around messages."""

    kind: Literal["message", "note", "frame", "part", "end"] = "message"
    spans: Line = ()
    start: int = 0
    end: int = 0
    dashed: bool = False
    tail: Tip = "none"
    head: Tip = "arrow"
    number: int | None = None
    side: Literal["over", "left", "right"] = "over"  # of a note
    word: str = ""  # what a frame begins with: loop, alt, opt, ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A participant at work, from one message to another, by numbers."""

    actor: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """A sequence diagram: its participants, and their messages in order."""

    actors: tuple[Line, ...]
    messages: tuple[Message, ...]
    bars: tuple[Bar, ...] = ()
    title: Line = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A line of a chart through points in data units. `schematic`: smooth, because only its shape matters."""

    label: Line
    points: tuple[tuple[float, float], ...]
    color: Color | None = None
    thin: bool = False
    dots: bool = False
    schematic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point of a chart with a label; without `x`, a level line across the chart."""

    y: float
    label: Line
    x: float | None = None
    color: Color | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Curves over two axes. Ticks are (place, label)."""

    x_label: Line
    y_label: Line
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...] = ()
    caption: Line = ()
    height_em: float = 11.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """A knob, turned to `value` from -1 to 1."""

    label: Line
    value: float
    color: Color | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """Knobs in a row."""

    knobs: tuple[Knob, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Blocks side by side; `widths` are relative."""

    widths: tuple[float, ...]
    columns: "tuple[tuple[Block, ...], ...]"


Block = Paragraph | Bullets | Table | Quote | Code | Note | Flow | Mindmap | Sequence | Chart | Knobs | Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A framed part of the page. `width`: relative to its neighbors in the band."""

    name: str
    title: Line
    color: Color
    strong: bool = False  # a heavier frame
    width: float = 1.0
    blocks: tuple[Block, ...] = ()
    footnotes: tuple[tuple[str, Line], ...] = ()  # (mark, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A strip across the page: the title, or regions side by side."""

    percent: float
    regions: tuple[Region, ...] = ()
    is_title: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One page."""

    title: str
    over: Line = ()  # the line above the title
    subtitle: str = ""
    corner: Line = ()  # bottom left of the title band; the legend is at the right
    legend: tuple[tuple[Color, str], ...] = ()
    paper: Literal["a4", "a4-landscape"] = "a4"
    language: Language = "en"
    size_pt: float = 13.0  # of text that just fits its region
    bands: tuple[Band, ...] = ()


def texts_in(value: Any) -> Iterator[Span | str]:
    """Yield the spans and the other strings of a part of a sheet."""
    if isinstance(value, Span | str):
        yield value
    elif isinstance(value, tuple):
        for one in value:
            yield from texts_in(one)
    elif is_dataclass(value):
        for one in fields(value):
            inner = getattr(value, one.name)
            if one.type is str or not isinstance(inner, str):  # a shape, a color or a style is no text
                yield from texts_in(inner)


def to_json(value: Any) -> Any:
    """Return a sheet, or a part of one, as JSON values for Typst: each dataclass becomes a dict with its `type`."""
    if is_dataclass(value):
        by_name = {one.name: to_json(getattr(value, one.name)) for one in fields(value)}
        return {"type": type(value).__name__.lower(), **by_name}
    return [to_json(one) for one in value] if isinstance(value, tuple) else value
