"""The Markdown of a sheet -> the parts of its page. The text is data: nothing in it is evaluated.

The text is front matter, a ```layout fence, and for each region a heading `## title <!-- name: color -->` with its
blocks. blocks.py, figures.py (YAML) and mermaid.py parse the blocks, inline.py the lines of text in them.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import yaml
from markdown_it.tree import SyntaxTreeNode

from nudge.errors import SheetError, did_you_mean
from nudge.sheet.blocks import block, line_of, name_of, tokens_of
from nudge.sheet.fields import Reader, at_of, choice, number, parse_yaml, record, spans, string
from nudge.sheet.inline import COLORS, COMMENT, CONTROL, PARSER, color_of, comments, directive, spans_of
from nudge.sheet.page import LANGUAGES, Band, Block, Columns, Line, Region, Sheet, Span, texts_in

MOST_CHARACTERS = 150_000  # a full page has 6,000, and a curve of 2,000 points 50,000
MOST_IN_LINE = 60_000
PAPERS: tuple[Literal["a4", "a4-landscape"], ...] = ("a4", "a4-landscape")
PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%\s+(.+)")
PLACE = re.compile(r"([\w-]+)(?:\s*\*\s*([0-9]+(?:\.[0-9]+)?))?")
REGION = re.compile(r"\s*([\w-]+)\s*:\s*(\w+)(\s+strong)?\s*")
LEAST_WIDTH, MOST_WIDTH = 0.01, 100.0  # of a region or a column, relative to its neighbors


def read(text: str, *, name: str = "sheet") -> Sheet:
    """Parse the text of a sheet. Error messages begin with `name`.

    Raises: SheetError.
    """
    try:
        return _sheet(text.removeprefix("\ufeff"))
    except SheetError as error:
        raise error.within(f"{name}, ") from None


def _sheet(text: str) -> Sheet:
    # Text from macOS may have decomposed letters, which no pen has: ᄀ + ᅡ is 가, e + ´ is é.
    text = unicodedata.normalize("NFC", re.sub(r"\r\n?", "\n", text))
    _refuse_long(text)
    _refuse_controls(text)
    nodes = list(SyntaxTreeNode(PARSER.parse(text)).children)
    _refuse_open_fences(nodes, text.split("\n"))
    if not nodes or nodes[0].type != "front_matter":
        raise SheetError("no_front_matter", line=1)
    page = _front_matter(nodes[0].content)
    layout, *content = [node for node in nodes[1:] if not _is_remark(node)] or nodes[:1]
    if layout.type != "fence" or layout.info.strip() != "layout":
        raise SheetError("no_layout", line=line_of(layout))
    rows = _layout(layout)
    regions = _regions(content, {place.name: place for _, places in rows for place in places})
    bands = tuple(
        Band(percent=percent, regions=tuple(regions[place.name] for place in places), is_title=not places)
        for percent, places in rows
    )
    numbers = {mark: str(number) for number, mark in enumerate(dict.fromkeys(footnotes_in(bands)), 1)}
    return replace(page, bands=_number_footnotes(bands, numbers))


def _is_remark(node: SyntaxTreeNode) -> bool:
    """Return whether the node is only comments, and none of them a directive."""
    contents, left = comments(node.content)
    return node.type == "html_block" and not left.strip() and not any(map(directive, contents))


def _refuse_long(text: str) -> None:
    if len(text) > MOST_CHARACTERS:
        at = text.count("\n", 0, MOST_CHARACTERS) + 1
        raise SheetError("too_many_characters", line=at, number=len(text), most=MOST_CHARACTERS)
    for at, content in enumerate(text.split("\n"), 1):
        if len(content) > MOST_IN_LINE:
            raise SheetError("long_line", line=at, number=len(content), most=MOST_IN_LINE)


def _refuse_controls(text: str) -> None:
    for at, content in enumerate(text.split("\n"), 1):
        if found := CONTROL.search(content.replace("\t", " ")):
            raise SheetError("control_character", line=at, column=found.start() + 1, number=ord(found[0]))


def _refuse_open_fences(nodes: list[SyntaxTreeNode], lines: list[str]) -> None:
    """Check that every fence has an end. Without one it hides all later regions. Raises: SheetError."""
    for node in nodes:
        if node.type == "fence" and node.map:
            last = lines[node.map[1] - 1].strip() if node.map[1] - node.map[0] > 1 else ""
            if not last.startswith(node.markup) or last.strip(node.markup[0]):
                raise SheetError("open_fence", line=line_of(node), fence=node.markup, kind=node.info)


# --- front matter and layout -----------------------------------------------------------------------------------------


def _front_matter(text: str) -> Sheet:
    values = record(parse_yaml(text, 2), "the front matter", FRONT, "title")
    if "size" in values:
        values["size_pt"] = values.pop("size")
    return Sheet(**values)


def _title(node: yaml.Node, key: str) -> str:
    title = string(node, key).strip()
    if not title:
        raise SheetError("no_title", line=at_of(node))
    return title


def _line(node: yaml.Node, key: str) -> Line:
    text = spans(node, key)
    for mark in footnotes_in(text):
        raise SheetError("footnote_outside", line=at_of(node), mark=mark)
    return text


def _legend(node: yaml.Node, _: str) -> tuple[tuple[str, str], ...]:
    return tuple(record(node, "the legend", dict.fromkeys(COLORS, string)).items())


FRONT: dict[str, Reader] = {
    "title": _title,
    "over": _line,
    "subtitle": string,
    "corner": _line,
    "paper": partial(choice, known=PAPERS),
    "language": partial(choice, known=LANGUAGES),
    "size": partial(number, least=10, most=20),
    "legend": _legend,
}


class Place(NamedTuple):
    """The place of a region in the layout, from line `at` of the sheet."""

    name: str
    width: float
    at: int


def _layout(fence: SyntaxTreeNode) -> list[tuple[float, list[Place]]]:
    """Return the percentage and the places of each band; the title's band has no places."""
    bands: list[tuple[float, list[Place]]] = []
    names: set[str] = set()
    first = line_of(fence)
    for at, content in enumerate(fence.content.split("\n"), first + 1):
        if not content.strip():
            continue
        found = PERCENT.fullmatch(content.strip())
        if not found or not float(found[1]) > 0:
            raise SheetError("band", line=at, text=content.strip()[:60])
        parts = [part.strip() for part in found[2].split("|")]
        places = [] if parts == ["title"] else [_place(part, at) for part in parts]
        for place in places:
            if place.name in names:
                raise SheetError("repeated_region", line=at, region=place.name)
            names.add(place.name)
        bands.append((float(found[1]), places))
    titles = sum(not places for _, places in bands)
    if titles != 1:
        raise SheetError("title_bands", line=first, number=titles)
    total = sum(percent for percent, _ in bands)
    if abs(total - 100) > 1e-6:
        raise SheetError("layout_sum", line=first, total=total, change=100 - total)
    return bands


