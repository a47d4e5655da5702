"""However hostile the text of a sheet is, it is read or refused in little time."""

import contextlib
import time

import pytest

from nudge.errors import SheetError
from nudge.sheet.inline import MOST_CELLS, comments
from nudge.sheet.page import texts_in
from nudge.sheet.source import MOST_CHARACTERS, MOST_IN_LINE, read

FRONT = '---\ntitle: "a"\n---\n```layout\n10% title\n90% one\n```\n## One <!-- one: blue -->\n'
FEW_S = 5.0  # of CPU; each takes far less, and what is not linear takes more

# By their kind: what is around the text, and pieces of it: the beginning, what is repeated, the end.
SIZE = 20_000
FENCES = {
    "flowchart": "```mermaid\nflowchart LR\n{}\n```\n",
    "sequence": "```mermaid\nsequenceDiagram\n{}\n```\n",
    "mindmap": "```mermaid\nmindmap\n{}\n```\n",
    "chart": "```chart\n{}\n```\n",
    "knobs": "```knobs\n{}\n```\n",
    "note": "```note\n{}\n```\n",
    "text": "{}\n",
    "item": "- {}\n",
    "quote": "> {}\n",
    "heading": "### {}\n",
    "cell": "| a | b |\n|---|---|\n| {}\n",
}
IN_DIAGRAMS = [
    ("flowchart", begin, unit, end)
    for begin in (
        "A --",
        "A -- x",
        'A -- "x"',
        "A[",
        "A[x",
        'A["x"',
        "A((",
        "A{",
        "A --> ",
        "A -->|",
        "A",
        "A -- a --> ",
    )
    for unit in (" ", "- ", "--", "-- a ", "--> A ", "a ", "&", '"')
    for end in ("", "[", "x[", '"x[', "|")
] + [
    (kind, begin, unit, end)
    for kind, begins in {
        "sequence": ("A->>B", "A", "A->>B:", "Note over A", "Note over A,", "Note", "participant A", "loop"),
        "mindmap": ("root\n a", "root\n a((", "root\n a[", ""),
    }.items()
    for begin in begins
    for unit in (" ", "a", "a ", "((", "))", "->>", ",", ":")
    for end in ("", "x", "(")
]
IN_DIAGRAMS += [
    ("flowchart", begin, unit, "")
    for begin in ("", "A -. ", "A == ", "A --o", "A[/", "A>", "subgraph ", "class ", "click ", 'A["\n', "%%{")
    for unit in (" ", "- ", ". ", "= ", '"', ";", "#", "a-", "/", "A;", 'A["\n', ":::a", "[")
] + [
    (kind, begin, unit, "")
    for kind, begin in (("sequence", "A->>B: "), ("sequence", ""), ("mindmap", "a\n b["), ("mindmap", 'a\n b["'))
    for unit in (
        "-",
        "A-",
        "<<",
        "+",
        "#",
        "A->>+B: a\n",
        "alt\n",
        "Note ",
        "autonumber\n",
        " as ",
        ":::",
        '"',
        ")",
        "((a))",
    )
]
MARKS = [
    *("<!--", "<!-- ", "<!-- a -->", "-->", "<", "<a", "</a", "<?", "<![CDATA[", "<!A", "<a b='", "*a **b ", "*", "**"),
    *("_a__b", "[", "]", "![", "[a](", "[a](b", "[a](<b", "`", "` ``", "&", "&#", "\\", "==", "==a ", "==blue:", "[^"),
    *(
        "[^1]",
        "[^a[^",
        "> ",
        "- ",
        "1. ",
        "| ",
        "~~~",
        "# ",
        "😀",
        "📊",
        "http://a ",
        "<http://a",
        "(",
        "'",
        '"',
        "{",
        "&a ",
    ),
]
IN_TEXT = [
    (kind, "", mark, "") for kind in ("text", "item", "quote", "heading", "cell", "note", "chart") for mark in MARKS
]


def seconds(text: str) -> float:
    """Return the CPU seconds for reading or refusing a text."""
    began = time.process_time()
    with contextlib.suppress(SheetError):
        read(text)
    return time.process_time() - began


