"""Whatever the text of a sheet is, it reads or raises SheetError; and text that is escape reads back as itself."""

import itertools
import math
import re
import time
import unicodedata
from collections.abc import Iterator

from hypothesis import example, given, settings
from hypothesis import strategies as st

from nudge.errors import SheetError
from nudge.sheet import axes, layers
from nudge.sheet.inline import CONTROL, ICONS, SELECTOR, escape, line
from nudge.sheet.page import Bullets, Flow, Line, Mindmap, Paragraph, Quote, Sequence, Sheet, Table, to_json
from nudge.sheet.source import read

FRONT = '---\ntitle: "a"\n---\n```layout\n10% title\n90% one\n```\n## One <!-- one: blue -->\n'

# Pieces of the language, so that what is made of them comes far into the reader.
# fmt: off
PIECES = [
    "---\n", "title: a\n", "```", "```layout\n", "10% title\n", "90% one\n", "## A <!-- one: blue -->\n", "### ",
    "```mermaid\n", "flowchart LR\n", "mindmap\n", "sequenceDiagram\n", "A", "-->", "[", "]", '"', "((", "|",
    "A->>B: a\n", "```chart\n", "```knobs\n", "x: a\ny: b\n", "curves: ", "points: ", "[[0, 1]]", "{label: a, ", "}",
    "&a ", "*a", ".nan", "- ", "1. ", "3) ", "[x] ", "> ", "→ ", "| a | b |\n|---|---|\n", "==", "==blue:", "**", "`",
    "<br>", "<!-- ", " -->", "columns 1 2", "next", "end", "[^1]", "[^1]: ", "![a](b)", "<b>", "\\", "&#0;", "&#12;",
    "# ", "\n", "\n\n", "    ", " ", "\t", "📊", "😀",
]
# fmt: on
FENCES = ("mermaid\nflowchart LR", "mermaid\nmindmap", "mermaid\nsequenceDiagram", "chart", "knobs", "note", "layout")
MARKDOWN = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=30).map("".join)


def text_of(spans: Line) -> str:
    return "".join(span.text for span in spans)


def texts(value: object) -> Iterator[str]:
    """All text of a sheet's JSON but the line breaks."""
    if isinstance(value, dict):
        yield from (() if value.get("kind") == "break" else texts(list(value.values())))
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)
    elif isinstance(value, str):
        yield value


def reads_or_names_the_line(text: str) -> None:
    try:
        sheet = read(text, name="mine.md")
    except SheetError as raised:
        error = raised
    else:
        assert isinstance(sheet, Sheet)
        assert not any(CONTROL.search(one) for one in texts(to_json(sheet)))
        return
    at = error.values["line"]
    assert error.message.startswith(f"mine.md, line {at}: ")
    assert 1 <= at <= len(re.split(r"\r\n|\r|\n", text))
    assert error.hint


@given(st.one_of(st.text(), st.text(st.characters(codec=None)), MARKDOWN))
@settings(max_examples=300, deadline=None)
@example("---\n")
@example("---\n---")
@example("---\ntitle: [\n---")
@example("---\ntitle: " + "[" * 1000 + "\n---")
@example("---\ntitle: &a [*a]\n---")
def test_any_text_reads_or_raises_one_error_with_a_line(text: str):
    reads_or_names_the_line(text)


@given(MARKDOWN)
@settings(max_examples=500, deadline=None)
@example("```\n" + "- " * 300 + "a\n```\n")
@example("- " * 300 + "a\n")
@example("> " * 300 + "a\n")
@example("*a **b " * 2000 + "\n")
@example("[" * 3000 + "\n")
@example("| a |\n|---|\n" + "| b | c |\n" * 50)
@example("```mermaid\nflowchart LR\n" + "\n".join(f"n{n} --> n{n + 1}" for n in range(500)) + "\n```\n")
@example('```knobs\n- {label: "\\a", value: 1}\n```\n')
@example("a&#10;&#12;b\n")
@example("```knobs\n- {label: a, value: 1_0}\n```\n")
@example("```chart\nx: a\ny: b\ncurves: [{label: a, points: [[1e999, 0]]}]\n```\n")
@example("```chart\nx: a\ny: b\ncurves: [{label: a, points: [[5e-324, 0], [0, 1e12]]}]\n```\n")
def test_any_region_reads_or_raises_one_error_with_a_line(text: str):
    reads_or_names_the_line(FRONT + text)


