"""Inline Markdown -> a line of spans (bold, code, `==marks==`, icons, footnotes), and `escape`, the inverse."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.table import table
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.emphasis import tokenize as read_emphasis
from markdown_it.token import Token
from mdit_py_plugins.footnote import footnote_plugin
from mdit_py_plugins.footnote.index import footnote_ref
from mdit_py_plugins.front_matter import front_matter_plugin

from nudge.errors import SheetError, did_you_mean
from nudge.sheet.page import Color, Line, Span

COLORS: tuple[Color, ...] = get_args(Color)

# fmt: off
ICONS = {
    "🍌": "banana", "📊": "bars", "💰": "money", "⚡": "bolt", "🖥": "computer", "📌": "pin", "🎓": "cap",
    "📈": "rising", "📉": "falling", "📁": "folder", "💡": "bulb", "☕": "coffee", "🔢": "digits", "🎛": "knobs",
    "📐": "ruler", "🧠": "brain", "📥": "inbox", "📤": "outbox", "🔄": "cycle", "🗺": "map", "📚": "books",
    "💬": "speech", "⚠": "warning", "✅": "check", "❌": "cross", "✔": "tick", "💾": "disk", "🔍": "lens",
    "🎯": "target", "⏱": "stopwatch", "🌱": "sprout", "🔑": "key", "🧩": "puzzle", "📝": "memo", "🎲": "dice",
    "🔥": "fire", "🚀": "rocket", "🌐": "globe", "🧹": "broom", "✂": "scissors", "🍳": "pan", "🧂": "salt",
    "⚖": "scales", "🔧": "wrench", "🏁": "flag", "📦": "box", "👀": "eyes", "⭐": "star", "📟": "gpu",
    "🗄": "node", "🗃": "cluster", "🏭": "datacenter", "🔤": "letters", "🪟": "window", "🎧": "headphones",
    "📖": "book", "🧮": "abacus", "🏷": "tag",
}
# fmt: on
EMOJI = re.compile(f"([{''.join(ICONS)}\U0001f000-\U0001faff])")
SELECTOR = "\ufe0f"  # requests the color form of the previous character; a sheet draws all forms alike

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # no font has them
SPACES = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # controls and other line ends

PLAIN = Span(text="")
COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
MARK = re.compile(r"(?<!=)==(?!=)")
MARK_COLOR = re.compile(r"([a-z]+):(?=\S)")

MOST_CELLS = 3000  # of all tables: short rows are filled up to the width of the first, so few characters make many
MOST_MARK = 40  # characters of a footnote's mark, with its brackets


def _bounded_table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Read a table. Raises: SheetError if there are too many cells."""
    n_before = len(state.tokens)
    found = table(state, start, end, silent)
    state.env["cells"] = state.env.get("cells", 0) + sum(
        token.type in ("th_open", "td_open") for token in state.tokens[n_before:]
    )
    if state.env["cells"] > MOST_CELLS:
        raise SheetError("too_many_cells", line=start + 1, most=MOST_CELLS)
    return found


def _bounded_footnote(state: StateInline, silent: bool) -> bool:
    """Read a footnote's mark. Without the bound, each of many `[^` would be searched for its end to the last one."""
    return "]" in state.src[state.pos : state.pos + MOST_MARK] and footnote_ref(state, silent, always_match=True)


def _only_bold(state: StateInline, silent: bool) -> bool:
    """Read `**`. In a diagram `_` and a single `*` are characters like others: __init__, 2*3*4."""
    return state.src.startswith("**", state.pos) and read_emphasis(state, silent)


# Without `text_join` an escape stays a token of its own, so that `\=\=` is no mark. Without `reference` the line of a
# link definition stays on the page as text.
def _parser() -> MarkdownIt:
    parser = (
        MarkdownIt("commonmark")
        .enable("table")
        .disable(["text_join", "reference"])
        .use(footnote_plugin, inline=False, move_to_end=False, always_match_refs=True)
        .use(front_matter_plugin)
    )
    parser.block.ruler.at("table", _bounded_table, {"alt": ["paragraph", "reference"]})
    parser.inline.ruler.at("footnote_ref", _bounded_footnote)
    return parser


PARSER = _parser()
OF_LABELS = _parser().disable(["link", "image", "autolink"])
OF_LABELS.inline.ruler.at("emphasis", _only_bold)


def color_of(word: str, at: int) -> Color:
    """Return `word` as a color. Raises: SheetError if it is not a color."""
    for color in COLORS:
        if color == word:
            return color
    raise SheetError("unknown_word", line=at, what="color", word=word, closest=did_you_mean(word, COLORS))


def line(text: str, *, at: int = 1, parser: MarkdownIt = PARSER) -> Line:
    """Return the spans of inline Markdown on line `at` of the sheet.

    Raises: SheetError.
    """
    (inline,) = parser.parseInline(text.strip())
    return spans_of(inline.children or (), at)


def spans_of(tokens: Sequence[Token], at: int) -> Line:
    """Return the spans of markdown-it's inline tokens, which begin on line `at` of the sheet.

    Raises: SheetError.
    """
    writer = _Writer(at=at)
    for token in tokens:
        writer.write(token)
    if writer.opened_at:
        raise SheetError("open_mark", line=writer.opened_at)
    return tuple(writer.spans)


