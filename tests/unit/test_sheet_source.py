"""What the text of a sheet says: its page, regions and blocks, and one clear error for each way to get it wrong."""

import math
import re

import pytest

from nudge.errors import SheetError
from nudge.sheet.inline import ICONS, escape, line
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


def refused(text: str, at: int, name: str, values: dict[str, object]) -> None:
    with pytest.raises(SheetError) as raised:
        read(text, name="mine.md")
    assert raised.value.code == f"sheet.{name}"
    assert raised.value.values["line"] == at
    assert raised.value.values.items() >= values.items()
    assert raised.value.message.startswith(f"mine.md, line {at}: ")


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
    assert (inside.color, inside.strong, inside.width, inside.blocks) == ("blue", False, 1.0, ())
    assert (out.color, out.width, out.blocks) == ("gray", 1.7, (Paragraph(spans=plain("text")),))
    (flow,) = sheet.bands[2].regions
    assert (flow.color, flow.strong) == ("red", True)


def test_what_is_left_out_has_a_default():
    sheet = read(HEAD)
    assert sheet == Sheet(title="Neural Network I/O", bands=sheet.bands)


def test_lines_may_end_as_on_windows():
    assert read((HEAD + "a\nb").replace("\n", "\r\n")) == read(HEAD + "a\nb")


FRONT_FAULTS = [
    ("", 1, "no_front_matter", {}),
    ("# a\n", 1, "no_front_matter", {}),
    ("---\ntitle: a\n", 1, "no_front_matter", {}),
    ("---\npaper: a4\n---\n", 2, "missing_key", {"what": "the front matter", "key": "title"}),
    ('---\ntitle: ""\n---\n', 2, "no_title", {}),
    ("---\ntitle: a\nlangage: ko\n---\n", 3, "unknown_key", {"what": "the front matter", "key": "langage"}),
    ("---\ntitle: a\ntitle: b\n---\n", 3, "repeated_key", {"what": "the front matter", "key": "title"}),
    ("---\ntitle: a\npaper: a3\n---\n", 3, "unknown_word", {"what": "paper", "word": "a3"}),
    ("---\ntitle: a\nlanguage: de\n---\n", 3, "unknown_word", {"what": "language", "word": "de"}),
    ("---\ntitle: a\nsize: 30\n---\n", 3, "out_of_range", {"what": "size", "got": "30"}),
    ("---\ntitle: a\nsize: big\n---\n", 3, "expected_number", {"what": "size", "got": "big"}),
    ("---\ntitle: a\nlegend: [blue]\n---\n", 3, "expected_keys", {"what": "the legend", "found": "a list"}),
    ("---\ntitle: a\nlegend: {blu: b}\n---\n", 3, "unknown_key", {"what": "the legend", "key": "blu"}),
    ("---\ntitle: a\nlegend: {red: a, red: b}\n---\n", 3, "repeated_key", {"what": "the legend", "key": "red"}),
    ("---\ntitle: a\ncorner: '[^1]'\n---\n", 3, "footnote_outside", {"mark": "1"}),
    ("---\ntitle: a\ncorner: '<b>'\n---\n", 3, "html", {"html": "<b>"}),
    ("---\ntitle: [a]\n---\n", 2, "expected_text", {"what": "title", "found": "a list"}),
    ('---\ntitle: "\\x07"\n---\n', 2, "control_character", {"column": 8, "number": 7}),
    ("---\n- a\n---\n", 2, "expected_keys", {"what": "the front matter", "found": "a list"}),
    ("---\ntitle: a\nover: [\n---\n", 3, "not_yaml", {}),
    ("---\ntitle: a: b\n---\n", 2, "not_yaml", {}),
    ("---\ntitle: *a\n---\n", 2, "alias", {}),
]


@pytest.mark.parametrize(("text", "at", "name", "values"), FRONT_FAULTS)
def test_a_fault_of_the_front_matter(text: str, at: int, name: str, values: dict[str, object]):
    refused(text, at, name, values)


