"""Diagrams are read back from the PDF: every label is there, inside its page, and none lies over another."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
import typst

from nudge.sheet import page

TYPST = Path(page.__file__).parent / "typst"
DOCUMENT = """
#import "{folder}/diagrams.typ": draw-flow, draw-mindmap, draw-sequence
#set page(width: {width}pt, height: auto, margin: 0pt)
#set text(font: "{family}", size: {size}pt, fallback: false, top-edge: 0.78em, bottom-edge: -0.2em, lang: "ko")
{before}
#let block = json(bytes(sys.inputs.block))
#(flow: draw-flow, mindmap: draw-mindmap, sequence: draw-sequence).at(block.type)(block, "orange")
"""

Glyph = tuple[str, tuple[float, float, float, float]]  # a character and its left, bottom, right, top in pt


class Drawn:
    """A diagram on a page of its own."""

    def __init__(self, compiler: "typst.Compiler") -> None:
        found = compiler.query("<tight>", field="value")
        self.tight: list[dict[str, Any]] = json.loads(found)
        sheet = pypdfium2.PdfDocument(compiler.compile(format="pdf"))[0]
        self.width, self.height = sheet.get_size()
        text = sheet.get_textpage()
        characters = [(text.get_text_range(i, 1), text.get_charbox(i)) for i in range(text.count_chars())]
        self.outlines = [thing.get_bounds() for thing in sheet.get_objects([pypdfium2.raw.FPDF_PAGEOBJ_PATH])]
        self.glyphs: list[Glyph] = [(letter, box) for letter, box in characters if letter.strip()]
        self.letters = "".join(letter for letter, _ in self.glyphs)


Draw = Callable[..., Drawn]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """`draw(block, width)` in the pen's font, which not every computer has."""
    fonts = sorted(Path("/usr/share/fonts").glob("**/NanumPen*.ttf"))
    if not fonts:
        pytest.skip("no NanumPen*.ttf below /usr/share/fonts: install fonts-nanum-extra")

    def drawn(block: page.Block, width: float = 540, size: float = 13, before: str = "") -> Drawn:
        document = tmp_path / "diagram.typ"
        family = "Nanum Pen Script" if fonts[0].stem == "NanumPen" else "Nanum Pen"
        document.write_text(
            DOCUMENT.format(folder=TYPST.as_posix(), width=width, size=size, family=family, before=before),
            encoding="utf-8",
        )
        compiler = typst.Compiler(
            str(document),
            root="/",
            font_paths=[str(fonts[0].parent)],
            ignore_system_fonts=True,
            sys_inputs={"block": json.dumps(page.to_json(block))},
        )
        return Drawn(compiler)

    return drawn


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
                start=a, end=b, spans=line(text) if text else (), back=nodes[b][1] <= nodes[a][1], arrow=(a + b) % 5 > 0
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


def overlaps(glyphs: list[Glyph]) -> list[tuple[str, str]]:
    """Pairs of glyphs of which one covers more than 30% of the other."""
    found = []
    for i, (one, (left, bottom, right, top)) in enumerate(glyphs):
        for other, (left2, bottom2, right2, top2) in glyphs[i + 1 :]:
            common = max(0.0, min(right, right2) - max(left, left2)) * max(0.0, min(top, top2) - max(bottom, bottom2))
            least = min((right - left) * (top - bottom), (right2 - left2) * (top2 - bottom2))
            if common > 0.3 * least:
                found.append((one, other))
    return found


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


def said(a: int, b: int, text: str, kind: str = "message") -> page.Message:
    """What a says to b."""
    return page.Message(kind=kind, start=a, end=b, spans=line(text) if text else ())  # type: ignore[arg-type]