@dataclass(slots=True, kw_only=True)
class _Writer:
    """Collected spans."""

    at: int  # the line of the sheet
    style: Span = PLAIN  # of the next span
    depth: int = 0  # of nested ** and *
    opened_at: int = 0  # the line where the open mark begins, 0 if none is open
    spans: list[Span] = field(default_factory=list)

    def write(self, token: Token) -> None:
        match token.type:
            case "text":
                self._add_marked(token.content)
            case "text_special":  # an escape or an entity: a character without markup
                self._add(token.content)
            case "softbreak":
                self.at += 1
                self._add(" ")
            case "hardbreak":
                self.at += 1
                self.spans.append(Span(text="\n", kind="break"))
            case "code_inline":
                self.spans.append(replace(self.style, text=SPACES.sub(" ", token.content), code=True))
            case "strong_open" | "em_open" | "strong_close" | "em_close":
                self.depth += token.nesting
                self.style = replace(self.style, bold=self.depth > 0)
            case "footnote_ref":
                self.spans.append(replace(self.style, text=token.meta["label"], kind="footnote"))
            case "html_inline":
                self._add_html(token.content)
            case "link_open" | "link_close":
                pass
            case _:
                raise SheetError("not_in_text", line=self.at, kind=token.type, icons=" ".join(ICONS))

    def _add_html(self, tag: str) -> None:
        self.at += tag.count("\n")
        if comment := COMMENT.fullmatch(tag):
            if directive(comment[1]):
                raise SheetError("directive_in_text", line=self.at, comment=tag)
        elif re.fullmatch(r"<br\s*/?>", tag):
            self.spans.append(Span(text="\n", kind="break"))
        else:
            raise SheetError("html", line=self.at, html=tag[:60])

    def _add_marked(self, text: str) -> None:
        """Add text with marks: `==` or `==color:` before a character begins a mark, `==` after a character ends it."""
        if "**" in text:
            raise SheetError("not_bold", line=self.at, text=text.strip()[:60])
        done = 0
        for found in MARK.finditer(text):
            neighbor = (
                text[found.start() - 1 : found.start()] if self.opened_at else text[found.end() : found.end() + 1]
            )
            if neighbor.isspace():
                continue
            self._add_plain(text[done : found.start()])
            done = found.end()
            mark: Color | None = None
            if self.opened_at:
                self.opened_at = 0
            else:
                self.opened_at, mark = self.at, "yellow"
                if named := MARK_COLOR.match(text, done):
                    mark, done = color_of(named[1], self.at), named.end()
            self.style = replace(self.style, mark=mark)
        self._add_plain(text[done:])

    def _add_plain(self, text: str) -> None:
        """Add text, with its emoji as icons."""
        for part in EMOJI.split(text.replace(SELECTOR, "")):
            if part in ICONS:
                self.spans.append(replace(self.style, text=part, kind="icon", icon=ICONS[part]))
            elif EMOJI.fullmatch(part):
                known = (f"{emoji} {unicodedata.name(emoji).lower()}" for emoji in ICONS)
                name = unicodedata.name(part, "without a name").lower()
                closest = did_you_mean(f"{part} {name}", known)
                raise SheetError("unknown_icon", line=self.at, emoji=part, name=name, closest=closest)
            else:
                self._add(part)

    def _add(self, text: str) -> None:
        """Append text in the current style, extending the last span if its style is the same."""
        if not text:
            return
        span = replace(self.style, text=SPACES.sub(" ", text))  # entities can encode control characters
        if self.spans and replace(self.spans[-1], text=span.text) == span:
            span = replace(span, text=self.spans.pop().text + span.text)
        self.spans.append(replace(span, text=unicodedata.normalize("NFC", span.text)))  # of entities: e&#769;


def comments(html: str) -> tuple[list[str], str]:
    """Return the contents of the comments in HTML, and what is left without them."""
    contents, left, done = [], "", 0
    while (start := html.find("<!--", done)) >= 0 and (end := html.find("-->", start + 4)) >= 0:
        contents.append(html[start + 4 : end])
        left += html[done:start]
        done = end + 3
    return contents, left + html[done:]


def directive(remark: str) -> list[str]:
    """Return the words of a comment that controls columns, or [] for any other comment."""
    words = remark.split()
    return words if words[:1] == ["columns"] or words in (["next"], ["end"]) else []


def escape(text: str) -> str:
    """Return one line of inline Markdown that `line` reads as this text.

    Safe in a paragraph, a heading, a list item, a table cell, a quoted Mermaid label and a YAML string. Line ends and
    control characters become spaces; the emoji of ICONS stay icons.
    """
    text = CONTROL.sub("\ufffd", SPACES.sub(" ", text))
    body = text.strip()
    if not body:
        return _entities(text)
    before, after = text[: -len(text.lstrip())], text[len(text.rstrip()) :]
    body = re.sub(r"[\\`*_\[\]<>&=|~#$]|:(?=::)|(?<=::):|(?<=:):(?=:)", r"\\\g<0>", body)
    body = re.sub(r"^(?=[-+])|^([0-9]{1,9})(?=[.)])", r"\1\\", body)
    body = re.sub("^→", "&rarr;", body).replace('"', "&quot;")
    body = EMOJI.sub(lambda found: found[0] if found[0] in ICONS else _entities(found[0]), body)
    return _entities(before) + body + _entities(after)


def _entities(text: str) -> str:
    return "".join(f"&#{ord(char)};" for char in text)