LAYOUT_FAULTS = [
    ("", 4, "no_layout", {}),
    ("text\n", 4, "no_layout", {}),
    ("```layout\n10% title\n80% one\n```\n", 4, "layout_sum", {"total": 90.0}),
    (f"```layout\n{'9' * 308}% title\n{'9' * 308}% one\n```\n", 4, "layout_sum", {"total": math.inf}),
    ("```layout\n10% title\n90.5% one\n```\n", 4, "layout_sum", {"total": 100.5}),
    ("```layout\n100% one\n```\n", 4, "title_bands", {"number": 0}),
    ("```layout\n10% title\n10% title\n80% one\n```\n", 4, "title_bands", {"number": 2}),
    ("```layout\n10% title\n90% one | title\n```\n", 6, "place", {"text": "title"}),
    ("```layout\n10% title\n90 one\n```\n", 6, "band", {"text": "90 one"}),
    ("```layout\n10% title\n0% one\n90% two\n```\n", 6, "band", {"text": "0% one"}),
    ("```layout\n10% title\n90% one | | two\n```\n", 6, "place", {"text": ""}),
    ("```layout\n10% title\n90% one*0\n```\n", 6, "out_of_range", {"what": "width", "got": "0"}),
    ("```layout\n10% title\n40% one\n50% one\n```\n", 7, "repeated_region", {"region": "one"}),
    (
        "```layout\n10% title\n90% one | two\n```\n## A <!-- one: blue -->\n",
        6,
        "no_heading",
        {"region": "two"},
    ),
    (
        "```layout\n10% title\n90% one\n```\n## A <!-- on: blue -->\n",
        8,
        "unknown_region",
        {"region": "on", "closest": "did you mean 'one'?"},
    ),
    ("```layout\n10% title\n90% one\n```\ntext\n", 8, "before_regions", {"what": "a paragraph"}),
    ("<!-- a --> text <!-- b -->\n", 4, "no_layout", {}),
    ("```layout\n10% title\n90% one\n```\n\n<!-- next -->\n", 9, "before_regions", {"what": "HTML"}),
    ("```layout\n10% title\n90% one\n", 4, "open_fence", {"fence": "```", "kind": "layout"}),
]


@pytest.mark.parametrize(("text", "at", "name", "values"), LAYOUT_FAULTS)
def test_a_fault_of_the_layout(text: str, at: int, name: str, values: dict[str, object]):
    refused("---\ntitle: a\n---\n" + text, at if text else 1, name, values)


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
    ("text", "name", "values"),
    [
        ("==a", "open_mark", {}),
        ("==gren:a==", "unknown_word", {"what": "color", "word": "gren"}),
        ("**굵게!**는", "not_bold", {"text": "**굵게!**는"}),
        ("😀", "unknown_icon", {"emoji": "😀", "name": "grinning face"}),
        ("🍎 a", "unknown_icon", {"emoji": "🍎", "name": "red apple"}),
        ("![a](b)", "not_in_text", {"kind": "image"}),
        ("a<i>b", "html", {"html": "<i>"}),
        ("a <!-- next --> b", "directive_in_text", {"comment": "<!-- next -->"}),
    ],
)
def test_a_fault_of_a_line(text: str, name: str, values: dict[str, object]):
    refused(HEAD + "first\n" + text + "\n", BODY_AT + 1, name, values)


