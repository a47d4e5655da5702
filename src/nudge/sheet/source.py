"""The text of a sheet, markdown, -> what is on its page. The text is data: nothing in it is evaluated.

It is front matter, a ```layout fence, and per region a heading `## title <!-- name: colour -->` with its blocks, which
blocks.py, figures.py (YAML) and mermaid.py read; inline.py reads every line of text in them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

import yaml
from markdown_it.tree import SyntaxTreeNode

from nudge.errors import SheetError, nearest
from nudge.sheet.blocks import UNDERSTOOD, block, line_of, name_of, tokens_of
from nudge.sheet.fields import at_of, choice, composed, mapping, number, string
from nudge.sheet.inline import COLOURS, COMMENT, CONTROL, PARSER, colour_of, directive, fault, line, spans_of
from nudge.sheet.page import LANGUAGES, Band, Block, Colour, Columns, Line, Region, Sheet, Span

PAPERS: tuple[Literal["a4", "a4-landscape"], ...] = ("a4", "a4-landscape")
KEYS = ("over", "subtitle", "corner", "paper", "language", "size", "legend")
PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%\s+(.+)")
PLACE = re.compile(r"([\w-]+)(?:\s*\*\s*([0-9]+(?:\.[0-9]+)?))?")
REGION = re.compile(r"\s*([\w-]+)\s*:\s*(\w+)(\s+strong)?\s*")

BEGIN = '---\ntitle: "..."\n---\nthen a ```layout fence'
LAYOUT = "a line is: 40% name, or 25% name*1.5 | other; one is the title's: 10% title"
HEADING = "## Title <!-- name: blue -->, or <!-- name: blue strong -->"
COLUMNS = "<!-- columns 1.5 1 -->, blocks, <!-- next -->, blocks, <!-- end -->"


def read(text: str, *, name: str = "sheet") -> Sheet:
    """The sheet that the text describes; errors begin with `name`.

    Raises: SheetError.
    """
    try:
        return _sheet(text.removeprefix("\ufeff"))
    except SheetError as error:
        raise SheetError(f"{name}, {error.message}", error.hint) from None


def _sheet(text: str) -> Sheet:
    text = re.sub(r"\r\n?", "\n", text)
    _refuse_controls(text)
    nodes = list(SyntaxTreeNode(PARSER.parse(text)).children)
    _refuse_open_fences(nodes, text.split("\n"))
    if not nodes or nodes[0].type != "front_matter":
        raise fault(1, "expected front matter, from a first line --- to the next", BEGIN)
    page = _front(nodes[0].content)
    layout, *content = [node for node in nodes[1:] if not _is_remark(node)] or nodes[:1]
    if layout.type != "fence" or layout.info.strip() != "layout":
        raise fault(line_of(layout), "expected a ```layout fence after the front matter", LAYOUT)
    bands, places = _layout(layout)
    regions = _regions(content, places)
    for name, at in places.items():
        if name not in regions:
            raise fault(at, f"the layout has a region {name!r}, and no heading does", f"## Title <!-- {name}: blue -->")
    bands = [
        replace(band, regions=tuple(replace(regions[place.name], width=place.width) for place in band.regions))
        for band in bands
    ]
    numbers = {mark: str(number) for number, mark in enumerate(dict.fromkeys(footnotes_in(tuple(bands))), 1)}
    return replace(page, bands=tuple(_numbered(band, numbers) for band in bands))


def _is_remark(node: SyntaxTreeNode) -> bool:
    """Whether it is comments of which none says something to the reader."""
    return (
        node.type == "html_block"
        and not COMMENT.sub("", node.content).strip()
        and not any(map(directive, COMMENT.findall(node.content)))
    )


def _refuse_controls(text: str) -> None:
    for at, content in enumerate(text.split("\n"), 1):
        if found := CONTROL.search(content.replace("\t", " ")):
            raise fault(at, f"a control character U+{ord(found[0]):04X} in column {found.start() + 1}", "delete it")


def _refuse_open_fences(nodes: list[SyntaxTreeNode], lines: list[str]) -> None:
    """A fence without its end goes on to the end of the text, and the error would be that later regions are missing."""
    for node in nodes:
        if node.type == "fence" and node.map:
            last = lines[node.map[1] - 1].strip() if node.map[1] - node.map[0] > 1 else ""
            if not last.startswith(node.markup) or last.strip(node.markup[0]):
                raise fault(
                    line_of(node), f"the fence {node.markup}{node.info} does not end", f"end it with {node.markup}"
                )


# --- front matter and layout -----------------------------------------------------------------------------------------


def _front(text: str) -> Sheet:
    given = mapping(composed(text, 2), 2, "the front matter", required=("title",), known=KEYS)
    title = string(given["title"], "title").strip()
    if not title:
        raise fault(at_of(given["title"]), "the title is empty", 'title: "Neural Network I/O"')
    sheet = Sheet(title=title)
    for key, node in given.items():
        match key:
            case "over" | "corner":
                words = line(string(node, key), at=at_of(node))
                for mark in footnotes_in(words):
                    raise fault(at_of(node), f"a footnote [^{mark}] outside of a region", "only regions have footnotes")
                sheet = replace(sheet, over=words) if key == "over" else replace(sheet, corner=words)
            case "subtitle":
                sheet = replace(sheet, subtitle=string(node, key))
            case "paper":
                sheet = replace(sheet, paper=choice(node, key, PAPERS))
            case "language":
                sheet = replace(sheet, language=choice(node, key, LANGUAGES))
            case "size":
                sheet = replace(sheet, size_pt=number(node, key, least=10, most=20))
            case "legend":
                sheet = replace(sheet, legend=_legend(node))
    return sheet


def _legend(node: yaml.Node) -> tuple[tuple[Colour, str], ...]:
    given = mapping(node, at_of(node), "the legend", required=(), known=COLOURS)
    return tuple((colour_of(word, at_of(words)), string(words, "legend")) for word, words in given.items())


def _layout(fence: SyntaxTreeNode) -> tuple[list[Band], dict[str, int]]:
    """The bands with their regions, still empty, and the line of each region's place."""
    bands: list[Band] = []
    places: dict[str, int] = {}
    first = line_of(fence)
    for at, content in enumerate(fence.content.split("\n"), first + 1):
        if not content.strip():
            continue
        found = PERCENT.fullmatch(content.strip())
        if not found or not float(found[1]) > 0:
            raise fault(at, f"not a band: {content.strip()[:60]!r}", LAYOUT)
        percent, names = float(found[1]), found[2].strip()
        if names == "title":
            bands.append(Band(percent=percent, is_title=True))
            continue
        regions = tuple(_place(part.strip(), at) for part in names.split("|"))
        for region in regions:
            if region.name in places:
                raise fault(at, f"region {region.name!r} has two places", "leave one")
            places[region.name] = at
        bands.append(Band(percent=percent, regions=regions))
    titles = sum(band.is_title for band in bands)
    if titles != 1:
        raise fault(first, f"expected one band of the title, got {titles}", "10% title")
    total = sum(band.percent for band in bands)
    if abs(total - 100) > 1e-6:
        raise fault(
            first, f"the bands of the layout sum to {total:g}%, expected 100%", f"change one by {100 - total:+g}"
        )
    return bands, places


