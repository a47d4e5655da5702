"""Blocks of Markdown, parsed by markdown-it -> blocks of a sheet."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode

from nudge.errors import SheetError, did_you_mean
from nudge.sheet.figures import chart, knobs
from nudge.sheet.inline import color_of, line, spans_of
from nudge.sheet.mermaid import diagram
from nudge.sheet.page import Alignment, Block, Bullets, Code, Item, Line, Note, Paragraph, Quote, Table

FIGURES: dict[str, Callable[[str, int], Block]] = {"mermaid": diagram, "chart": chart, "knobs": knobs}
CODE = ("", "text", "python", "bash", "console", "json", "toml", "yaml", "c")  # drawn alike, without highlighting
ALIGNMENTS: dict[object, Alignment] = {
    "text-align:left": "left",
    "text-align:center": "center",
    "text-align:right": "right",
}
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


def block(node: SyntaxTreeNode) -> Block:
    """Convert a node of Markdown to a block of a sheet.

    Raises: SheetError.
    """
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
            return _fence(node.info.strip(), node.content, line_of(node))
    raise SheetError("not_in_region", line=line_of(node), what=name_of(node))


def line_of(node: SyntaxTreeNode) -> int:
    """Return the line of the sheet where a node begins, or its parent if markdown-it gives no line."""
    while not node.map and node.parent:
        node = node.parent
    return node.map[0] + 1 if node.map else 1


def name_of(node: SyntaxTreeNode) -> str:
    """Return the name of a node for error messages."""
    return f"a heading of level {node.tag[1]}" if node.type == "heading" else NAMES.get(node.type, f"a {node.type}")


def tokens_of(node: SyntaxTreeNode) -> list[Token]:
    """Return the inline tokens of a paragraph, a heading or a cell."""
    inline = node.children[0].token if node.children else None
    return list(inline.children or ()) if inline else []


def _spans(node: SyntaxTreeNode) -> Line:
    spans = spans_of(tokens_of(node), line_of(node))
    if not spans:
        raise SheetError("no_text", line=line_of(node), what=name_of(node))
    return spans


def _bullets(node: SyntaxTreeNode) -> Bullets:
    items = _items(node, depth=1)
    numbered = node.type == "ordered_list"
    are_keys = all(item.spans[0].mark and item.ticked is None and not item.items for item in items)
    return Bullets(items=items, numbered=numbered, keys=are_keys and not numbered)


def _items(node: SyntaxTreeNode, depth: int) -> tuple[Item, ...]:
    at = line_of(node)
    if depth > DEEPEST:
        raise SheetError("list_depth", line=at, most=DEEPEST)
    if node.attrs.get("start", 1) != 1:
        raise SheetError("list_start", line=at, number=node.attrs["start"])
    return tuple(_item(item, depth) for item in node.children)


def _item(node: SyntaxTreeNode, depth: int) -> Item:
    if not node.children or node.children[0].type != "paragraph":
        raise SheetError("list_item", line=line_of(node))
    first, *rest = node.children
    tokens, ticked = _split_check_box(tokens_of(first))
    spans = spans_of(tokens, line_of(first))
    if not spans:
        raise SheetError("list_item", line=line_of(node))
    for number, below in enumerate(rest):
        if number or below.type not in ("bullet_list", "ordered_list"):
            raise SheetError("not_in_list_item", line=line_of(below), what=name_of(below))
    return Item(
        spans=spans,
        ticked=ticked,
        items=_items(rest[0], depth + 1) if rest else (),
        numbered=bool(rest) and rest[0].type == "ordered_list",
    )


def _split_check_box(tokens: list[Token]) -> tuple[list[Token], bool | None]:
    """Return the tokens without their check box, and whether it is ticked; None without a check box."""
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
        align=tuple(
            ALIGNMENTS.get(cell.attrs.get("style"), "center" if number else "left")
            for number, cell in enumerate(titles.children)
        ),
    )


def _cells(row: SyntaxTreeNode) -> tuple[Line, ...]:
    return tuple(spans_of(tokens_of(cell), line_of(row)) for cell in row.children)


def _quote(node: SyntaxTreeNode) -> Quote:
    """Return the quoted text and its note. The note begins with an arrow, on a new line or in a new paragraph."""
    parts: list[tuple[list[Token], int]] = []
    for paragraph in node.children:
        if paragraph.type != "paragraph":
            raise SheetError("quote", line=line_of(paragraph))
        parts += _split_at_arrows(tokens_of(paragraph), line_of(paragraph))
    quoted, *notes = (spans_of(tokens, at) for tokens, at in parts) if parts else [()]
    if not quoted or len(notes) > 1:
        raise SheetError("quote", line=line_of(node))
    if not notes:
        return Quote(spans=quoted)
    if not notes[0] or not notes[0][0].text.startswith("→"):
        raise SheetError("quote", line=parts[1][1])
    arrow, *rest = notes[0]
    text = arrow.text[1:].lstrip()
    return Quote(spans=quoted, note=(replace(arrow, text=text), *rest) if text else tuple(rest))


def _split_at_arrows(tokens: Sequence[Token], at: int) -> list[tuple[list[Token], int]]:
    """Split the tokens before each line that begins with an arrow. Return the parts and their first lines."""
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
            raise SheetError("no_text", line=at, what="a note")
        return Note(spans=spans, color=color_of(words[0], at) if words else None)
    if words:
        raise SheetError("words_after_fence", line=at, kind=kind, words=" ".join(words))
    if kind in FIGURES:
        return FIGURES[kind](content, at + 1)
    if kind == "layout":
        raise SheetError("second_layout", line=at)
    if kind not in CODE:
        closest = did_you_mean(kind, [*FIGURES, "note", *filter(None, CODE)])
        raise SheetError("unknown_fence", line=at, kind=kind, closest=closest)
    return Code(lines=tuple(content.expandtabs(4).removesuffix("\n").split("\n")))
