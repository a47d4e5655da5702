"""Mermaid's three diagrams, as a sheet reads them, and every statement that it does not draw."""

import pytest

from nudge.errors import SheetError
from nudge.sheet.mermaid import diagram
from nudge.sheet.page import Bar, Branch, Edge, Flow, Group, Line, Message, Mindmap, Node, Sequence, Span


def plain(text: str) -> Line:
    return (Span(text=text),)


def flow(text: str) -> Flow:
    chart = diagram("flowchart LR\n" + text, 1)
    assert isinstance(chart, Flow)
    return chart


def arrows(chart: Flow) -> list[str]:
    """Every edge as `A>B`, those that lead back as `B<A`."""
    names = ["".join(span.text for span in node.spans) for node in chart.nodes]
    return [f"{names[edge.start]}{'<' if edge.back else '>'}{names[edge.end]}" for edge in chart.edges]


def ranks(chart: Flow) -> dict[str, tuple[int, float]]:
    return {"".join(span.text for span in node.spans): (node.rank, node.order) for node in chart.nodes}


# --- flowchart -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "direction"),
    [
        ("flowchart LR", "LR"),
        ("flowchart TB", "TB"),
        ("flowchart TD", "TB"),
        ("graph LR", "LR"),
        ("graph TD", "TB"),
        ("graph RL;", "LR"),
        ("flowchart BT", "TB"),
        ("flowchart", "TB"),
    ],
)
def test_the_directions_of_a_flowchart(head: str, direction: str):
    chart = diagram(f"%% a comment\n\n  {head}\n  A\n", 1)
    assert isinstance(chart, Flow)
    assert (chart.direction, chart.nodes) == (direction, (Node(spans=plain("A")),))


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("A", Node(spans=plain("A"))),
        ("가_1", Node(spans=plain("가_1"))),
        ("A[a b]", Node(spans=plain("a b"))),
        ('A["a (b) [c] | d"]', Node(spans=plain("a (b) [c] | d"))),
        ("A(a)", Node(spans=plain("a"), shape="round")),
        ('A("a")', Node(spans=plain("a"), shape="round")),
        ("A((a))", Node(spans=plain("a"), shape="circle")),
        ("A{a?}", Node(spans=plain("a?"), shape="diamond")),
        ("A([a])", Node(spans=plain("a"), shape="stadium")),
        ("A[[a]]", Node(spans=plain("a"), shape="subroutine")),
        ("A[(a)]", Node(spans=plain("a"), shape="cylinder")),
        ('A((("a")))', Node(spans=plain("a"), shape="double")),
        ("A{{a}}", Node(spans=plain("a"), shape="hexagon")),
        ("A[/a/b/]", Node(spans=plain("a/b"), shape="lean-right")),
        ("A[\\a\\]", Node(spans=plain("a"), shape="lean-left")),
        ("A[/a\\]", Node(spans=plain("a"), shape="trapezoid")),
        ("A[\\a/]", Node(spans=plain("a"), shape="funnel")),
        ("A>a]", Node(spans=plain("a"), shape="flag")),
        ("my-node.x", Node(spans=plain("my-node.x"))),
        ("__init__", Node(spans=plain("__init__"))),
        ("A[__init__ 2*3*4]", Node(spans=plain("__init__ 2*3*4"))),
        ("A[#35;1 #quot;a#quot; &lt;b&gt; #95;_x_ #9829; #no;]", Node(spans=plain('#1 "a" <b> __x_ \u2665 #no;'))),
        ('A["a\nb"]', Node(spans=(Span(text="a"), Span(text="\n", kind="break"), Span(text="b")))),
        ("A[a<br/>b] %% why", Node(spans=(Span(text="a"), Span(text="\n", kind="break"), Span(text="b")))),
        ("A;", Node(spans=plain("A"))),
        ("A:::mine\nclassDef mine fill:#f9f,stroke:#333;", Node(spans=plain("A"))),
        (
            'A\nclass A green\nstyle A fill:#f9f\nlinkStyle default stroke:red\nclick A href "https://a.b;c"',
            Node(spans=plain("A"), color="green"),
        ),
        ("A:::blue", Node(spans=plain("A"), color="blue")),
        ('A( "a" ):::red', Node(spans=plain("a"), shape="round", color="red")),
        ('A["**a**<br>b"]', Node(spans=(Span(text="a", bold=True), Span(text="\n", kind="break"), Span(text="b")))),
        ('A["`**a** b`"]', Node(spans=(Span(text="a", bold=True), Span(text=" b")))),
        ('A["`a` b `c`"]', Node(spans=(Span(text="a", code=True), Span(text=" b "), Span(text="c", code=True)))),
        ("A[📊 a]", Node(spans=(Span(text="📊", kind="icon", icon="bars"), Span(text=" a")))),
    ],
)
def test_a_node(text: str, node: Node):
    assert flow(text).nodes == (node,)