def _place(text: str, at: int) -> Region:
    found = PLACE.fullmatch(text)
    if not found or found[1] == "title":
        raise fault(at, f"not the place of a region: {text[:60]!r}", LAYOUT)
    width = float(found[2] or 1)
    if not 0.01 <= width <= 100:
        raise fault(at, f"region {found[1]!r}: expected a width of 0.01 to 100 parts, got {width:g}", LAYOUT)
    return Region(name=found[1], title=(), colour="ink", width=width)


# --- regions ---------------------------------------------------------------------------------------------------------


def _regions(nodes: list[SyntaxTreeNode], places: dict[str, int]) -> dict[str, Region]:
    """The regions by their names, each with the blocks down to the next one's heading."""
    regions: dict[str, Region] = {}
    marks: set[str] = set()  # of the footnotes of all regions: in Markdown a mark counts for the whole text
    content: _Content | None = None
    for node in nodes:
        if node.type == "heading" and node.tag == "h2":
            if content:
                regions[content.region.name] = content.end()
            region = _heading(node)
            if region.name not in places:
                raise fault(line_of(node), f"the layout has no region {region.name!r}", nearest(region.name, places))
            if region.name in regions:
                raise fault(line_of(node), f"a second region {region.name!r}", "every region has one heading")
            content = _Content(region=region, at=line_of(node), marks=marks)
        elif content:
            content.add(node)
        else:
            raise fault(line_of(node), f"{name_of(node)} before the first region", HEADING)
    if content:
        regions[content.region.name] = content.end()
    return regions


def _heading(node: SyntaxTreeNode) -> Region:
    at, tokens = line_of(node), tokens_of(node)
    comment = COMMENT.fullmatch(tokens[-1].content) if tokens else None
    found = REGION.fullmatch(comment[1]) if comment else None
    if not found:
        raise fault(at, "expected the heading of a region to end with its name and colour", HEADING)
    words = tokens[:-1]
    if words and words[-1].type == "text":  # without the space before the comment
        words[-1] = words[-1].copy(content=words[-1].content.rstrip())
    title = spans_of(words, at)
    if not title:
        raise fault(at, f"region {found[1]!r} has no title", HEADING)
    return Region(name=found[1], title=title, colour=colour_of(found[2], at), strong=bool(found[3]))


