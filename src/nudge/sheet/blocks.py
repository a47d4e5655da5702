"""Blocks of markdown, as markdown-it nests them -> blocks of a sheet."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode

from nudge.errors import nearest
from nudge.sheet.figures import chart, knobs
from nudge.sheet.inline import colour_of, fault, line, spans_of
from nudge.sheet.mermaid import diagram
from nudge.sheet.page import Block, Bullets, Code, Item, Line, Note, Paragraph, Quote, Table

DRAWN = ("layout", "mermaid", "chart", "knobs", "note")
CODE = ("", "text", "python", "bash", "console", "json", "toml", "yaml", "c")  # lines as they are, in no other colours
DEEPEST = 4  # lists within lists

NAMES = {
    "hr": "a line of ---",
    "code_block": "indented text",
    "html_block": "HTML",
    "fence": "a fence",
    "bullet_list": "a list",
    "ordered_list": "a list",
    "footnote_reference": "a footnote's text",
    "blockquote": "a quote",
    "front_matter": "a front matter",
}
UNDERSTOOD = "paragraphs, - and 1. lists, tables, > quotes, ### headings and ``` fences are understood"


def block(node: SyntaxTreeNode) -> Block:
    """The block of the sheet.

    Raises: SheetError.
    """
    at = line_of(node)
    match node.type:
        case "paragraph":
            return Paragraph(spans=_spans(node))
        case "heading" if node.tag == "h3":
            return Paragraph(spans=_spans(node), heading=True)
        case "bullet_list" | "ordered_list":
            return _bullets(node)
        case "table":
            return _table(node)
        case "blockquote":
            return _quote(node)
        case "fence":
            return _fence(node.info.strip(), node.content, at)
    raise fault(at, f"{name_of(node)} has no place in a region", UNDERSTOOD)


def line_of(node: SyntaxTreeNode) -> int:
    """The line of the sheet where a node begins: that of its parent, where markdown-it names none."""
    while not node.map and node.parent:
        node = node.parent
    return node.map[0] + 1 if node.map else 1


def name_of(node: SyntaxTreeNode) -> str:
    """What it is, in words."""
    return f"a heading of level {node.tag[1]}" if node.type == "heading" else NAMES.get(node.type, f"a {node.type}")


def tokens_of(node: SyntaxTreeNode) -> list[Token]:
    """The inline tokens of a paragraph, a heading or a cell."""
    inline = node.children[0].token if node.children else None
    return list(inline.children or ()) if inline else []


def _spans(node: SyntaxTreeNode) -> Line:
    spans = spans_of(tokens_of(node), line_of(node))
    if not spans:
        raise fault(line_of(node), f"{name_of(node)} without text", "write some, or leave it out")
    return spans


def _bullets(node: SyntaxTreeNode) -> Bullets:
    items = _items(node, depth=1)
    numbered = node.type == "ordered_list"
    are_keys = all(item.spans[0].mark and item.ticked is None and not item.items for item in items)
    return Bullets(items=items, numbered=numbered, keys=are_keys and not numbered)


def _items(node: SyntaxTreeNode, depth: int) -> tuple[Item, ...]:
    at = line_of(node)
    if depth > DEEPEST:
        raise fault(at, f"lists more than {DEEPEST} deep", "move the point up")
    if node.attrs.get("start", 1) != 1:
        raise fault(at, f"a numbered list that begins with {node.attrs['start']}", "begin with 1.")
    return tuple(_item(item, depth) for item in node.children)


def _item(node: SyntaxTreeNode, depth: int) -> Item:
    if not node.children or node.children[0].type != "paragraph":
        raise fault(line_of(node), "a point that does not begin with text", "- text, and what is below it indented")
    first, *rest = node.children
    tokens, ticked = _ticked(tokens_of(first))
    spans = spans_of(tokens, line_of(first))
    if not spans:
        raise fault(line_of(node), "a point without text", "write some, or leave it out")
    for number, below in enumerate(rest):
        if number or below.type not in ("bullet_list", "ordered_list"):
            raise fault(line_of(below), f"{name_of(below)} within a point", "a point holds text and one list of points")
    return Item(
        spans=spans,
        ticked=ticked,
        items=_items(rest[0], depth + 1) if rest else (),
        numbered=bool(rest) and rest[0].type == "ordered_list",
    )


def _ticked(tokens: list[Token]) -> tuple[list[Token], bool | None]:
    """What follows a check box, and whether it is ticked."""
    box = tokens[0].content[:4] if tokens and tokens[0].type == "text" else ""
    if box not in ("[ ] ", "[x] ", "[X] "):
        return tokens, None
    return [tokens[0].copy(content=tokens[0].content[4:]), *tokens[1:]], box != "[ ] "


def _table(node: SyntaxTreeNode) -> Table:
    head, *body = node.children
    (titles,) = head.children
    return Table(
        head=_cells(titles),
        rows=tuple(_cells(row) for rows in body for row in rows.children),
        align=tuple(_align(cell, first=number == 0) for number, cell in enumerate(titles.children)),
    )


def _cells(row: SyntaxTreeNode) -> tuple[Line, ...]:
    return tuple(spans_of(tokens_of(cell), line_of(row)) for cell in row.children)


def _align(cell: SyntaxTreeNode, *, first: bool) -> Literal["left", "center", "right"]:
    match cell.attrs.get("style"):
        case "text-align:left":
            return "left"
        case "text-align:center":
            return "center"
        case "text-align:right":
            return "right"
    return "left" if first else "center"


def _quote(node: SyntaxTreeNode) -> Quote:
    """Words, and from a line that begins with an arrow on, the note: in their paragraph or in one of its own."""
    hint = "> words, then a line > → note"
    parts: list[tuple[list[Token], int]] = []
    for paragraph in node.children:
        if paragraph.type != "paragraph":
            raise fault(line_of(paragraph), f"{name_of(paragraph)} within a quote", hint)
        parts += _at_arrows(tokens_of(paragraph), line_of(paragraph))
    words, *notes = (spans_of(tokens, at) for tokens, at in parts) if parts else [()]
    if not words or len(notes) > 1:
        raise fault(line_of(node), "expected a quote of one paragraph and at most one note", hint)
    if not notes:
        return Quote(spans=words)
    if notes[0][:1] == () or not notes[0][0].text.startswith("→"):
        raise fault(parts[1][1], "a second paragraph within a quote", hint)
    arrow, *rest = notes[0]
    said = arrow.text[1:].lstrip()
    return Quote(spans=words, note=(replace(arrow, text=said), *rest) if said else tuple(rest))


def _at_arrows(tokens: Sequence[Token], at: int) -> list[tuple[list[Token], int]]:
    """The tokens parted before each line that begins with an arrow, and the lines where the parts begin."""
    parts: list[tuple[list[Token], int]] = [([], at)]
    for number, token in enumerate(tokens):
        if token.type in ("softbreak", "hardbreak"):
            at += 1
            after = tokens[number + 1] if number + 1 < len(tokens) else token
            if after.type == "text" and after.content.startswith("→"):
                parts.append(([], at))
                continue
        parts[-1][0].append(token)
    return parts


def _fence(info: str, content: str, at: int) -> Block:
    kind, *words = info.split() or [""]
    if kind == "note" and len(words) < 2:
        spans = line(content, at=at + 1)
        if not spans:
            raise fault(at, "a note without text", "write some, or leave it out")
        return Note(spans=spans, colour=colour_of(words[0], at) if words else None)
    if words:
        raise fault(at, f"expected nothing after ```{kind}, got {' '.join(words)!r}", "only ```note may name a colour")
    match kind:
        case "mermaid":
            return diagram(content, at + 1)
        case "chart":
            return chart(content, at + 1)
        case "knobs":
            return knobs(content, at + 1)
        case "layout":
            raise fault(at, "a second layout", "it stands once, below the front matter")
    if kind not in CODE:
        raise fault(at, f"no fence is named {kind!r}", nearest(kind, [*DRAWN, *filter(None, CODE)]))
    return Code(lines=tuple(content.expandtabs(4).removesuffix("\n").split("\n")))
