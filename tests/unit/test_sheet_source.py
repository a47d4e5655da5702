"""What the text of a sheet says: its page, regions and blocks, and one clear error for each way to get it wrong."""

import re

import pytest

from nudge.errors import SheetError
from nudge.sheet.inline import COLOURS, ICONS, escaped, line
from nudge.sheet.page import (
    Bullets,
    Chart,
    Code,
    Columns,
    Item,
    Knob,
    Knobs,
    Line,
    Mark,
    Note,
    Paragraph,
    Quote,
    Region,
    Sheet,
    Span,
    Table,
)
from nudge.sheet.source import footnotes_in, read

HEAD = '---\ntitle: "Neural Network I/O"\n---\n```layout\n10% title\n90% one\n```\n## One <!-- one: blue -->\n'
BODY_AT = HEAD.count("\n") + 1


def region(body: str) -> Region:
    (one,) = read(HEAD + body).bands[1].regions
    return one


def block(body: str) -> object:
    (one,) = region(body).blocks
    return one


def plain(text: str) -> Line:
    return (Span(text=text),)


def refused(text: str, at: int, message: str, hint: str) -> None:
    with pytest.raises(SheetError) as raised:
        read(text, name="mine.md")
    assert raised.value.message.startswith(f"mine.md, line {at}: ")
    assert message in raised.value.message
    assert hint in raised.value.hint


# --- the page ------------------------------------------------------------------------------------------------------


def test_the_front_matter_and_the_layout():
    sheet = read(
        """\ufeff---
title: "Neural Network I/O: 2026"
over: CHEAT SHEET
subtitle: no
corner: "**a** 📌"
paper: a4-landscape
language: ko
size: 12.5
legend: {green: yes, blue: Input}
---

<!-- a remark of the writer -->

```layout
10.5% title
25%  in | out*1.7

64.5% flow
```

## 📥 INPUT **now** <!-- in: blue -->

## Flow <!-- flow: red strong -->
## Out <!-- out: gray -->
text
"""
    )
    icon = Span(text="📥", kind="icon", icon="inbox")
    assert (sheet.title, sheet.over, sheet.subtitle) == ("Neural Network I/O: 2026", plain("CHEAT SHEET"), "no")
    assert sheet.corner == (
        Span(text="a", bold=True),
        Span(text=" "),
        Span(text="📌", kind="icon", icon="pin"),
    )
    assert (sheet.paper, sheet.language, sheet.size_pt) == ("a4-landscape", "ko", 12.5)
    assert sheet.legend == (("green", "yes"), ("blue", "Input"))
    assert [(band.percent, band.is_title, [one.name for one in band.regions]) for band in sheet.bands] == [
        (10.5, True, []),
        (25.0, False, ["in", "out"]),
        (64.5, False, ["flow"]),
    ]
    inside, out = sheet.bands[1].regions
    assert inside.title == (icon, Span(text=" INPUT "), Span(text="now", bold=True))
    assert (inside.colour, inside.strong, inside.width, inside.blocks) == ("blue", False, 1.0, ())
    assert (out.colour, out.width, out.blocks) == ("gray", 1.7, (Paragraph(spans=plain("text")),))
    (flow,) = sheet.bands[2].regions
    assert (flow.colour, flow.strong) == ("red", True)


def test_what_is_left_out_has_a_default():
    sheet = read(HEAD)
    assert sheet == Sheet(title="Neural Network I/O", bands=sheet.bands)


def test_lines_may_end_as_on_windows():
    assert read((HEAD + "a\nb").replace("\n", "\r\n")) == read(HEAD + "a\nb")