def test_escaped_text_is_markdown_that_a_person_still_reads():
    assert escape("loss 3.91, lr 6e-4 (best)") == "loss 3.91, lr 6e-4 (best)"
    assert escape("# *a*\n==b== 📌 😀") == r"\# \*a\* \=\=b\=\= 📌 &#128512;"
    assert escape(' "a" ') == "&#32;&quot;a&quot;&#32;"
    assert escape("- a") == r"\- a"
    assert escape("12. a::b:::c") == r"12\. a::b\:\:\:c"


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
        Note(spans=(Span(text="a "), Span(text="b", bold=True)), color="green"),
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
    ("# a\n", 0, "not_in_region", {"what": "a heading of level 1"}),
    ("a\n\n#### b\n", 2, "not_in_region", {"what": "a heading of level 4"}),
    ("a\n\n---\n", 2, "not_in_region", {"what": "a line of ---"}),
    ("a\n\n    b\n", 2, "not_in_region", {"what": "indented text"}),
    ("<div>\n", 0, "html", {"html": "<div>"}),
    ("<!-- a --> b\n", 0, "html", {"html": "<!-- a --> b"}),
    ("## b\n", 0, "region_heading", {}),
    ("## b <!-- two -->\n", 0, "region_heading", {}),
    ("## <!-- one: blue -->\n", 0, "region_heading", {}),
    ("## b <!-- one: blue -->\n", 0, "repeated_region", {"region": "one"}),
    (
        "## b <!-- one: prple -->\n",
        0,
        "unknown_word",
        {"what": "color", "word": "prple", "closest": "did you mean 'purple' or 'red'?"},
    ),
    ("## b <!-- one: mauve -->\n", 0, "unknown_word", {"what": "color", "word": "mauve"}),
    ("```layout\n```\n", 0, "second_layout", {}),
    ("```mermiad\n```\n", 0, "unknown_fence", {"kind": "mermiad", "closest": "did you mean 'mermaid'?"}),
    ("```haskell\n```\n", 0, "unknown_fence", {"kind": "haskell"}),
    ("```note gren\na\n```\n", 0, "unknown_word", {"what": "color", "word": "gren"}),
    ("```chart red\n```\n", 0, "words_after_fence", {"kind": "chart", "words": "red"}),
    ("```note\n```\n", 0, "no_text", {"what": "a note"}),
    ("```note\na\n==b\n```\n", 2, "open_mark", {}),
    ("a\n```python\nb\n", 1, "open_fence", {"fence": "```", "kind": "python"}),
    ("- \n", 0, "list_item", {}),
    ("- # a\n", 0, "list_item", {}),
    ("- a\n\n  > b\n", 2, "not_in_list_item", {"what": "a quote"}),
    ("- a\n\n  [^1]: b\n", 2, "not_in_list_item", {"what": "a footnote's text"}),
    ("- a\n  - b\n  1. c\n", 2, "not_in_list_item", {"what": "a list"}),
    ("- a\n  - b\n    - c\n      - d\n        - e\n", 4, "list_depth", {}),
    ("2. a\n", 0, "list_start", {"number": 2}),
    ("> - a\n", 0, "quote", {}),
    ("> a\n>\n> b\n", 2, "quote", {}),
    ("> a\n> → b\n> → c\n", 0, "quote", {}),
    (">\n", 0, "quote", {}),
    ("a\n\n| a | b |\n|---|---|\n| ==c | d |\n", 4, "open_mark", {}),
    ("a\n\na[^1]\n", 2, "no_footnote", {"mark": "1", "region": "one"}),
    ("a\n\n[^1]: b\n", 2, "unused_footnote", {"mark": "1", "region": "one"}),
    ("a[^1]\n\n[^1]: b\n[^1]: c\n", 3, "repeated_footnote", {"mark": "1"}),
    ("a[^1]\n\n[^1]: b [^1]\n", 2, "nested_footnote", {"mark": "1"}),
    ("a[^1]\n\n[^1]: - b\n", 2, "footnote_text", {"mark": "1"}),
    ("<!-- columns 1 -->\n", 0, "column_widths", {"got": "1"}),
    ("<!-- columns 1 b -->\n", 0, "column_widths", {"got": "1 b"}),
    ("<!-- columns 1 0 -->\n", 0, "out_of_range", {"what": "width", "got": "0"}),
    ("a\n<!-- columns 1 1 -->\nb\n", 1, "open_columns", {}),
    ("<!-- columns 1 1 -->\n<!-- columns 1 1 -->\n", 1, "nested_columns", {"outer": 9}),
    ("<!-- next -->\n", 0, "outside_columns", {"word": "next"}),
    ("<!-- columns 1 1 -->\n<!-- end -->\n", 1, "column_count", {"widths": 2, "begin": 9}),
    ("<!-- columns 1 1 -->\na\n\n<!-- next -->\nb\n\n<!-- next -->\n", 6, "column_count", {"widths": 2, "begin": 9}),
    ("<!-- columns 1 1 -->\n<!-- next -->\nb\n", 1, "empty_column", {}),
    ("<!-- columns 1 1 -->\na\n\n<!-- next -->\n<!-- end -->\n", 4, "empty_column", {}),
    ("a\x07b\n", 0, "control_character", {"column": 2, "number": 7}),
    ("a\n\ud800\n", 1, "control_character", {"column": 1, "number": 55296}),
    ("\n\n[](a)\n", 2, "no_text", {"what": "a paragraph"}),
]


@pytest.mark.parametrize(("body", "below", "name", "values"), BLOCK_FAULTS)
def test_a_fault_of_a_region(body: str, below: int, name: str, values: dict[str, object]):
    refused(HEAD + body, BODY_AT + below, name, values)