@dataclass(slots=True, kw_only=True)
class _Content:
    """Collects what stands below a region's heading in line `at`."""

    region: Region
    at: int
    marks: set[str]
    blocks: list[Block] = field(default_factory=list)
    used: dict[str, int] = field(default_factory=dict)  # footnotes: by mark, where it is first referred to
    footnotes: dict[str, tuple[int, Line]] = field(default_factory=dict)  # by mark: line, text
    widths: tuple[float, ...] = ()  # of the columns that are open
    columns: list[list[Block]] = field(default_factory=list)
    columns_at: int = 0

    def add(self, node: SyntaxTreeNode) -> None:
        if node.type == "html_block":
            self._comments(node)
        elif node.type == "footnote_reference":
            self._footnote(node)
        else:
            added = block(node)
            for mark in footnotes_in(added):
                self.used.setdefault(mark, line_of(node))
            (self.columns[-1] if self.columns else self.blocks).append(added)

    def end(self) -> Region:
        if self.columns:
            raise fault(self.columns_at, "columns that do not end in their region", COLUMNS)
        name = self.region.name
        for mark, at in (dict.fromkeys(footnotes_in(self.region.title), self.at) | self.used).items():
            if mark not in self.footnotes:
                raise fault(at, f"footnote [^{mark}] has no text in region {name!r}", f"[^{mark}]: text")
            self.used[mark] = at
        for mark, (at, _) in self.footnotes.items():
            if mark not in self.used:
                raise fault(at, f"nothing in region {name!r} refers to footnote [^{mark}]", f"write [^{mark}] in it")
        footnotes = tuple((mark, text) for mark, (_, text) in self.footnotes.items())
        return replace(self.region, blocks=tuple(self.blocks), footnotes=footnotes)

    def _comments(self, node: SyntaxTreeNode) -> None:
        at, content = line_of(node), node.content.strip()
        if COMMENT.sub("", content).strip():
            raise fault(at, f"HTML is not understood: {content[:40]!r}", f"{UNDERSTOOD}, and <!-- remarks -->")
        for remark in COMMENT.findall(content):
            match directive(remark):
                case ["columns", *widths]:
                    self._open(widths, at)
                case [word]:
                    self._turn(word, at)

    def _open(self, words: list[str], at: int) -> None:
        if self.columns:
            raise fault(at, "columns within columns", f"end those of line {self.columns_at} before")
        if len(words) < 2 or not all(re.fullmatch(r"[0-9]+(\.[0-9]+)?", word) for word in words):
            raise fault(at, f"expected two or more widths, got {' '.join(words)!r}", COLUMNS)
        self.widths = tuple(float(word) for word in words)
        if not all(0.01 <= width <= 100 for width in self.widths):
            raise fault(at, f"expected widths of 0.01 to 100 parts, got {' '.join(words)!r}", COLUMNS)
        self.columns, self.columns_at = [[]], at

    def _turn(self, word: str, at: int) -> None:
        """To the next column, or out of them."""
        if not self.columns:
            raise fault(at, f"<!-- {word} --> outside of columns", COLUMNS)
        n_columns = len(self.columns) + (word == "next")
        if n_columns > len(self.widths) or (word == "end" and n_columns < len(self.widths)):
            raise fault(at, f"columns of line {self.columns_at}: {len(self.widths)} widths, other columns", COLUMNS)
        if not self.columns[-1]:
            raise fault(at, "a column without anything in it", COLUMNS)
        if word == "next":
            self.columns.append([])
            return
        self.blocks.append(Columns(widths=self.widths, columns=tuple(map(tuple, self.columns))))
        self.columns = []

    def _footnote(self, node: SyntaxTreeNode) -> None:
        at, mark = line_of(node), node.nester_tokens.opening.meta["label"] if node.nester_tokens else ""
        if mark in self.marks:
            raise fault(at, f"footnote [^{mark}] is given twice", "each has a mark of its own: [^1], [^2], ...")
        if [child.type for child in node.children] != ["paragraph"]:
            raise fault(at, f"expected one paragraph as the text of footnote [^{mark}]", f"[^{mark}]: text")
        text = spans_of(tokens_of(node.children[0]), at)
        if any(footnotes_in(text)):
            raise fault(at, f"a footnote within footnote [^{mark}]", "say it in its text")
        self.footnotes[mark] = (at, text)
        self.marks.add(mark)


def footnotes_in(value: Any) -> Iterator[str]:
    """The marks of all footnotes that a part of a sheet refers to."""
    if isinstance(value, Span):
        if value.kind == "footnote":
            yield value.text
    elif is_dataclass(value):
        for one in fields(value):
            yield from footnotes_in(getattr(value, one.name))
    elif isinstance(value, tuple):
        for one in value:
            yield from footnotes_in(one)


def _numbered(value: Any, numbers: Mapping[str, str]) -> Any:
    """A part of a sheet with its footnotes' numbers for their marks, as every reader of markdown shows them."""
    if isinstance(value, Span):
        return replace(value, text=numbers[value.text]) if value.kind == "footnote" else value
    if isinstance(value, tuple):
        return tuple(_numbered(one, numbers) for one in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    value = replace(value, **{one.name: _numbered(getattr(value, one.name), numbers) for one in fields(value)})
    if isinstance(value, Region):
        footnotes = sorted(((numbers[mark], text) for mark, text in value.footnotes), key=lambda note: int(note[0]))
        return replace(value, footnotes=tuple(footnotes))
    return value