@given(
    st.sampled_from(["", "- ", "> ", "### ", "| a |\n|---|\n| ", *(f"```{kind}\n" for kind in FENCES)]),
    st.lists(st.sampled_from([*PIECES, "<!--", "[^", "[", "--", "A --", "&", " " * 40]), min_size=1, max_size=4).map(
        "".join
    ),
    st.sampled_from([*PIECES, ""]),
)
@settings(max_examples=60, deadline=None)
def test_a_long_text_of_hostile_pieces_takes_a_few_seconds_at_most(before: str, repeated: str, after: str):
    text = FRONT + before + repeated * (20_000 // len(repeated)) + after
    began = time.process_time()
    reads_or_names_the_line(text)
    assert time.process_time() - began < 5


WHOLE = (
    FRONT
    + """a[^1] ==b== **c** `d` 📊<br>e

[^1]: f

- [x] ==g==
  1. h

> i
> → j

| k | l |
|---|--:|
| m | n |

<!-- columns 1 2 -->
```note green
o
```
<!-- next -->
```knobs
- {label: p, value: 0.5, color: red}
```
<!-- end -->
```chart
x: q
y: r
curves: [{label: s, color: blue, points: [[0, 1], [2, 3]], dots: true}]
marks: [{y: 2, label: t}]
x_range: [0, 4]
```
```mermaid
flowchart TD
A["u"]:::blue -->|v| B((w)) & C{x}
C -- y --> A
```
```mermaid
mindmap
  root((z))
    a
      b
```
```mermaid
sequenceDiagram
  participant A as B
  loop c
    A->>C: d
  end
  Note over A,C: e
```
"""
)
PLACES = st.integers(0, len(WHOLE))


@given(st.lists(st.tuples(PLACES, st.integers(0, 8), st.sampled_from(["", *PIECES])), min_size=1, max_size=3))
@settings(max_examples=400, deadline=None)
def test_a_whole_sheet_that_was_damaged_reads_or_raises_one_error(damages: list[tuple[int, int, str]]):
    read(WHOLE)
    damaged = WHOLE
    for place, n_cut, put_in in damages:
        damaged = damaged[:place] + put_in + damaged[place + n_cut :]
    reads_or_names_the_line(damaged)


@given(st.text())
@example("a == b ==c== \\=\\=")
@example("- 1. > # | a")
@example("1) a")
@example("+ a")
@example("→ a")
@example("[x] a [^1] ![a](b) <br> <!-- a -->")
@example("\u3000 ::: ```` ~~~ \n&amp; \x00\x1f\ud800 😀 📊\ufe0f $a$ **b**는")
@example('"a" \\" \\| {{x}}')
@example("`a`")
def test_escaped_text_reads_back_as_itself(text: str):
    shown = escape(text)
    assert len(shown.splitlines()) <= 1
    lone = {"Cs": "\ufffd", "Cc": " ", "Zl": " ", "Zp": " "}  # what no font draws, and ends of lines
    expected = "".join(lone.get(unicodedata.category(char), char) for char in text)
    spans = line(shown)
    assert text_of(spans).replace(SELECTOR, "") == expected.replace(SELECTOR, "")
    for span in spans:
        assert (span.kind, span.icon) == (("icon", ICONS[span.text]) if span.text in ICONS else ("text", ""))
        assert (span.bold, span.code, span.mark) == (False, False, None)


@given(st.text(min_size=1).filter(lambda text: text.replace(SELECTOR, "")))
@settings(max_examples=200, deadline=None)
@example("→ a")
@example("- a")
@example("#")
@example("a|b")
@example("\\|")
@example(" ")
def test_escaped_text_holds_wherever_a_line_may_stand(text: str):
    shown = escape(text)
    expected = text_of(line(shown))
    sheet = read(
        f"""---
title: "a"
corner: "{shown.replace(chr(92), chr(92) * 2)}"
---
```layout
10% title
90% one
```
## {shown} <!-- one: blue -->

{shown}

### {shown}

- {shown}

> a
> {shown}

| {shown} | b |
|---|---|
| a | {shown} |

```mermaid
flowchart LR
A["{shown}"] -->|"{shown}"| B
```

```mermaid
mindmap
  root
    ["{shown}"]
```

```mermaid
sequenceDiagram
  A->>B: {shown}
```

[^1]

[^1]: {shown}
"""
    )
    (region,) = sheet.bands[1].regions
    paragraph, heading, bullets, quote, table, flow, mindmap, sequence, _ = region.blocks
    assert isinstance(paragraph, Paragraph)
    assert isinstance(heading, Paragraph)
    assert isinstance(bullets, Bullets)
    assert isinstance(quote, Quote)
    assert isinstance(table, Table)
    assert isinstance(flow, Flow)
    assert isinstance(mindmap, Mindmap)
    assert isinstance(sequence, Sequence)
    for place in (
        sheet.corner,
        region.title,
        region.footnotes[0][1],
        paragraph.spans,
        heading.spans,
        bullets.items[0].spans,
        table.head[0],
        table.rows[0][1],
        flow.nodes[0].spans,
        flow.edges[0].spans,
        mindmap.branches[0].spans,
        sequence.messages[0].spans,
    ):
        assert text_of(place) == expected
    assert text_of(quote.spans) == f"a {expected}"


VALUES = st.floats(-1e12, 1e12) | st.floats(-10, 10) | st.sampled_from([0.0, -0.0, 5e-324, 0.1, 0.3, 1e12])


@given(st.lists(VALUES, min_size=1, max_size=5))
@example([3.91, 8.37])
@example([0.0])
def test_axes_lie_around_their_values_with_four_to_six_round_ticks(values: list[float]):
    (low, high), ticks = axes.axis_range_and_ticks(values)
    dust = 1e-8 * max(1.0, abs(low), abs(high))
    assert low < high
    assert low - dust <= min(values)
    assert max(values) <= high + dust
    assert 4 <= len(ticks) <= 6
    assert (ticks[0][0], ticks[-1][0]) == (low, high)
    gaps = [after - before for (before, _), (after, _) in itertools.pairwise(ticks)]
    assert math.isclose(min(gaps), max(gaps), rel_tol=1e-6)
    assert len({words for _, words in ticks}) == len(ticks)
    for place, words in ticks:
        assert math.isclose(float(words.replace(",", "")), place, rel_tol=1e-5)


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2), max_size=20))
    )
)
def test_ranks_grow_along_every_edge_but_those_that_lead_back(graph: tuple[int, list[tuple[int, int]]]):
    n_nodes, edges = graph
    rank, back = layers.assign_ranks(n_nodes, edges)
    for (start, end), leads_back in zip(edges, back, strict=True):
        assert leads_back or rank[start] < rank[end]
        assert leads_back or start != end
    reaches = {(node, node) for node in range(n_nodes)}
    for _ in range(n_nodes):
        reaches |= {(start, far) for start, end in edges for near, far in reaches if near == end}
    for (start, end), leads_back in zip(edges, back, strict=True):
        assert not leads_back or (end, start) in reaches  # only what is part of a cycle leads back
    onwards = [edge for edge, leads_back in zip(edges, back, strict=True) if not leads_back]
    for node in range(n_nodes):  # the longest path: each rank but the first is there for a node one rank before
        assert rank[node] == max((rank[start] + 1 for start, end in onwards if end == node), default=0)
    order = layers.order_ranks(rank, edges)
    for own in set(rank):
        places = sorted(order[node] for node in range(n_nodes) if rank[node] == own)
        assert places == list(range(len(places)))
    appearance = [sum(rank[before] == rank[node] for before in range(node)) for node in range(n_nodes)]
    assert layers.crossings(rank, order, edges) <= layers.crossings(rank, appearance, edges)