def test_a_footnote_of_another_region_is_none():
    text = HEAD.replace("90% one", "90% one | two") + "a[^1]\n## Two <!-- two: red -->\n[^1]: b\n"
    refused(text, BODY_AT, "no_footnote", {"mark": "1", "region": "one"})


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
    assert (first.color, first.dots, first.thin, first.schematic) == ("orange", True, False, False)
    assert (second.color, second.dots, second.thin, second.schematic) == (None, False, True, True)
    assert chart.marks == (
        Mark(x=1600.0, y=3.91, label=plain("best 3.91"), color="red"),
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
    assert knobs == Knobs(knobs=(Knob(label=plain("lr"), value=-0.5, color="green"), Knob(label=plain("b"), value=1.0)))


CHART_FAULTS = [
    ("x: Step", "z: Step", 1, "unknown_key", {"what": "a chart", "key": "z"}),
    ("x: Step\n", "", 1, "missing_key", {"what": "a chart", "key": "x"}),
    ("points: [[0, 3]]", "points: []", 5, "empty_list", {"what": "points"}),
    ("[1600, 3.91]", "[1600, null]", 4, "expected_number", {"what": "y of a point", "got": "null"}),
    ("[1600, 3.91]", "[1600, .nan]", 4, "expected_number", {"what": "y of a point", "got": ".nan"}),
    ("[1600, 3.91]", "[1600, nan]", 4, "expected_number", {"what": "y of a point", "got": "nan"}),
    ("[1600, 3.91]", "[.inf, 3.91]", 4, "expected_number", {"what": "x of a point", "got": ".inf"}),
    ("[1600, 3.91]", "[1600, 1e999]", 4, "expected_number", {"what": "y of a point", "got": "1e999"}),
    ("[1600, 3.91]", "[1600, 1e15]", 4, "out_of_range", {"what": "y of a point", "got": "1e15"}),
    ("[1600, 3.91]", "[1600]", 4, "expected_pair", {"what": "a point", "number": 1}),
    ("[1600, 3.91]", "1600", 4, "expected_list", {"what": "a point", "found": "'1600'"}),
    (
        "color: orange",
        "color: orang",
        4,
        "unknown_word",
        {"what": "color", "word": "orang", "closest": "did you mean 'orange'?"},
    ),
    ("color: orange", "colour: orange", 4, "unknown_key", {"what": "a curve", "key": "colour"}),
    ("dots: true", "dots: often", 4, "unknown_word", {"what": "dots", "word": "often"}),
    ("label: idea", "label: '==idea'", 5, "open_mark", {}),
    ("y: 8.318, ", "", 6, "missing_key", {"what": "a mark", "key": "y"}),
    ("height: 9.5", "height: 900", 8, "out_of_range", {"what": "height", "got": "900"}),
    ("height: 9.5", "y_range: [5, 9]", 8, "outside_range", {"axis": "y", "value": 3.91}),
    ("height: 9.5", "x_range: [9, 9]", 8, "empty_range", {"what": "x_range", "low": 9.0, "high": 9.0}),
    ("height: 9.5", "x_ticks: [[3000, a], 2]", 8, "expected_list", {"what": "a tick", "found": "'2'"}),
    ("height: 9.5", "height: [", 9, "not_yaml", {}),
]


@pytest.mark.parametrize(("old", "new", "below", "name", "values"), CHART_FAULTS)
def test_a_fault_of_a_chart(old: str, new: str, below: int, name: str, values: dict[str, object]):
    assert CHART.count(old) == 1
    refused(HEAD + CHART.replace(old, new), BODY_AT + below, name, values)


@pytest.mark.parametrize(
    ("body", "below", "name", "values"),
    [
        ("```chart\n```\n", 1, "expected_keys", {"what": "a chart", "found": "nothing"}),
        ("```chart\nx: a\ny: b\ncurves: []\n```\n", 3, "empty_list", {"what": "curves"}),
        ("```knobs\n```\n", 1, "expected_list", {"what": "knobs", "found": "nothing"}),
        ("```knobs\n[]\n```\n", 1, "empty_list", {"what": "knobs"}),
        ("```knobs\n- {label: a, value: 1.5}\n```\n", 1, "out_of_range", {"what": "value", "got": "1.5"}),
        ("```knobs\n- {label: a}\n```\n", 1, "missing_key", {"what": "a knob", "key": "value"}),
    ],
)
def test_a_fault_of_a_figure(body: str, below: int, name: str, values: dict[str, object]):
    refused(HEAD + body, BODY_AT + below, name, values)


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
    refused(text.replace("MARK", "1"), 15, "repeated_footnote", {"mark": "1"})


# --- letters that are written in parts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ("\u1100\u1161\u1100\u1167\u11a8", "\uac00\uaca9"),  # Hangul from macOS
        ("e\u0301", "\u00e9"),
        ("e&#769;", "\u00e9"),  # composed only after the entity is read
        ("x\u0301", "x\u0301"),  # has no composed form
    ],
)
def test_decomposed_letters_are_read_as_composed_ones(parts: str, whole: str):
    diagram = f'```mermaid\nflowchart LR\nA["{parts}"]\n```\n'
    assert block(f"{parts} a\n") == Paragraph(spans=plain(f"{whole} a"))
    assert block(diagram).nodes[0].spans == plain(whole)  # type: ignore[attr-defined]
    sheet = read(HEAD.replace("Neural Network", parts).replace("## One", f"## {parts}"))
    assert (sheet.bands[1].regions[0].title, sheet.title) == (
        plain(whole),
        parts.replace("\u1100\u1161\u1100\u1167\u11a8", "\uac00\uaca9").replace("e\u0301", "\u00e9") + " I/O",
    )