@pytest.mark.parametrize(
    ("arrow", "edge"),
    [
        ("-->", Edge(start=0, end=1)),
        ("---", Edge(start=0, end=1, head="none")),
        ("-.->", Edge(start=0, end=1, style="dashed")),
        ("-.-", Edge(start=0, end=1, style="dashed", head="none")),
        ("==>", Edge(start=0, end=1, style="thick")),
        ("===", Edge(start=0, end=1, style="thick", head="none")),
        ("---->", Edge(start=0, end=1)),
        ("-----", Edge(start=0, end=1, head="none")),
        ("-..->", Edge(start=0, end=1, style="dashed")),
        ("<-->", Edge(start=0, end=1, tail="arrow")),
        ("<-.->", Edge(start=0, end=1, tail="arrow", style="dashed")),
        ("<==>", Edge(start=0, end=1, tail="arrow", style="thick")),
        ("-- a.b=c -->", Edge(start=0, end=1, spans=plain("a.b=c"))),
        ("-. a-b .->", Edge(start=0, end=1, spans=plain("a-b"), style="dashed")),
        ("== a-b ==>", Edge(start=0, end=1, spans=plain("a-b"), style="thick")),
        ('-. "a .-> b" .-', Edge(start=0, end=1, spans=plain("a .-> b"), style="dashed", head="none")),
        ("<-- a -->", Edge(start=0, end=1, spans=plain("a"), tail="arrow")),
        ("--a-->", Edge(start=0, end=1, spans=plain("a"))),
        ("--ok-->", Edge(start=0, end=1, spans=plain("ok"))),
        ("-->|a b|", Edge(start=0, end=1, spans=plain("a b"))),
        ('-.-> |"a | b"|', Edge(start=0, end=1, spans=plain("a | b"), style="dashed")),
        ("-- a b -->", Edge(start=0, end=1, spans=plain("a b"))),
        ("-- a ---", Edge(start=0, end=1, spans=plain("a"), head="none")),
        ('-- "**a**" -->', Edge(start=0, end=1, spans=(Span(text="a", bold=True),))),
    ],
)
def test_an_arrow(arrow: str, edge: Edge):
    assert flow(f"A {arrow} B").edges == (edge,)
    assert flow(f"A{arrow}B").edges == (edge,)


@pytest.mark.parametrize(
    ("text", "tips"),
    [("A x--x B", "cross cross"), ("A o--o B", "circle circle"), ("A --x B", "none cross"), ("A ---oB", "none circle"),
     ("A --o|a|B", "none circle")],
)  # fmt: skip
def test_ends_of_arrows(text: str, tips: str):
    chart = flow(text)
    assert f"{chart.edges[0].tail} {chart.edges[0].head}" == tips
    assert arrows(chart) == ["A>B"]


def test_an_arrow_without_a_line_only_places_nodes():
    chart = flow("A ~~~ B")
    assert (chart.edges, ranks(chart)) == ((), {"A": (0, 0.0), "B": (1, 0.0)})


def test_letters_and_words_that_could_be_arrows_or_statements():
    assert arrows(flow("o[o]\no-->p\no-->k")) == ["o>p", "o>k"]
    assert arrows(flow("start --> end; end --> B_end\nclass --> x")) == ["start>end", "end>B_end", "class>x"]
    assert arrows(flow("A --o B --> C")) == ["A>B", "B>C"]


def test_towards_the_left_the_last_layer_is_the_first():
    chart = diagram("flowchart RL; A --> B -->|to| C", 1)
    assert isinstance(chart, Flow)
    assert ranks(chart) == {"A": (2, 0.0), "B": (1, 0.0), "C": (0, 0.0)}
    assert [(edge.start, edge.end, edge.tail, edge.head, edge.back) for edge in chart.edges] == [
        (1, 0, "arrow", "none", False),
        (2, 1, "arrow", "none", False),
    ]


def test_a_subgraph_has_its_ranks_for_itself():
    chart = flow("""
    a1 --> b1 --> a2
    subgraph one [The first]
      direction TB
      a1 --> a2
      subgraph "Inner part"
        a3 & a4
      end
      a2 --> a3
    end
    subgraph two words
      b1
    end
    """)
    assert chart.groups == (
        Group(spans=plain("The first"), first=0, last=2),
        Group(spans=plain("Inner part"), parent=0, first=2, last=2),
        Group(spans=plain("two words"), first=3, last=3),
    )
    assert [node.group for node in chart.nodes] == [0, 2, 0, 1, 1]
    assert arrows(chart) == ["a1>b1", "b1<a2", "a1>a2", "a2>a3"]


