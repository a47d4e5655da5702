"""Diagrams are read back from the PDF: every label is there, inside its page, and none lies over another."""

from itertools import pairwise

import pypdfium2
import pytest
from tests.sheets import MARGIN_PT, characters, drawn, overlaps, strokes, tight

from nudge.sheet import page

DIAGRAMS = "diagrams.typ"


def size_of(pdf: bytes) -> tuple[float, float]:
    """Width and height of the page, in pt."""
    with pypdfium2.PdfDocument(pdf) as document:
        width, height = document[0].get_size()
        return width, height


def line(text: str) -> page.Line:
    """Words; `|` breaks the line."""
    parts = [page.Span(text=part) for part in text.split("|")]
    pause = page.Span(text="\n", kind="break")
    return tuple(span for part in parts for span in (pause, part))[1:]


def flow(direction: str, nodes: list[tuple[str, int, int]], edges: list[tuple[int, int, str]]) -> page.Flow:
    """A flowchart of (label, rank, order) and (start, end, label), with all four shapes by turns."""
    shapes = ("box", "round", "circle", "diamond")
    return page.Flow(
        direction=direction,  # type: ignore[arg-type]
        nodes=tuple(
            page.Node(spans=line(text), rank=rank, order=order, shape=shapes[i % 4])  # type: ignore[arg-type]
            for i, (text, rank, order) in enumerate(nodes)
        ),
        edges=tuple(
            page.Edge(
                start=a,
                end=b,
                spans=line(text) if text else (),
                back=nodes[b][1] <= nodes[a][1],
                head="arrow" if (a + b) % 5 else "none",
            )
            for a, b, text in edges
        ),
    )


def words_of(block: page.Block) -> list[str]:
    """Every line of a diagram without its spaces, as the page shows it."""
    match block:
        case page.Flow():
            lines = [node.spans for node in block.nodes] + [edge.spans for edge in block.edges]
        case page.Mindmap():
            lines = [block.root, *(one for branch in block.branches for one in (branch.spans, *branch.leaves))]
        case page.Sequence():
            lines = [*block.actors, *(message.spans for message in block.messages)]
        case _:
            raise TypeError(block)
    texts = (span.text for spans in lines for span in spans if span.kind == "text")
    return [word for text in texts for word in text.split()]


BRANCHES = [
    ("데이터", 0, 0), ("train 90%", 1, 0), ("검증 10%", 1, 1), ("좋아졌나?", 2, 0), ("best.pt|저장", 3, 0),
    ("그냥 계속", 3, 1),
]  # fmt: skip
WAYS = [
    (0, 1, "학습용"), (0, 2, "검증용"), (1, 3, ""), (2, 3, ""), (3, 4, "네"), (3, 5, "아니오"),
    (0, 3, "vocabulary"), (4, 0, "다음 step"), (1, 1, "x12"),
]  # fmt: skip
CHAIN = [
    "Input Tokens",
    "Embedding 토큰을 벡터로",
    "Layer Norm",
    "Attention Block",
    "MLP Block",
    "× N층",
    "Logits",
    "다음 토큰",
]
STEPS = "For each step|1. 1M 토큰 샘플링|2. Next token 예측|3. Loss 계산"

MAP = page.Mindmap(
    root=line("Neural Network I/O"),
    branches=tuple(
        page.Branch(spans=line(name), leaves=tuple(line(leaf) for leaf in leaves))
        for name, leaves in {
            "Input": ["Token Sequence", "Context Window"],
            "처리": ["Statistical Modeling"],
            "Output": ["Probability Distribution", "100K+ 토큰"],
            "학습": ["Loss 계산", "Parameter Update", "조금씩"],
        }.items()
    ),
)


def message(a: int, b: int, text: str, kind: str = "message", word: str = "") -> page.Message:
    """A message from a to b."""
    return page.Message(kind=kind, start=a, end=b, spans=line(text) if text else (), word=word)  # type: ignore[arg-type]


TALK = page.Sequence(
    actors=(line("사용자"), line("Train loop"), line("GPU")),
    messages=(
        message(0, 1, "train 시작을 누른다"),
        message(0, 1, "이 컴퓨터 안에서만", kind="note"),
        message(0, 0, "step마다", kind="frame", word="loop"),
        message(1, 2, "1. forward와 backward를 부탁한다"),
        message(2, 1, "loss"),
        message(2, 2, "memory 정리"),
        message(0, 2, "멈추기", kind="message"),
        message(0, 0, "", kind="end"),
        message(2, 0, "best.pt"),
    ),
)