FRONT_FAULTS = [
    ("", 1, "expected front matter", "title:"),
    ("# a\n", 1, "expected front matter", "---"),
    ("---\ntitle: a\n", 1, "from a first line --- to the next", "title:"),
    ("---\npaper: a4\n---\n", 2, "has no 'title'", "title: ..."),
    ('---\ntitle: ""\n---\n', 2, "the title is empty", "title: "),
    ("---\ntitle: a\nlangage: ko\n---\n", 3, "no key 'langage'", "'language'"),
    ("---\ntitle: a\ntitle: b\n---\n", 3, "'title' is given twice", "leave one"),
    ("---\ntitle: a\npaper: a3\n---\n", 3, "'a3' is not known", "'a4'"),
    ("---\ntitle: a\nlanguage: de\n---\n", 3, "'de' is not known", "en"),
    ("---\ntitle: a\nsize: 30\n---\n", 3, "size: expected 10 to 20, got '30'", "change it"),
    ("---\ntitle: a\nsize: big\n---\n", 3, "got 'big'", ""),
    ("---\ntitle: a\nlegend: [blue]\n---\n", 3, "the legend: expected keys with values, got a list", "blue"),
    ("---\ntitle: a\nlegend: {blu: b}\n---\n", 3, "the legend has no key 'blu'", "'blue'"),
    ("---\ntitle: a\nlegend: {red: a, red: b}\n---\n", 3, "'red' is given twice", "leave one"),
    ("---\ntitle: a\ncorner: '[^1]'\n---\n", 3, "a footnote [^1] outside of a region", "regions"),
    ("---\ntitle: a\ncorner: '<b>'\n---\n", 3, "HTML is not understood: '<b>'", "<br>"),
    ("---\ntitle: [a]\n---\n", 2, "title: expected text, got a list", "quotes"),
    ('---\ntitle: "\\x07"\n---\n', 2, "a control character U+0007", "delete"),
    ("---\n- a\n---\n", 2, "expected keys with values, got a list", "title"),
    ("---\ntitle: a\nover: [\n---\n", 3, "not YAML", "quotes"),
    ("---\ntitle: a: b\n---\n", 2, "not YAML", "quotes"),
    ("---\ntitle: *a\n---\n", 2, "not YAML", "quotes"),
]


@pytest.mark.parametrize(("text", "at", "message", "hint"), FRONT_FAULTS)
def test_a_fault_of_the_front_matter(text: str, at: int, message: str, hint: str):
    refused(text, at, message, hint)


LAYOUT_FAULTS = [
    ("", 4, "expected a ```layout fence", "40% name"),
    ("text\n", 4, "expected a ```layout fence", "40% name"),
    ("```layout\n10% title\n80% one\n```\n", 4, "sum to 90%, expected 100%", "change one by +10"),
    (f"```layout\n{'9' * 308}% title\n{'9' * 308}% one\n```\n", 4, "sum to inf%", "change one"),
    ("```layout\n10% title\n90.5% one\n```\n", 4, "sum to 100.5%", "-0.5"),
    ("```layout\n100% one\n```\n", 4, "one band of the title, got 0", "10% title"),
    ("```layout\n10% title\n10% title\n80% one\n```\n", 4, "one band of the title, got 2", "10% title"),
    ("```layout\n10% title\n90% one | title\n```\n", 6, "'title'", "40% name"),
    ("```layout\n10% title\n90 one\n```\n", 6, "not a band: '90 one'", "40% name"),
    ("```layout\n10% title\n0% one\n90% two\n```\n", 6, "not a band: '0% one'", "40% name"),
    ("```layout\n10% title\n90% one | | two\n```\n", 6, "not the place of a region: ''", "25% name"),
    ("```layout\n10% title\n90% one*0\n```\n", 6, "a width of 0.01 to 100 parts, got 0", "25% name"),
    ("```layout\n10% title\n40% one\n50% one\n```\n", 7, "'one' has two places", "leave one"),
    (
        "```layout\n10% title\n90% one | two\n```\n## A <!-- one: blue -->\n",
        6,
        "a region 'two', and no heading",
        "two: blue",
    ),
    ("```layout\n10% title\n90% one\n```\n## A <!-- on: blue -->\n", 8, "no region 'on'", "'one'"),
    ("```layout\n10% title\n90% one\n```\ntext\n", 8, "a paragraph before the first region", "## Title <!--"),
    ("<!-- a --> text <!-- b -->\n", 4, "expected a ```layout fence", "40% name"),
    ("```layout\n10% title\n90% one\n```\n\n<!-- next -->\n", 9, "HTML before the first region", "## Title <!--"),
    ("```layout\n10% title\n90% one\n", 4, "the fence ```layout does not end", "```"),
]


@pytest.mark.parametrize(("text", "at", "message", "hint"), LAYOUT_FAULTS)
def test_a_fault_of_the_layout(text: str, at: int, message: str, hint: str):
    refused("---\ntitle: a\n---\n" + text, at if text else 1, message, hint)