def test_the_titles_of_diagrams():
    front = '---\ntitle: "a b"\nconfig:\n  theme: dark\n---\n%%{init: {\n"a": 1}}%%\n%%\n'
    for body in ("graph LR\nA", "sequenceDiagram\nA->>B: c", "mindmap\n\ta"):
        assert diagram(front + body, 1).title == plain("a b")
    assert diagram("sequenceDiagram\ntitle: a\nA->>B: c", 1).title == plain("a")  # type: ignore[union-attr]


def test_chains_branches_joins_cycles_and_loops():
    chart = flow("A --> B --> C\nA & D --> E & C\nC --> A\nB --> B\n")
    assert arrows(chart) == ["A>B", "B>C", "A>E", "A>C", "D>E", "D>C", "C<A", "B<B"]
    assert {name: rank for name, (rank, _) in ranks(chart).items()} == {"A": 0, "D": 0, "B": 1, "E": 1, "C": 2}


def test_a_node_is_said_once_and_named_afterwards():
    chart = flow("A --> B\nB[b]:::green\nA(a) --> B")
    assert chart.nodes == (
        Node(spans=plain("a"), shape="round"),
        Node(spans=plain("b"), color="green", rank=1),
    )


def test_nodes_beside_each_other_are_so_ordered_that_arrows_do_not_cross():
    chart = flow("A --> B1 & B2 & B3\nB3 --> C1\nB2 --> C2\nB1 --> C3\n")
    order = {name: place for name, (_, place) in ranks(chart).items()}
    assert (order["B1"] - order["B2"]) * (order["C3"] - order["C2"]) > 0
    assert (order["B2"] - order["B3"]) * (order["C2"] - order["C1"]) > 0


def test_what_leads_nowhere_stands_in_the_first_rank():
    assert ranks(flow("A\nB\nC --> D")) == {"A": (0, 0.0), "B": (0, 1.0), "C": (0, 2.0), "D": (1, 0.0)}


# --- mindmap -------------------------------------------------------------------------------------------------------


def test_a_mindmap_has_a_root_branches_and_leaves():
    assert diagram(
        """mindmap
  root(("**GPT-2** <br> 124M"))
    Data
      9B tokens
      %% a comment
      ["40 GB (text)"]
    (Model)
       id[12 layers]
    📊 Cost
""",
        1,
    ) == Mindmap(
        root=(Span(text="GPT-2", bold=True), Span(text=" "), Span(text="\n", kind="break"), Span(text=" 124M")),
        branches=(
            Branch(spans=plain("Data"), leaves=(plain("9B tokens"), plain("40 GB (text)"))),
            Branch(spans=plain("Model"), leaves=(plain("12 layers"),)),
            Branch(spans=(Span(text="📊", kind="icon", icon="bars"), Span(text=" Cost"))),
        ),
    )


@pytest.mark.parametrize(
    ("point", "text"),
    [("b{{c}}", "c"), ("b))c((", "c"), (")c(", "c"), ("b(c):::big bold", "c"), ("Size (124M)", "Size (124M)"),
     ("f(x) of [y]", "f(x) of [y]"), ("(a) b (c)", "(a) b (c)"), ('b["c (d)"]', "c (d)"), ("b[c] d[e]", "b[c] d[e]")],
)  # fmt: skip
def test_a_point_of_a_mindmap_is_never_cut(point: str, text: str):
    for body in (f"mindmap\n  a\n    ::icon(fa fa-book)\n    {point}\n    :::big", f"mindmap\n\ta\n\t\t{point}"):
        chart = diagram(body, 1)
        assert isinstance(chart, Mindmap)
        assert chart.branches == (Branch(spans=plain(text)),)


# --- sequence ------------------------------------------------------------------------------------------------------


def test_a_sequence():
    assert diagram(
        """sequenceDiagram
    participant D as **Data** loader
    actor G
    D->>G: batch
    loop every step
        G-->>D: loss: 3.9
        G->G: update
        Note over D,G: a
    end
    Note over H: b
    D-->H: c
""",
        1,
    ) == Sequence(
        actors=((Span(text="Data", bold=True), Span(text=" loader")), plain("G"), plain("H")),
        messages=(
            Message(spans=plain("batch"), start=0, end=1),
            Message(kind="frame", spans=plain("every step"), word="loop"),
            Message(spans=plain("loss: 3.9"), start=1, end=0, dashed=True),
            Message(spans=plain("update"), start=1, end=1, head="none"),
            Message(kind="note", spans=plain("a"), start=0, end=1),
            Message(kind="end"),
            Message(kind="note", spans=plain("b"), start=2, end=2),
            Message(spans=plain("c"), start=0, end=2, dashed=True, head="none"),
        ),
    )