def _place(text: str, at: int) -> Place:
    found = PLACE.fullmatch(text)
    if not found or found[1] == "title":
        raise SheetError("place", line=at, text=text[:60])
    return Place(name=found[1], width=_width(found[2] or "1", at), at=at)


def _width(text: str, at: int) -> float:
    width = float(text)
    if not LEAST_WIDTH <= width <= MOST_WIDTH:
        raise SheetError("out_of_range", line=at, what="width", least=LEAST_WIDTH, most=MOST_WIDTH, got=text[:40])
    return width


# --- regions ---------------------------------------------------------------------------------------------------------


def _regions(nodes: list[SyntaxTreeNode], places: dict[str, Place]) -> dict[str, Region]:
    """Return the regions by name, each with the blocks between its heading and the next heading."""
    regions: dict[str, Region] = {}
    marks: set[str] = set()  # of all footnotes: in Markdown a mark is unique in the whole text
    headings = [index for index, node in enumerate(nodes) if node.type == "heading" and node.tag == "h2"]
    if nodes and headings[:1] != [0]:
        raise SheetError("before_regions", line=line_of(nodes[0]), what=name_of(nodes[0]))
    for start, end in pairwise([*headings, len(nodes)]):
        at, region = line_of(nodes[start]), _heading(nodes[start])
        if region.name not in places:
            raise SheetError("unknown_region", line=at, region=region.name, closest=did_you_mean(region.name, places))
        if region.name in regions:
            raise SheetError("repeated_region", line=at, region=region.name)
        region = replace(region, width=places[region.name].width)
        content = _Content(region=region, marks=marks, used=dict.fromkeys(footnotes_in(region.title), at))
        for node in nodes[start + 1 : end]:
            content.add(node)
        regions[region.name] = content.end()
    for place in places.values():
        if place.name not in regions:
            raise SheetError("no_heading", line=place.at, region=place.name)
    return regions


def _heading(node: SyntaxTreeNode) -> Region:
    at, tokens = line_of(node), tokens_of(node)
    comment = COMMENT.fullmatch(tokens[-1].content) if tokens else None
    found = REGION.fullmatch(comment[1]) if comment else None
    if not found:
        raise SheetError("region_heading", line=at)
    words = tokens[:-1]
    if words and words[-1].type == "text":  # without the space before the comment
        words[-1] = words[-1].copy(content=words[-1].content.rstrip())
    title = spans_of(words, at)
    if not title:
        raise SheetError("region_heading", line=at)
    return Region(name=found[1], title=title, color=color_of(found[2], at), strong=bool(found[3]))