# --- lines ---------------------------------------------------------------------------------------------------------


def test_a_line_of_every_kind_of_span():
    assert line("a **b *c*** _d_ `e=='f'` [g](http://h) <http://i> [^1] j<br>k<!-- l -->") == (
        Span(text="a "),
        Span(text="b c", bold=True),
        Span(text=" "),
        Span(text="d", bold=True),
        Span(text=" "),
        Span(text="e=='f'", code=True),
        Span(text=" g http://i "),
        Span(text="1", kind="footnote"),
        Span(text=" j"),
        Span(text="\n", kind="break"),
        Span(text="k"),
    )


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("==38%==는", (Span(text="38%", mark="yellow"), Span(text="는"))),
        ("==blue:a==", (Span(text="a", mark="blue"),)),
        ("==blue: a==", (Span(text="blue: a", mark="yellow"),)),
        (r"==key\:a==", (Span(text="key:a", mark="yellow"),)),
        ("==a **b**`c`💡==", (Span(text="a ", mark="yellow"), Span(text="b", mark="yellow", bold=True),
            Span(text="c", mark="yellow", code=True), Span(text="💡", kind="icon", icon="bulb", mark="yellow"))),
        ("**==red:a==** b", (Span(text="a", bold=True, mark="red"), Span(text=" b"))),
        ("a == b and c ===d", plain("a == b and c ===d")),
        (r"\==a\==", plain("==a==")),
        (r"\*\*a\** &lt;b&gt; a_b_c", plain("**a** <b> a_b_c")),
        ("a\nb\tc", plain("a b c")),
        ("a\\\nb", (Span(text="a"), Span(text="\n", kind="break"), Span(text="b"))),
        ("⚠️ a", (Span(text="⚠", kind="icon", icon="warning"), Span(text=" a"))),
        ("`📌`", (Span(text="📌", code=True),)),
        ("", ()),
    ],
)  # fmt: skip
def test_a_line(text: str, spans: Line):
    assert line(text) == spans


def test_every_icon_of_the_table_is_read_and_has_a_name_of_its_own():
    assert [span.icon for span in line("".join(ICONS))] == list(ICONS.values())
    assert len(set(ICONS.values())) == len(ICONS)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("==a", "'==' begins a mark that does not end", r"\=\="),
        ("==gren:a==", "no colour is named 'gren'", "'green'"),
        ("**굵게!**는", "'**' makes nothing bold here", r"\*\*"),
        ("😀", "no icon is drawn for 😀 (grinning face)", "📌"),
        ("🍎 a", "no icon is drawn for 🍎 (red apple)", "did you mean"),
        ("![a](b)", "a sheet has no image", "emoji"),
        ("a<i>b", "HTML is not understood: '<i>'", "<br>"),
        ("a <!-- next --> b", "<!-- next --> stands within text", "line of its own"),
    ],
)
def test_a_fault_of_a_line(text: str, message: str, hint: str):
    refused(HEAD + "first\n" + text + "\n", BODY_AT + 1, message, hint)


def test_escaped_text_is_markdown_that_a_person_still_reads():
    assert escaped("loss 3.91, lr 6e-4 (best)") == "loss 3.91, lr 6e-4 (best)"
    assert escaped("# *a*\n==b== 📌 😀") == r"\# \*a\* \=\=b\=\= 📌 &#128512;"
    assert escaped(' "a" ') == "&#32;&quot;a&quot;&#32;"
    assert escaped("- a") == r"\- a"
    assert escaped("12. a::b:::c") == r"12\. a::b\:\:\:c"


# --- blocks --------------------------------------------------------------------------------------------------------