def sequence(text: str) -> Sequence:
    chart = diagram("sequenceDiagram\n" + text, 1)
    assert isinstance(chart, Sequence)
    return chart


def test_frames_with_their_parts():
    chart = sequence("""A->>B: a
    alt is valid
      par
        B-->>A: b
      and too
        B-->>A: c
      end
    else
      rect rgb(0, 255, 0)
        B-->>A: d
      end
    end
    box green Team
    participant C
    end
    """)
    assert [(one.kind, one.word, "".join(span.text for span in one.spans)) for one in chart.messages] == [
        ("message", "", "a"), ("frame", "alt", "is valid"), ("frame", "par", ""), ("message", "", "b"),
        ("part", "", "too"), ("message", "", "c"), ("end", "", ""), ("part", "", ""), ("frame", "", ""),
        ("message", "", "d"), ("end", "", ""), ("end", "", ""),
    ]  # fmt: skip
    assert chart.actors == (plain("A"), plain("B"), plain("C"))


@pytest.mark.parametrize(
    ("arrow", "dashed", "tips"),
    [("->", False, "none none"), ("-->", True, "none none"), ("->>", False, "none arrow"), ("-->>", True, "none arrow"),
     ("<<->>", False, "arrow arrow"), ("<<-->>", True, "arrow arrow"), ("-x", False, "none cross"),
     ("--x", True, "none cross"), ("-)", False, "none half"), ("--)", True, "none half")],
)  # fmt: skip
def test_arrows_between_names_with_dashes_and_spaces(arrow: str, dashed: bool, tips: str):
    (message,), chart = (chart := sequence(f"jelly-bean {arrow} cron job: a; b")).messages, chart
    assert chart.actors == (plain("jelly-bean"), plain("cron job"))
    assert (message.spans, message.dashed, f"{message.tail} {message.head}") == (plain("a; b"), dashed, tips)


def test_notes_beside_a_lifeline():
    chart = sequence("A->>B: a\nNote left of A: b\nnote right of B: c<br/>d\nNote over B,A: e")
    assert [(note.side, note.start, note.end) for note in chart.messages[1:]] == [
        ("left", 0, 0), ("right", 1, 1), ("over", 0, 1),
    ]  # fmt: skip


def test_bars_of_who_is_active():
    chart = sequence("A->>+B: a\nB->>+B: b\nB-->>-A: c\nactivate A\nB-->>-A: d\nA->>B: e\ndeactivate A\nA->>+B: f")
    assert chart.bars == (Bar(actor=1, first=0, last=3), Bar(actor=0, first=2, last=4), Bar(actor=1, first=5, last=5))


def test_numbers_of_messages():
    chart = sequence(
        "A->>B: a\nautonumber\nA->>B: b\nA->>B: c\nautonumber 10 5\nA->>B: d\nA->>B: e\nautonumber off\nA->>B: f"
    )
    assert [message.number for message in chart.messages] == [None, 1, 2, 10, 15, None]


# --- what is not drawn ---------------------------------------------------------------------------------------------

