"""What a sheet is made of: regions with their blocks, as markdown says it (source.py) and Typst draws it (typst/)."""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, get_args

Language = Literal["ko", "en"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
Colour = Literal["ink", "blue", "green", "orange", "purple", "red", "gray", "yellow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A piece of a line. `text` is always what it says: also of an icon (its emoji), for who reads without seeing."""

    text: str
    kind: Literal["text", "icon", "footnote", "break"] = "text"
    icon: str = ""  # its name in typst/icons.typ
    bold: bool = False
    code: bool = False
    mark: Colour | None = None  # a felt-tip marker behind it


Line = tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """Text; as a heading inside a region it is bold."""

    spans: Line
    heading: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One point of a list, with the list below it. `ticked`: `[x]` or `[ ]`; None where it is no check box."""

    spans: Line
    ticked: bool | None = None
    items: "tuple[Item, ...]" = ()
    numbered: bool = False  # the list below it


@dataclass(frozen=True, slots=True, kw_only=True)
class Bullets:
    """A list. `keys`: every point begins with a marked figure, so figures and their meaning stand in two columns."""

    items: tuple[Item, ...]
    numbered: bool = False
    keys: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; `align` has one word per column."""

    head: tuple[Line, ...]
    rows: tuple[tuple[Line, ...], ...]
    align: tuple[Literal["left", "center", "right"], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """Somebody's words, and the note below them."""

    spans: Line
    note: Line = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Lines as they are."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A boxed remark. `colour`: of its box; None: its region's."""

    spans: Line
    colour: Colour | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A box of a flowchart. `rank`: how far along its direction; `order`: place beside the others of that rank."""

    spans: Line
    shape: Literal["box", "round", "circle", "diamond"] = "box"
    colour: Colour | None = None
    rank: int = 0
    order: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """An arrow between two nodes by their numbers. `back`: against the direction, or from a node to itself."""

    start: int
    end: int
    spans: Line = ()
    style: Literal["solid", "dashed", "thick"] = "solid"
    arrow: bool = True
    back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A flowchart: `LR` from left to right, `TB` from top to bottom."""

    direction: Literal["LR", "TB"]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A thing of a mind map and its leaves."""

    spans: Line
    leaves: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mindmap:
    """A mind map: the root, what it has to do with, and of what that consists."""

    root: Line
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An arrow of a sequence diagram, or (`kind`) a note over lifelines, or the two ends of a loop's frame."""

    kind: Literal["message", "note", "loop", "end"] = "message"
    spans: Line = ()
    start: int = 0
    end: int = 0
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """Who says what to whom, in this order."""

    actors: tuple[Line, ...]
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A line of a chart through its points, in data units; `schematic`: smooth, its shape alone is meant."""

    label: Line
    points: tuple[tuple[float, float], ...]
    colour: Colour | None = None
    thin: bool = False
    dots: bool = False
    schematic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point of a chart with words beside it; without `x`, a level line across the chart."""

    y: float
    label: Line
    x: float | None = None
    colour: Colour | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Curves over two axes that begin and end at round numbers. Ticks are (place, words)."""

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
    """A knob of a DJ set, turned to `value` of -1 to 1."""

    label: Line
    value: float
    colour: Colour | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """Knobs in a row."""

    knobs: tuple[Knob, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Blocks beside each other; `widths` in parts."""

    widths: tuple[float, ...]
    columns: "tuple[tuple[Block, ...], ...]"


Block = (
    Paragraph | Bullets | Table | Quote | Code | Note | Flow | Mindmap | Sequence | Chart | Knobs | Columns
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A framed part of the page. `width`: its part of its band."""

    name: str
    title: Line
    colour: Colour
    strong: bool = False  # a heavier frame, for what the sheet is about
    width: float = 1.0
    blocks: tuple[Block, ...] = ()
    footnotes: tuple[tuple[str, Line], ...] = ()  # what `[^1]` in this region stands for: (mark, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A strip across the page: the title, or regions beside each other."""

    percent: float
    regions: tuple[Region, ...] = ()
    is_title: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One page."""

    title: str
    over: Line = ()  # the line above the title
    subtitle: str = ""
    corner: Line = ()  # at the left of the title's foot; the legend is at its right
    legend: tuple[tuple[Colour, str], ...] = ()
    paper: Literal["a4", "a4-landscape"] = "a4"
    language: Language = "en"
    size_pt: float = 13.0  # of text, where its region has just the room
    bands: tuple[Band, ...] = ()


def to_json(value: Any) -> Any:
    """A sheet, or any part of one, as Typst reads it: every dataclass is a dict with its `type`."""
    if is_dataclass(value):
        named = {one.name: to_json(getattr(value, one.name)) for one in fields(value)}
        return {"type": type(value).__name__.lower(), **named}
    return [to_json(one) for one in value] if isinstance(value, tuple) else value