@dataclass(slots=True, kw_only=True)
class _Content:
    """The blocks and footnotes below a region's heading."""

    region: Region
    marks: set[str]
    used: dict[str, int]  # the marks of referenced footnotes, with the line of the first reference
    blocks: list[Block] = field(default_factory=list)
    footnotes: dict[str, tuple[int, Line]] = field(default_factory=dict)  # by mark: line, text
    widths: tuple[float, ...] = ()  # of the open columns
    columns: list[list[Block]] = field(default_factory=list)
    columns_at: int = 0

    def add(self, node: SyntaxTreeNode) -> None:
        if node.type == "html_block":
            self._read_comments(node)
        elif node.type == "footnote_reference":
            self._add_footnote(node)
        else:
            added = block(node)
            for mark in footnotes_in(added):
                self.used.setdefault(mark, line_of(node))
            (self.columns[-1] if self.columns else self.blocks).append(added)

    def end(self) -> Region:
        if self.columns:
            raise SheetError("open_columns", line=self.columns_at)
        for mark, at in self.used.items():
            if mark not in self.footnotes:
                raise SheetError("no_footnote", line=at, mark=mark, region=self.region.name)
        for mark, (at, _) in self.footnotes.items():
            if mark not in self.used:
                raise SheetError("unused_footnote", line=at, mark=mark, region=self.region.name)
        footnotes = tuple((mark, text) for mark, (_, text) in self.footnotes.items())
        return replace(self.region, blocks=tuple(self.blocks), footnotes=footnotes)

    def _read_comments(self, node: SyntaxTreeNode) -> None:
        at, content = line_of(node), node.content.strip()
        remarks, left = comments(content)
        if left.strip():
            raise SheetError("html", line=at, html=content[:60])
        for remark in remarks:
            match directive(remark):
                case ["columns", *widths]:
                    self._open_columns(widths, at)
                case [word]:
                    self._end_column(word, at)

    def _open_columns(self, widths: list[str], at: int) -> None:
        if self.columns:
            raise SheetError("nested_columns", line=at, outer=self.columns_at)
        if len(widths) < 2 or not all(re.fullmatch(r"[0-9]+(\.[0-9]+)?", width) for width in widths):
            raise SheetError("column_widths", line=at, got=" ".join(widths))
        self.widths = tuple(_width(width, at) for width in widths)
        self.columns, self.columns_at = [[]], at

    def _end_column(self, word: str, at: int) -> None:
        """End a column: begin the next one, or end all columns."""
        if not self.columns:
            raise SheetError("outside_columns", line=at, word=word)
        n_columns = len(self.columns) + (word == "next")
        if n_columns > len(self.widths) or (word == "end" and n_columns < len(self.widths)):
            raise SheetError("column_count", line=at, widths=len(self.widths), begin=self.columns_at)
        if not self.columns[-1]:
            raise SheetError("empty_column", line=at)
        if word == "next":
            self.columns.append([])
            return
        self.blocks.append(Columns(widths=self.widths, columns=tuple(map(tuple, self.columns))))
        self.columns = []

    def _add_footnote(self, node: SyntaxTreeNode) -> None:
        at, mark = line_of(node), node.nester_tokens.opening.meta["label"] if node.nester_tokens else ""
        if mark in self.marks:
            raise SheetError("repeated_footnote", line=at, mark=mark)
        if [child.type for child in node.children] != ["paragraph"]:
            raise SheetError("footnote_text", line=at, mark=mark)
        text = spans_of(tokens_of(node.children[0]), at)
        if any(footnotes_in(text)):
            raise SheetError("nested_footnote", line=at, mark=mark)
        self.footnotes[mark] = (at, text)
        self.marks.add(mark)


def footnotes_in(value: Any) -> Iterator[str]:
    """Yield the marks of all footnote references in a part of a sheet."""
    return (one.text for one in texts_in(value) if isinstance(one, Span) and one.kind == "footnote")


def _number_footnotes(value: Any, numbers: Mapping[str, str]) -> Any:
    """Replace footnote marks with their numbers, at any depth, and sort each region's footnotes."""
    if isinstance(value, Span):
        return replace(value, text=numbers[value.text]) if value.kind == "footnote" else value
    if isinstance(value, tuple):
        return tuple(_number_footnotes(one, numbers) for one in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    value = replace(value, **{one.name: _number_footnotes(getattr(value, one.name), numbers) for one in fields(value)})
    if isinstance(value, Region):
        footnotes = sorted(((numbers[mark], text) for mark, text in value.footnotes), key=lambda note: int(note[0]))
        return replace(value, footnotes=tuple(footnotes))
    return value