FAULTS = [
    ("", 0, "empty_diagram", {}),
    ("%% nothing\n", 0, "empty_diagram", {}),
    ("flowchrt LR\nA\n", 0, "unknown_diagram", {"kind": "flowchrt", "closest": "did you mean 'flowchart'?"}),
    ("gantt\n", 0, "unknown_diagram", {"kind": "gantt"}),
    ("---\ntitle: a\nflowchart LR\n", 0, "unknown_diagram", {"kind": "---"}),
    ("---\ntitle: a\n---\nflowchart LR\n", 3, "no_nodes", {}),
    ("%%{init: {}}%%\n\nflowchart XY\nA\n", 2, "direction", {"got": "XY"}),
    ("flowchart LR\n", 0, "no_nodes", {}),
    ("flowchart LR\nA --> B\n  end\n", 2, "unknown_statement", {"word": "end"}),
    ("flowchart LR\nA --> B\n  direction TB\n", 2, "unknown_statement", {"word": "direction TB"}),
    ("flowchart LR\nsubgraph a\nA\ndirection XY\nend", 3, "unknown_statement", {"word": "direction XY"}),
    ("flowchart LR\nA\nsubgraph one\nB\n", 2, "open_frame", {"word": "subgraph"}),
    ("flowchart LR\nA\nsubgraph one\nend\n", 2, "empty_subgraph", {}),
    ("flowchart LR\nsubgraph one\nA\nend\nB --> one\n", 4, "arrow_to_subgraph", {"name": "one"}),
    ("flowchart LR\n" + "subgraph a\n" * 5 + "A\n" + "end\n" * 5, 5, "nested_subgraphs", {"most": 4}),
    ("flowchart LR\nA -->\n", 1, "expected_node", {"got": ""}),
    ("flowchart LR\n--> A\n", 1, "expected_node", {"got": "--> A"}),
    ("flowchart LR\nA B\n", 1, "expected_arrow", {"got": "B"}),
    ("flowchart LR\nA -> B\n", 1, "expected_arrow", {"got": "-> B"}),
    ("flowchart LR\nA -- B\n", 1, "expected_arrow", {"got": "-- B"}),
    ("flowchart LR\nA -->|a B\n", 1, "label_end", {"got": "|a B"}),
    ("flowchart LR\nA[a (b)]\n", 1, "label_end", {"got": "[a (b)]"}),
    ("flowchart LR\nA --> B(f(x))\n", 1, "label_end", {"got": "(f(x))"}),
    ('flowchart LR\nB\nA["a\nb\n', 2, "open_quote", {}),
    ("flowchart LR\nA@{ shape: box }\n", 1, "expected_arrow", {"got": "@{ shape: box }"}),
    ("flowchart LR\nA:::blu\n", 1, "unknown_word", {"what": "color", "word": "blu", "closest": "did you mean 'blue'?"}),
    ("flowchart LR\nA:::mauve\n", 1, "unknown_word", {"what": "color", "word": "mauve"}),
    ("flowchart LR\nA\nclass A mauve\n", 2, "unknown_word", {"what": "color", "word": "mauve"}),
    ("flowchart LR\nA\nclass A,B blue\n", 2, "unknown_node", {"name": "B"}),
    ("flowchart LR\n\nA[==a]\n", 2, "open_mark", {}),
    ('flowchart LR\nA --> B[" "]\n', 1, "no_text", {"what": "a label"}),
    ('flowchart LR\nA -->|""| B\n', 1, "no_text", {"what": "a label"}),
    ('mindmap\n  a\n    [""]\n', 2, "no_text", {"what": "a label"}),
    ("sequenceDiagram\nA->>B: <!-- a -->\n", 1, "no_text", {"what": "a label"}),
    (f"flowchart LR\n{'A & ' * 30}A --> {'B & ' * 30}B\n", 1, "too_many_arrows", {}),
    ("mindmap\n", 0, "no_root", {}),
    ("mindmap TB\n  a\n", 0, "words_after_diagram", {"kind": "mindmap", "got": "TB"}),
    ("mindmap\n  a\n    b\n      c\n        d\n", 4, "fourth_level", {"text": "d"}),
    ("mindmap\n  a\n  b\n", 2, "second_root", {"text": "b"}),
    ("sequenceDiagram\n", 0, "no_message", {}),
    ("sequenceDiagram a\n", 0, "words_after_diagram", {"kind": "sequenceDiagram", "got": "a"}),
    ("sequenceDiagram\nloop a\nA->>B: a\n", 1, "open_frame", {"word": "loop"}),
    ("sequenceDiagram\nA->>B: a\nNote above A: a\n", 2, "note_place", {"got": "above A"}),
    ("sequenceDiagram\nA->>B: a\nNote left of A,B: a\n", 2, "note_place", {"got": "left of A,B"}),
    ("sequenceDiagram\nA->>B: a\nB-->>-A: b\n", 2, "not_active", {"actor": "B"}),
    *(
        (f"sequenceDiagram\nA->>B: a\n{line}\n", 2, "sequence_line", {"text": line})
        for line in (
            "end", "else a", "A->>B", "A B: a", "->>B: a", "A->>: a", "create actor C", "destroy B", "participant",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "below", "name", "values"), FAULTS)
def test_what_is_not_understood_is_one_error_with_its_line(text: str, below: int, name: str, values: dict[str, object]):
    with pytest.raises(SheetError) as raised:
        diagram(text, 40)
    assert raised.value.code == f"sheet.{name}"
    assert raised.value.values["line"] == 40 + below
    assert raised.value.values.items() >= values.items()
    assert raised.value.message.startswith(f"line {40 + below}: ")