def test_lists_with_points_below_points_and_check_boxes():
    assert block("- a\n  b\n- [x] c\n  1. d\n     - e\n- [ ] f\n\n- \\[x] g\n") == Bullets(
        items=(
            Item(spans=plain("a b")),
            Item(
                spans=plain("c"),
                ticked=True,
                items=(Item(spans=plain("d"), items=(Item(spans=plain("e")),)),),
                numbered=True,
            ),
            Item(spans=plain("f"), ticked=False),
            Item(spans=plain("[x] g")),
        )
    )
    numbered = block("1. a\n2. ==b==\n")
    assert isinstance(numbered, Bullets)
    assert (numbered.numbered, numbered.keys) == (True, False)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("- ==1== a\n- ==b==\n", True),
        ("- ==1== a\n- b ==2==\n", False),
        ("- ==1== a\n- [x] ==2== b\n", False),  # two columns have no place for a tick,
        ("- ==1== a\n- ==2== b\n  - c\n", False),  # or for a list below
    ],
)
def test_points_that_all_begin_with_a_mark_are_key_figures(text: str, keys: bool):
    bullets = block(text)
    assert isinstance(bullets, Bullets)
    assert bullets.keys is keys


def test_a_table_keeps_its_alignment_and_pads_its_rows():
    assert block("| a | b | c | d |\n|---|---|--:|:--|\n| 1 |\n| 1 | 2 | 3 | `x\\|y` | 5 |\n") == Table(
        head=(plain("a"), plain("b"), plain("c"), plain("d")),
        rows=(
            (plain("1"), (), (), ()),
            (plain("1"), plain("2"), plain("3"), (Span(text="x|y", code=True),)),
        ),
        align=("left", "center", "right", "left"),
    )


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        ("> a\n> b\n", Quote(spans=plain("a b"))),
        ("> a\n> → b\n> c\n", Quote(spans=plain("a"), note=plain("b c"))),
        ("> a\n>\n> → **b**\n", Quote(spans=plain("a"), note=(Span(text="b", bold=True),))),
        ("> a → b\n", Quote(spans=plain("a → b"))),
        ("> → a\n", Quote(spans=plain("→ a"))),
        ("> a\n> &rarr; b\n", Quote(spans=plain("a → b"))),
    ],
)
def test_a_quote_and_its_note(text: str, quote: Quote):
    assert block(text) == quote


def test_headings_notes_and_code():
    fences = "```note green\na\n**b**\n```\n```note\nc\n```\n```\n x\n\n\ty\n```\n~~~python\n==a==\n~~~\n"
    assert region("### a ==b==\n" + fences).blocks == (
        Paragraph(spans=(Span(text="a "), Span(text="b", mark="yellow")), heading=True),
        Note(spans=(Span(text="a "), Span(text="b", bold=True)), colour="green"),
        Note(spans=plain("c")),
        Code(lines=(" x", "", "    y")),
        Code(lines=("==a==",)),
    )


def test_columns_hold_blocks_beside_each_other():
    columns = block("<!-- columns 1.95 1 -->\na\n<!-- a remark -->\n<!-- next -->\nb\n\n- c\n<!-- end -->\n")
    assert columns == Columns(
        widths=(1.95, 1.0),
        columns=(
            (Paragraph(spans=plain("a")),),
            (Paragraph(spans=plain("b")), Bullets(items=(Item(spans=plain("c")),))),
        ),
    )


def test_footnotes_belong_to_their_region():
    one = region("a[^1]\n\n[^1]: b **c**\n\n```note\nd[^x]\n```\n[^x]: e\n")
    assert one.footnotes == (("1", (Span(text="b "), Span(text="c", bold=True))), ("2", plain("e")))


def test_footnotes_are_numbered_as_the_page_refers_to_them() -> None:
    text = (
        "---\ntitle: a\n---\n```layout\n10% title\n90% two | one\n```\n"
        "## A <!-- one: blue -->\na[^1] b[^x] c[^1]\n\n[^x]: d\n[^1]: e\n"
        "## B[^title] <!-- two: red -->\n- f[^9]\n\n[^9]: g\n[^title]: h\n"
    )
    two, one = read(text).bands[1].regions  # not as the text gives them
    assert list(footnotes_in(two)) == ["1", "2"]
    assert two.footnotes == (("1", plain("h")), ("2", plain("g")))
    assert list(footnotes_in(one)) == ["3", "4", "3"]
    assert one.footnotes == (("3", plain("e")), ("4", plain("d")))