@pytest.mark.parametrize("kind", sorted({kind for kind, *_ in (*IN_DIAGRAMS, *IN_TEXT)}))
def test_nothing_takes_more_than_linear_time(kind: str) -> None:
    for of_kind, begin, unit, end in (*IN_DIAGRAMS, *IN_TEXT):
        if of_kind == kind:
            for size in (1_500, SIZE):  # with the shorter one, cubic time is a failure rather than a hanging test
                text = FRONT + FENCES[kind].format(begin + unit * (size // len(unit)) + end)
                assert seconds(text) < FEW_S, (begin, unit, end, size)


@pytest.mark.parametrize("text", ["<!--" * 200_000, "<!--" * 100_000 + "-->" + "<!--" * 100_000, "<!-- a -->" * 50_000])
def test_comments_are_found_in_linear_time(text: str) -> None:
    began = time.process_time()
    contents, left = comments(text)
    assert time.process_time() - began < FEW_S
    assert sum(map(len, contents)) + len(left) + 7 * len(contents) == len(text)


def test_comments_and_what_is_around_them() -> None:
    assert comments("a<!-- b -->c<!--d\n--><!----> <!-- e") == ([" b ", "d\n", ""], "ac <!-- e")
    assert comments("<!-->-->") == ([">"], "")


TABLE = "|" + "a|" * 50 + "\n|" + "-|" * 50 + "\n"
CURVES = "x: a\ny: b\ncurves:\n- {label: a, points: &p [" + "[0,1]," * 200 + "]}\n" + "- {label: a, points: *p}\n" * 400
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n + 1}: &a{n + 1} [" + f"*a{n}," * 9 + "]\n" for n in range(60))


@pytest.mark.parametrize(
    ("text", "at", "name"),
    [
        (FRONT + FENCES["chart"].format(CURVES), 13, "alias"),
        (FRONT + FENCES["chart"].format(CHAIN), 10, "alias"),
        (FRONT + FENCES["knobs"].format("- &a {label: a, value: 1}\n- *a"), 10, "alias"),
        (FRONT + FENCES["knobs"].format("- {label: &a a, value: 1}"), 10, "alias"),
        ("---\ntitle: &a b\n---\n", 2, "alias"),
        ("---\ntitle: a\nlegend:\n  <<: *a\n---\n", 4, "alias"),
        ("---\n&a title: b\n---\n", 2, "alias"),
        (FRONT + "a\n" * (MOST_CHARACTERS // 2), 74_970, "too_many_characters"),
        (FRONT + "\n" + "a" * (MOST_IN_LINE + 1) + "\n", 10, "long_line"),
        (FRONT + "<!--" * 90_000, 9, "too_many_characters"),
        (FRONT + TABLE + "|\n" * (MOST_CELLS // 50), 9, "too_many_cells"),
        (FRONT + (TABLE + "|\n" * 20 + "\n") * 3, 55, "too_many_cells"),
    ],
)
def test_what_grows_has_a_limit(text: str, at: int, name: str) -> None:
    began = time.process_time()
    with pytest.raises(SheetError) as raised:
        read(text)
    assert time.process_time() - began < FEW_S
    assert (raised.value.code, raised.value.values["line"]) == (f"sheet.{name}", at)


def test_as_much_as_is_allowed_is_read() -> None:
    line = "a" * MOST_IN_LINE + "\n"
    read((FRONT + line + "\n" + TABLE + "|\n" * (MOST_CELLS // 50 - 1) + "\n").ljust(MOST_CHARACTERS, "\n"))
    read(FRONT + FENCES["knobs"].format('- {label: "&a *a", value: 1}'))


def test_only_what_is_drawn_counts_as_text() -> None:
    chart = FENCES["flowchart"].format("A & B & C & D --> E & F & G & H & I\n" * 20)
    flow = read(FRONT + chart).bands[1].regions[0].blocks[0]
    assert sum(len(one if isinstance(one, str) else one.text) for one in texts_in(flow)) == 9


def test_a_label_beside_an_arrow_is_read_as_before() -> None:
    for words, label in (
        ("-- a b -->", "a b"),
        ("-. a b .->", "a b"),
        ('--  "a --> b"  ---', "a --> b"),
        ("-- a-b -->", "a-b"),
    ):
        flow = read(FRONT + FENCES["flowchart"].format(f"A {words} B")).bands[1].regions[0].blocks[0]
        assert [span.text for span in flow.edges[0].spans] == [label]  # type: ignore[union-attr]
    for shape in ("[ a b ]", '( "a b" )', "((a b))", "{ a b}"):
        flow = read(FRONT + FENCES["flowchart"].format(f"A{shape} -->| c | B")).bands[1].regions[0].blocks[0]
        assert [span.text for span in flow.nodes[0].spans] == ["a b"]  # type: ignore[union-attr]
        assert [span.text for span in flow.edges[0].spans] == ["c"]  # type: ignore[union-attr]
