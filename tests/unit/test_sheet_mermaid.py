"""Mermaid's three diagrams, as a sheet reads them, and every statement that it does not draw."""

import pytest

from nudge.errors import SheetError
from nudge.sheet.mermaid import diagram
from nudge.sheet.page import Branch, Edge, Flow, Line, Message, Mindmap, Node, Sequence, Span


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
    [("flowchart LR", "LR"), ("flowchart TB", "TB"), ("flowchart TD", "TB"), ("graph LR", "LR"), ("graph TD", "TB")],
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
        ("---", Edge(start=0, end=1, arrow=False)),
        ("-.->", Edge(start=0, end=1, style="dashed")),
        ("-.-", Edge(start=0, end=1, style="dashed", arrow=False)),
        ("==>", Edge(start=0, end=1, style="thick")),
        ("===", Edge(start=0, end=1, style="thick", arrow=False)),
        ("-->|a b|", Edge(start=0, end=1, spans=plain("a b"))),
        ('-.-> |"a | b"|', Edge(start=0, end=1, spans=plain("a | b"), style="dashed")),
        ("-- a b -->", Edge(start=0, end=1, spans=plain("a b"))),
        ("-- a ---", Edge(start=0, end=1, spans=plain("a"), arrow=False)),
        ('-- "**a**" -->', Edge(start=0, end=1, spans=(Span(text="a", bold=True),))),
    ],
)
def test_an_arrow(arrow: str, edge: Edge):
    assert flow(f"A {arrow} B").edges == (edge,)
    assert flow(f"A{arrow}B").edges == (edge,)


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
            Message(kind="loop", spans=plain("every step")),
            Message(spans=plain("loss: 3.9"), start=1, end=0, dashed=True),
            Message(spans=plain("update"), start=1, end=1),
            Message(kind="note", spans=plain("a"), start=0, end=1),
            Message(kind="end"),
            Message(kind="note", spans=plain("b"), start=2, end=2),
            Message(spans=plain("c"), start=0, end=2, dashed=True),
        ),
    )


# --- what is not drawn ---------------------------------------------------------------------------------------------

FAULTS = [
    ("", 0, "empty_diagram", {}),
    ("%% nothing\n", 0, "empty_diagram", {}),
    ("flowchrt LR\nA\n", 0, "unknown_diagram", {"kind": "flowchrt", "closest": "did you mean 'flowchart'?"}),
    ("gantt\n", 0, "unknown_diagram", {"kind": "gantt"}),
    ("---\ntitle: a\n---\nflowchart LR\n", 0, "unknown_diagram", {"kind": "---"}),
    ("flowchart\nA\n", 0, "direction", {"kind": "flowchart", "got": ""}),
    ("flowchart RL\nA\n", 0, "direction", {"kind": "flowchart", "got": "RL"}),
    ("graph TD; A-->B\n", 0, "direction", {"kind": "graph", "got": "TD; A-->B"}),
    ("flowchart LR\n", 0, "no_nodes", {}),
    *(
        (f"flowchart LR\nA --> B\n  {line}\n", 2, "unknown_statement", {"word": line.split()[0]})
        for line in (
            "subgraph one", "end", "class A blue", "classDef blue fill:#f9f", "style A fill:#f9f",
            "linkStyle 0 stroke:red", "click A href", "direction TB",
        )
    ),
    ("flowchart LR\nA -->\n", 1, "expected_node", {"got": ""}),
    ("flowchart LR\n--> A\n", 1, "expected_node", {"got": "--> A"}),
    ("flowchart LR\nA B\n", 1, "expected_arrow", {"got": "B"}),
    ("flowchart LR\nA --> B;\n", 1, "expected_arrow", {"got": ";"}),
    ("flowchart LR\nA -> B\n", 1, "expected_arrow", {"got": "-> B"}),
    ("flowchart LR\nA ----> B\n", 1, "expected_arrow", {"got": "----> B"}),
    ("flowchart LR\nA --x B\n", 1, "expected_arrow", {"got": "--x B"}),
    ("flowchart LR\nA <--> B\n", 1, "expected_arrow", {"got": "<--> B"}),
    ("flowchart LR\nA -->|a B\n", 1, "expected_node", {"got": "|a B"}),
    ("flowchart LR\nA[a (b)]\n", 1, "expected_arrow", {"got": "[a (b)]"}),
    ("flowchart LR\nA[[a]]\n", 1, "expected_arrow", {"got": "[[a]]"}),
    ("flowchart LR\nA([a])\n", 1, "expected_arrow", {"got": "([a])"}),
    ("flowchart LR\nA[(a)]\n", 1, "expected_arrow", {"got": "[(a)]"}),
    ("flowchart LR\nA{{a}}\n", 1, "expected_arrow", {"got": "{{a}}"}),
    ("flowchart LR\nA[/a/]\n", 1, "expected_arrow", {"got": "[/a/]"}),
    ("flowchart LR\nA>a]\n", 1, "expected_arrow", {"got": ">a]"}),
    ("flowchart LR\nA@{ shape: box }\n", 1, "expected_arrow", {"got": "@{ shape: box }"}),
    ("flowchart LR\nA:::blu\n", 1, "unknown_word", {"what": "color", "word": "blu", "closest": "did you mean 'blue'?"}),
    ("flowchart LR\nA:::mauve\n", 1, "unknown_word", {"what": "color", "word": "mauve"}),
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
    ("mindmap\n  a\n    ::icon(fa fa-book)\n", 2, "mindmap_line", {"text": "::icon(fa fa-book)"}),
    ("mindmap\n  a\n    b{{c}}\n", 2, "mindmap_line", {"text": "b{{c}}"}),
    ("mindmap\n  a\n    Size (124M)\n", 2, "mindmap_line", {"text": "Size (124M)"}),
    ("sequenceDiagram\n", 0, "no_message", {}),
    ("sequenceDiagram a\n", 0, "words_after_diagram", {"kind": "sequenceDiagram", "got": "a"}),
    ("sequenceDiagram\nA->>B: a\nparticipant A\n", 2, "late_participant", {"name": "A"}),
    ("sequenceDiagram\nloop a\nA->>B: a\n", 1, "open_loop", {}),
    *(
        (f"sequenceDiagram\nA->>B: a\n{line}\n", 2, "sequence_line", {"text": line})
        for line in (
            "end", "loop", "A->>B", "A->>B:", "A-xB: a", "A-)B: a", "A<<->>B: a", "A->>+B: a", "autonumber",
            "activate A", "alt a", "opt a", "par a", "rect red", "Note left of A: a", "participant a b", "box a",
            "create actor C",
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