BLOCK_FAULTS = [
    ("# a\n", 0, "a heading of level 1 has no place", "### headings"),
    ("a\n\n#### b\n", 2, "a heading of level 4 has no place", "### headings"),
    ("a\n\n---\n", 2, "a line of --- has no place", "paragraphs"),
    ("a\n\n    b\n", 2, "indented text has no place", "``` fences"),
    ("<div>\n", 0, "HTML is not understood: '<div>'", "<!-- remarks -->"),
    ("<!-- a --> b\n", 0, "HTML is not understood", "<!-- remarks -->"),
    ("## b\n", 0, "to end with its name and colour", "## Title <!-- name: blue -->"),
    ("## b <!-- two -->\n", 0, "to end with its name and colour", "## Title <!-- name: blue -->"),
    ("## <!-- one: blue -->\n", 0, "region 'one' has no title", "## Title"),
    ("## b <!-- one: blue -->\n", 0, "a second region 'one'", "one heading"),
    ("## b <!-- one: prple -->\n", 0, "no colour is named 'prple'", "'purple'"),
    ("## b <!-- one: mauve -->\n", 0, "no colour is named 'mauve'", ", ".join(sorted(COLOURS))),
    ("```layout\n```\n", 0, "a second layout", "front matter"),
    ("```mermiad\n```\n", 0, "no fence is named 'mermiad'", "'mermaid'"),
    ("```haskell\n```\n", 0, "no fence is named 'haskell'", "chart"),
    ("```note gren\na\n```\n", 0, "no colour is named 'gren'", "'green'"),
    ("```chart red\n```\n", 0, "expected nothing after ```chart, got 'red'", "```note"),
    ("```note\n```\n", 0, "a note without text", "leave it out"),
    ("```note\na\n==b\n```\n", 2, "a mark that does not end", "=="),
    ("a\n```python\nb\n", 1, "the fence ```python does not end", "```"),
    ("- \n", 0, "a point that does not begin with text", "- text"),
    ("- # a\n", 0, "a point that does not begin with text", "- text"),
    ("- a\n\n  > b\n", 2, "a quote within a point", "one list of points"),
    ("- a\n\n  [^1]: b\n", 2, "a footnote's text within a point", "one list of points"),
    ("- a\n  - b\n  1. c\n", 2, "a list within a point", "one list of points"),
    ("- a\n  - b\n    - c\n      - d\n        - e\n", 4, "lists more than 4 deep", "move"),
    ("2. a\n", 0, "a numbered list that begins with 2", "1."),
    ("> - a\n", 0, "a list within a quote", "> → note"),
    ("> a\n>\n> b\n", 2, "a second paragraph within a quote", "> → note"),
    ("> a\n> → b\n> → c\n", 0, "at most one note", "> → note"),
    (">\n", 0, "expected a quote of one paragraph", "> words"),
    ("a\n\n| a | b |\n|---|---|\n| ==c | d |\n", 4, "a mark that does not end", "=="),
    ("a\n\na[^1]\n", 2, "footnote [^1] has no text in region 'one'", "[^1]: text"),
    ("a\n\n[^1]: b\n", 2, "nothing in region 'one' refers to footnote [^1]", "[^1]"),
    ("a[^1]\n\n[^1]: b\n[^1]: c\n", 3, "footnote [^1] is given twice", "a mark of its own"),
    ("a[^1]\n\n[^1]: b [^1]\n", 2, "a footnote within footnote [^1]", "its text"),
    ("a[^1]\n\n[^1]: - b\n", 2, "expected one paragraph as the text of footnote [^1]", "[^1]: text"),
    ("<!-- columns 1 -->\n", 0, "two or more widths, got '1'", "<!-- columns 1.5 1 -->"),
    ("<!-- columns 1 b -->\n", 0, "two or more widths, got '1 b'", "<!-- columns 1.5 1 -->"),
    ("<!-- columns 1 0 -->\n", 0, "widths of 0.01 to 100", "<!-- columns 1.5 1 -->"),
    ("a\n<!-- columns 1 1 -->\nb\n", 1, "columns that do not end", "<!-- end -->"),
    ("<!-- columns 1 1 -->\n<!-- columns 1 1 -->\n", 1, "columns within columns", f"line {BODY_AT}"),
    ("<!-- next -->\n", 0, "<!-- next --> outside of columns", "<!-- columns"),
    ("<!-- columns 1 1 -->\n<!-- end -->\n", 1, "2 widths", "<!-- next -->"),
    ("<!-- columns 1 1 -->\na\n\n<!-- next -->\nb\n\n<!-- next -->\n", 6, "2 widths", "<!-- next -->"),
    ("<!-- columns 1 1 -->\n<!-- next -->\nb\n", 1, "a column without anything", "<!-- next -->"),
    ("<!-- columns 1 1 -->\na\n\n<!-- next -->\n<!-- end -->\n", 4, "a column without anything", "<!-- end -->"),
    ("a\x07b\n", 0, "a control character U+0007 in column 2", "delete"),
    ("a\n\ud800\n", 1, "a control character U+D800 in column 1", "delete"),
    ("\n\n[](a)\n", 2, "a paragraph without text", "leave it out"),
]