TALK = page.Sequence(
    actors=(line("사용자"), line("Train loop"), line("GPU")),
    messages=(
        said(0, 1, "train 시작을 누른다"),
        said(0, 1, "이 컴퓨터 안에서만", kind="note"),
        said(0, 0, "step마다", kind="loop"),
        said(1, 2, "1. forward와 backward를 부탁한다"),
        said(2, 1, "loss"),
        said(2, 2, "memory 정리"),
        said(0, 2, "멈추기", kind="message"),
        said(0, 0, "", kind="end"),
        said(2, 0, "best.pt"),
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
def test_every_label_is_inside_and_over_no_other(draw: Draw, block: page.Block, width: float) -> None:
    drawn = draw(block, width)
    assert drawn.tight == []
    for letters in words_of(block):
        assert letters in drawn.letters
    for letter, (left, bottom, right, top) in drawn.glyphs:
        assert min(left, bottom) >= 0, letter
        assert right <= drawn.width, letter
        assert top <= drawn.height, letter
    assert overlaps(drawn.glyphs) == []


@pytest.mark.parametrize(
    "block",
    [
        flow("LR", [("Donaudampfschifffahrtsgesellschaft", 0, 0)], []),
        flow("TB", [("a", 0, 0), ("Donaudampfschifffahrtsgesellschaft", 1, 0)], [(0, 1, "")]),
        page.Mindmap(root=line("a"), branches=(page.Branch(spans=line("Donaudampfschifffahrtsgesellschaft")),)),
        page.Sequence(actors=(line("a"), line("Donaudampfschifffahrtsgesellschaft")), messages=()),
    ],
)
def test_a_word_wider_than_its_place_is_said(draw: Draw, block: page.Block) -> None:
    tight = draw(block, 120).tight
    assert len(tight) == 1
    assert tight[0]["needs"] > 120
    assert tight[0]["has"] == pytest.approx(120)
    assert draw(block, 400).tight == []


def test_no_text_is_smaller_than_nine_points(draw: Draw) -> None:
    """Where the text around is already small, a diagram's is not smaller: it says what does not fit instead."""
    around = draw(flow("LR", [("가나다", 0, 0)], []), 100, size=9)
    again = draw(flow("LR", [("가나다", 0, 0)], []), 100, size=8)
    heights = [top - bottom for drawn in (around, again) for _, (_, bottom, _, top) in drawn.glyphs]
    assert heights[:3] == pytest.approx(heights[3:], abs=0.05)


@pytest.mark.parametrize("width", [300, 90])
def test_steps_stand_below_each_other(draw: Draw, width: float) -> None:
    drawn = draw(flow("LR", [(STEPS, 0, 0)], []), width)
    assert drawn.tight == []
    lefts = [
        box[0]
        for i, (letter, box) in enumerate(drawn.glyphs)
        if drawn.letters[i + 1 : i + 2] == "." and letter.isdigit()
    ]
    assert len(lefts) == 3
    assert max(lefts) - min(lefts) < 4


@pytest.mark.parametrize("text", ["2019|~$40,000|당시 GPU (추정)", "처음부터 끝까지 길다", "x"])
def test_text_is_inside_its_ellipse(draw: Draw, text: str) -> None:
    drawn = draw(page.Flow(direction="LR", nodes=(page.Node(spans=line(text), shape="circle"),), edges=()), 300)
    left, bottom, right, top = max(drawn.outlines, key=lambda box: box[2] - box[0])
    for letter, (x0, y0, x1, y1) in drawn.glyphs:
        for x in (x0, x1):
            for y in (y0, y1):
                across, up = (2 * x - left - right) / (right - left), (2 * y - bottom - top) / (top - bottom)
                assert across**2 + up**2 < 1, letter


@pytest.mark.parametrize("block", [flow("LR", BRANCHES, WAYS), MAP, TALK])
def test_a_measured_diagram_is_as_high_as_a_drawn_one(draw: Draw, block: page.Block) -> None:
    measured = draw(block, 540, before="#set curve(stroke: none)")
    assert measured.glyphs == []
    assert measured.height == draw(block, 540).height