@pytest.mark.parametrize(
    ("block", "width"),
    [
        (flow("LR", BRANCHES, WAYS), 540),
        (flow("TB", BRANCHES, WAYS), 540),
        (flow("TB", BRANCHES, WAYS), 240),
        (flow("LR", [(text, i, 0) for i, text in enumerate(CHAIN)], [(i, i + 1, "") for i in range(7)]), 560),
        (flow("LR", [(STEPS, 0, 0)], [(0, 0, "repeat!")]), 180),
        (MAP, 540),
        (MAP, 300),
        (MAP, 180),
        (TALK, 540),
        (TALK, 240),
    ],
)
def test_every_label_is_inside_and_over_no_other(block: page.Block, width: float) -> None:
    assert tight(block, file=DIAGRAMS, width_pt=width) == []
    pdf = drawn(block, file=DIAGRAMS, width_pt=width)
    glyphs = characters(pdf)
    letters = "".join(one.char for one in glyphs)
    for word in words_of(block):
        assert word in letters
    right, bottom = (side - MARGIN_PT for side in size_of(pdf))
    for one in glyphs:
        assert min(one.left, one.top) >= MARGIN_PT, one
        assert one.right <= right, one
        assert one.bottom <= bottom, one
    assert overlaps(glyphs) == []


@pytest.mark.parametrize(
    "block",
    [
        flow("LR", [("Donaudampfschifffahrtsgesellschaft", 0, 0)], []),
        flow("TB", [("a", 0, 0), ("Donaudampfschifffahrtsgesellschaft", 1, 0)], [(0, 1, "")]),
        page.Mindmap(root=line("a"), branches=(page.Branch(spans=line("Donaudampfschifffahrtsgesellschaft")),)),
        page.Sequence(actors=(line("a"), line("Donaudampfschifffahrtsgesellschaft")), messages=()),
    ],
)
def test_a_word_wider_than_its_place_is_said(block: page.Block) -> None:
    (report,) = tight(block, file=DIAGRAMS, width_pt=120)
    assert float(report["needs"]) > 120
    assert report["has"] == pytest.approx(120)
    assert tight(block, file=DIAGRAMS, width_pt=400) == []


def test_no_text_is_smaller_than_nine_points() -> None:
    """Where the text around is already small, a diagram's is not smaller: it reports what does not fit instead."""
    block = flow("LR", [("가나다", 0, 0)], [])
    for size in (9, 8):
        glyphs = characters(drawn(block, file=DIAGRAMS, width_pt=100, size_pt=size))
        assert [one.size_pt for one in glyphs] == pytest.approx([9, 9, 9])


@pytest.mark.parametrize("width", [300, 90])
def test_steps_stand_below_each_other(width: float) -> None:
    block = flow("LR", [(STEPS, 0, 0)], [])
    assert tight(block, file=DIAGRAMS, width_pt=width) == []
    glyphs = characters(drawn(block, file=DIAGRAMS, width_pt=width))
    lefts = [one.left for one, after in pairwise(glyphs) if one.char.isdigit() and after.char == "."]
    assert len(lefts) == 3
    assert max(lefts) - min(lefts) < 4


@pytest.mark.parametrize("text", ["2019|~$40,000|당시 GPU (추정)", "처음부터 끝까지 길다", "x"])
def test_text_is_inside_its_ellipse(text: str) -> None:
    block = page.Flow(direction="LR", nodes=(page.Node(spans=line(text), shape="circle"),), edges=())
    pdf = drawn(block, file=DIAGRAMS)
    left, top, right, bottom = max((one.box for one in strokes(pdf)), key=lambda box: box[2] - box[0])
    glyphs = characters(pdf)
    assert len(glyphs) >= len(text.replace("|", "").replace(" ", ""))
    for one in glyphs:
        for x in (one.left, one.right):
            for y in (one.top, one.bottom):
                across, down = (2 * x - left - right) / (right - left), (2 * y - top - bottom) / (bottom - top)
                assert across**2 + down**2 < 1, one


@pytest.mark.parametrize("block", [flow("LR", BRANCHES, WAYS), MAP, TALK])
def test_a_measured_diagram_is_as_high_as_a_drawn_one(block: page.Block) -> None:
    measured = drawn(block, file=DIAGRAMS, width_pt=540, before="#set curve(stroke: none)")
    assert characters(measured) == []
    assert size_of(measured) == size_of(drawn(block, file=DIAGRAMS, width_pt=540))