@pytest.mark.parametrize(("body", "below", "message", "hint"), BLOCK_FAULTS)
def test_a_fault_of_a_region(body: str, below: int, message: str, hint: str):
    refused(HEAD + body, BODY_AT + below, message, hint)


def test_a_footnote_of_another_region_is_none():
    text = HEAD.replace("90% one", "90% one | two") + "a[^1]\n## Two <!-- two: red -->\n[^1]: b\n"
    refused(text, BODY_AT, "footnote [^1] has no text in region 'one'", "[^1]: text")


# --- figures -------------------------------------------------------------------------------------------------------

CHART = """```chart
x: Step
y: "**Loss**"
curves:
  - {label: validation, color: orange, points: [[0, 8.37], [1600, 3.91], [2000, 4.0]], dots: true}
  - {label: idea, points: [[0, 3]], thin: true, schematic: true}
marks: [{x: 1600, y: 3.91, label: "best 3.91", color: red}, {y: 8.318, label: "ln 4,096"}]
caption: a ==b==
height: 9.5
```
"""


def test_a_chart():
    chart = block(CHART)
    assert isinstance(chart, Chart)
    assert (chart.x_label, chart.y_label) == (plain("Step"), (Span(text="Loss", bold=True),))
    assert (chart.x_range, chart.y_range) == ((0.0, 2000.0), (2.0, 10.0))
    assert chart.x_ticks == ((0.0, "0"), (500.0, "500"), (1000.0, "1,000"), (1500.0, "1,500"), (2000.0, "2,000"))
    assert chart.y_ticks == ((2.0, "2"), (4.0, "4"), (6.0, "6"), (8.0, "8"), (10.0, "10"))
    first, second = chart.curves
    assert first.points == ((0.0, 8.37), (1600.0, 3.91), (2000.0, 4.0))
    assert (first.colour, first.dots, first.thin, first.schematic) == ("orange", True, False, False)
    assert (second.colour, second.dots, second.thin, second.schematic) == (None, False, True, True)
    assert chart.marks == (
        Mark(x=1600.0, y=3.91, label=plain("best 3.91"), colour="red"),
        Mark(y=8.318, label=plain("ln 4,096")),
    )
    assert chart.caption == (Span(text="a "), Span(text="b", mark="yellow"))
    assert chart.height_em == 9.5


def test_a_chart_keeps_the_range_and_the_ticks_it_is_given():
    chart = block(CHART.replace("height: 9.5", "x_range: [-10, 2010]\ny_ticks: [[0, none], [10, 10]]"))
    assert isinstance(chart, Chart)
    assert chart.x_range == (-10.0, 2010.0)
    assert [words for _, words in chart.x_ticks] == ["0", "500", "1,000", "1,500", "2,000"]
    assert (chart.y_range, chart.y_ticks) == ((0.0, 10.0), ((0.0, "none"), (10.0, "10")))
    assert chart.height_em == Chart.__dataclass_fields__["height_em"].default


def test_knobs():
    knobs = block("```knobs\n- {label: lr, value: -0.5, color: green}\n- label: b\n  value: 1\n```\n")
    assert knobs == Knobs(
        knobs=(Knob(label=plain("lr"), value=-0.5, colour="green"), Knob(label=plain("b"), value=1.0))
    )


CHART_FAULTS = [
    ("x: Step", "z: Step", 1, "a chart has no key 'z'", "x"),
    ("x: Step\n", "", 1, "a chart has no 'x'", "x: ..."),
    ("points: [[0, 3]]", "points: []", 5, "a curve needs at least one point", "points: ["),
    ("[1600, 3.91]", "[1600, null]", 4, "y of a point: expected a number", "leave out"),
    ("[1600, 3.91]", "[1600, .nan]", 4, "y of a point: expected a number", "leave out"),
    ("[1600, 3.91]", "[1600, nan]", 4, "got 'nan'", "leave out"),
    ("[1600, 3.91]", "[.inf, 3.91]", 4, "x of a point: expected a number", "leave out"),
    ("[1600, 3.91]", "[1600, 1e999]", 4, "got '1e999'", "leave out"),
    ("[1600, 3.91]", "[1600, 1e15]", 4, "expected -1e+12 to 1e+12, got '1e15'", "change it"),
    ("[1600, 3.91]", "[1600]", 4, "a point: expected two values, got 1", "[first, second]"),
    ("[1600, 3.91]", "1600", 4, "a point: expected a list, got '1600'", "[first, second]"),
    ("color: orange", "color: orang", 4, "no colour is named 'orang'", "'orange'"),
    ("color: orange", "colour: orange", 4, "a curve has no key 'colour'", "'color'"),
    ("dots: true", "dots: often", 4, "dots: 'often' is not known", "true"),
    ("label: idea", "label: '==idea'", 5, "a mark that does not end", "=="),
    ("y: 8.318, ", "", 6, "a mark has no 'y'", "y: ..."),
    ("height: 9.5", "height: 900", 8, "height: expected 4 to 60", "change it"),
    ("height: 9.5", "y_range: [5, 9]", 8, "y of 3.91 lies outside y_range", "widen it"),
    ("height: 9.5", "x_range: [9, 9]", 8, "a low and a higher end, got 9 and 9", "[low, high]"),
    ("height: 9.5", "x_ticks: [[3000, a], 2]", 8, "a tick: expected a list", "[first, second]"),
    ("height: 9.5", "height: [", 9, "not YAML", "quotes"),
]


@pytest.mark.parametrize(("old", "new", "below", "message", "hint"), CHART_FAULTS)
def test_a_fault_of_a_chart(old: str, new: str, below: int, message: str, hint: str):
    assert CHART.count(old) == 1
    refused(HEAD + CHART.replace(old, new), BODY_AT + below, message, hint)


@pytest.mark.parametrize(
    ("body", "below", "message", "hint"),
    [
        ("```chart\n```\n", 1, "a chart: expected keys with values, got nothing", "curves"),
        ("```chart\nx: a\ny: b\ncurves: []\n```\n", 3, "at least one curve", "curves: [{"),
        ("```knobs\n```\n", 1, "knobs: expected a list, got nothing", "-"),
        ("```knobs\n[]\n```\n", 1, "knobs: expected at least one", "- {label"),
        ("```knobs\n- {label: a, value: 1.5}\n```\n", 1, "value: expected -1 to 1, got '1.5'", "change it"),
        ("```knobs\n- {label: a}\n```\n", 1, "a knob has no 'value'", "value: ..."),
    ],
)
def test_a_fault_of_a_figure(body: str, below: int, message: str, hint: str):
    refused(HEAD + body, BODY_AT + below, message, hint)


def test_an_error_is_one_line_however_long_the_text_is():
    with pytest.raises(SheetError) as raised:
        read(HEAD + "```knobs\n- {label: a, value: " + "9" * 10_000 + "}\n```\n")
    assert not re.search(r"\n", raised.value.message)
    assert len(raised.value.message) < 200


def test_a_footnotes_mark_counts_for_the_whole_text() -> None:
    """As for any reader of markdown: two regions cannot both have a [^1]."""
    text = (
        "---\ntitle: a\n---\n```layout\n10% title\n90% one | two\n```\n"
        "## A <!-- one: blue -->\na[^1]\n\n[^1]: b\n## B <!-- two: red -->\nc[^MARK]\n\n[^MARK]: d\n"
    )
    one, two = read(text.replace("MARK", "2")).bands[1].regions
    assert [mark for mark, _ in one.footnotes + two.footnotes] == ["1", "2"]
    with pytest.raises(SheetError, match=r"line 15: footnote \[\^1\] is given twice"):
        read(text.replace("MARK", "1"))
