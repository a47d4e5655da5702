"""The sheets of the lecture's fifth chapter and of the learning material: what they must say, and their numbers."""

import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from nudge.model.gpt import GPT
from nudge.recipes import recipe
from nudge.sheet import source
from nudge.sheet.lecture import filled_text
from nudge.sheet.page import (
    LANGUAGES,
    Block,
    Bullets,
    Code,
    Columns,
    Flow,
    Item,
    Knobs,
    Line,
    Mindmap,
    Quote,
    Region,
    Sheet,
    Table,
)

QUOTES = (
    "Think of these parameters as kind of like knobs on a DJ set",
    "It's a fixed mathematical expression... no memory, no state",
    "You can loosely think of this as synthetic brain tissue",
)
MIND_MAP = {
    "Parameters": ["수십억 개", "가중치", "DJ 노브"],
    "Transformer": ["Embedding", "Attention", "MLP", "Softmax"],
    "Training": ["무작위 시작", "반복 업데이트", "패턴 학습"],
    "Key Insight": ["수학적 함수", "상태 없음", "기억 없음"],
}
CONCEPTS = [
    ["Concept", "Definition", "Key Numbers", "Analogy"],
    ["Parameters", "조절 가능한 가중치", "수십억~수조 개", "DJ 노브"],
    ["Transformer", "현대 LLM 아키텍처", "85K params (예시)", "정보 흐름 파이프라인"],
    ["Embedding", "토큰의 벡터 표현", "토큰당 하나", "토큰의 분산 표현"],
    ["Attention", "토큰간 관계 학습", "핵심 블록", "어디에 집중할지 결정"],
    ["MLP", "피드포워드 신경망", "정보 처리", "계산 블록"],
]
BRAIN = [
    ["특성", "생물학적 뉴런", "인공 뉴런"],
    ["상태", "동적, 기억 있음", "고정, 상태 없음"],
    ["복잡도", "매우 복잡", "상대적으로 단순"],
    ["연산", "동적 과정", "수학적 표현식"],
]
WAY = ["Input Tokens", "Embedding Layer", "Layer Norm", "Attention Block", "MLP Block", "...", "Logit Softmax"]
TERMS = [
    ["용어", "의미"],
    ["파라미터", "모델 안의 조절 가능한 숫자"],
    ["학습", "파라미터를 좋은 값으로 바꾸는 과정"],
    ["가중치", '좁은 뜻: 곱하는 숫자. "모델 가중치"는 bias까지 전부'],
]


def text(line: Line) -> str:
    """Return the text of a line without footnote marks, with spaces for breaks."""
    text = "".join(" " if span.kind == "break" else span.text for span in line if span.kind != "footnote")
    return " ".join(text.split()).replace(" ,", ",")


def read(name: str, language: str) -> Sheet:
    return source.read(filled_text(name, language), name=name)


def regions(sheet: Sheet) -> dict[str, Region]:
    return {region.name: region for band in sheet.bands for region in band.regions}


def flat(blocks: tuple[Block, ...]) -> Iterator[Block]:
    for block in blocks:
        yield block
        for column in block.columns if isinstance(block, Columns) else ():
            yield from flat(column)


def every(sheet: Sheet, kind: type[Any]) -> list[Any]:
    return [block for region in regions(sheet).values() for block in flat(region.blocks) if isinstance(block, kind)]


def rows(table: Table) -> list[list[str]]:
    return [[text(cell) for cell in row] for row in (table.head, *table.rows)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_internals_quotes_the_lecture_with_notes(language: str) -> None:
    quotes = {text(quote.spans).strip('"“”'): text(quote.note) for quote in every(read("internals", language), Quote)}
    assert set(quotes) == set(QUOTES)
    assert all(quotes.values())


def test_internals_says_what_the_document_asks_for() -> None:
    sheet = read("internals", "ko")
    assert rows(every(sheet, Table)[1]) == CONCEPTS
    assert rows(every(sheet, Table)[2]) == BRAIN
    (mind,) = every(sheet, Mindmap)
    assert text(mind.root) == "Neural Network Internals"
    assert {text(branch.spans): [text(leaf) for leaf in branch.leaves] for branch in mind.branches} == MIND_MAP
    (flow,) = every(sheet, Flow)
    assert [text(node.spans) for node in flow.nodes][:-1] == WAY
    assert text(flow.nodes[-1].spans).startswith("Prediction")
    assert [(edge.start, edge.end) for edge in flow.edges if not edge.back] == [(i, i + 1) for i in range(7)]
    assert len(regions(sheet)["takeaways"].blocks) == 1
    for words in ("수십억 개의 조절 가능한 숫자", "조절해서 다른 예측", "곱셈, 덧셈, 지수화, 나눗셈", "기억/상태 없음"):
        assert words in "\n".join(all_text(sheet))


def all_text(sheet: Sheet) -> Iterator[str]:
    """Of lists and tables."""

    def points(items: tuple[Item, ...]) -> Iterator[str]:
        for item in items:
            yield text(item.spans)
            yield from points(item.items)

    for bullets in every(sheet, Bullets):
        yield from points(bullets.items)
    for table in every(sheet, Table):
        yield from (cell for row in rows(table) for cell in row)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_toy_of_the_lecture_is_called_one_where_it_is_shown(language: str) -> None:
    shown = regions(read("internals", language))
    (models,) = [block for block in flat(shown["parameters"].blocks) if isinstance(block, Table)]
    assert [row[1] for row in rows(models)[1:]] == ["85,584", "1,557,611,200", "174.6B"]
    (concepts,) = [block for block in flat(shown["transformer"].blocks) if isinstance(block, Table)]
    ((mark, note),) = shown["transformer"].footnotes
    assert [span.text for span in concepts.rows[1][2] if span.kind == "footnote"] == [mark]
    assert "85,584" in text(note)
    assert "production" in text(note)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_expression_moves_as_it_is_said_when_its_knob_is_turned(language: str) -> None:
    (row,) = every(read("internals", language), Knobs)
    w = [knob.value for knob in row.knobs]
    assert [text(knob.label) for knob in row.knobs] == [f"w{i} = {value}" for i, value in enumerate(w)]
    assert len(w) == 6  # as in the lecture
    x1, x2 = 1, 2

    def y(w1: float) -> str:
        return f"{w[3] / (1 + math.exp(-(w[0] + w1 * x1 + w[2] * x2))):.2f}"

    point = next(text for text in all_text(read("internals", language)) if "x1 = 1, x2 = 2" in text)
    assert re.findall(r"-?\d\.\d+", point) == [str(w[1]), str(-w[1]), y(w[1]), y(-w[1])]


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_shapes_and_counts_are_the_networks(language: str) -> None:
    with torch.device("meta"):
        network = dict(GPT(recipe("mini_24k").model).named_parameters())
    sheet = read("parameters", language)
    shown = next(table for table in every(sheet, Table) if text(table.head[0]) == "state_dict()")
    for name, shape, count in rows(shown)[1:]:
        parameter = network[name.split()[0]]
        assert shape == str(list(parameter.shape))
        assert count == f"{parameter.numel():,}"
    assert len(shown.rows) == 6

    def total(*parts: str) -> str:
        return f"{sum(p.numel() for name, p in network.items() if any(part in name for part in parts)):,}"

    (tree, _) = every(sheet, Flow)
    counts = [re.findall(r"[\d,]{4,}", text(node.spans)) for node in tree.nodes]
    assert counts == [[total("")], [total("wte", "wpe")], [total("attn.")], [total("mlp.")], [total("ln_")]]
    assert total("") == "19,961,856"
    assert sum(int(count[0].replace(",", "")) for count in counts[1:]) == 19_961_856


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_checkpoint_has_the_material_s_three_parts_and_their_bytes(language: str) -> None:
    """mini_24k is trained with Muon, which keeps one moment of the blocks' matrices; AdamW keeps two of all else."""
    with torch.device("meta"):
        network = dict(GPT(recipe("mini_24k").model).named_parameters())
    n_all = sum(p.numel() for p in network.values())
    n_hidden = sum(p.numel() for name, p in network.items() if name.startswith("blocks.") and p.dim() == 2)
    region = regions(read("parameters", language))["checkpoint"]
    (table,) = [block for block in flat(region.blocks) if isinstance(block, Table)]
    sizes = [row[2] for row in rows(table)[1:]]
    assert text(table.head[2]) == "MB"
    assert sizes == [f"{4 * n_all / 1e6:.0f}", f"{4 * (2 * n_all - n_hidden) / 1e6:.0f}", "0"]


def test_parameters_says_what_the_material_does() -> None:
    sheet = read("parameters", "ko")
    tables = [rows(table) for table in every(sheet, Table)]
    assert TERMS in tables
    cook = next(table for table in tables if "요리사 비유" in table[0][0])
    assert [row[1:] for row in cook] == [
        ["소금", "설탕", "간장"],
        ["[?]g", "[?]g", "[?]ml"],
        ["10g", "5g", "20ml"],
        ["3g", "8g", "15ml"],
    ]
    focus = next(table for table in tables if "채용" in table[0][0])
    weights = {"구글에서": "0.3", "시니어": "0.4", "엔지니어를": "0.2", "채용합니다": "0.1"}
    assert {row[0]: row[1] for row in focus[1:]} == weights
    widths = [re.findall(r"\d+", text(node.spans)) for node in every(sheet, Flow)[1].nodes]
    assert widths == [["384"], ["1536"], ["384"]]
    written = "\n".join(all_text(sheet))
    for words in (
        "요리책 전체",
        "재료를 계량하는 규칙",
        "어떤 재료를 강조할지",
        "재료를 조리하는 과정",
        "옵티마이저 상태",
    ):
        assert words in written
    (code,) = every(sheet, Code)
    assert code.lines[0].startswith("y = W * x + b ")
    assert code.lines[1].startswith("y = 0.5 * 2 + 0.1 = 1.1 ")


@pytest.mark.parametrize("language", LANGUAGES)
def test_parameters_corrects_the_material_where_it_shows_it(language: str) -> None:
    region = regions(read("parameters", language))["weights"]
    notes = [text(note) for _, note in region.footnotes]
    assert "nn.Linear" in notes[0]
    assert "[1152, 384]" in notes[0]
    assert "wte" in notes[1]
    assert any("124,439,808" in text(item.spans) for block in flat(region.blocks) if isinstance(block, Bullets)
               for item in block.items)  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_questions_have_a_cross_or_a_check(language: str) -> None:
    (questions, _) = regions(read("parameters", language))["takeaways"].blocks
    assert isinstance(questions, Table)
    assert [row[1][0].icon for row in questions.rows] == ["cross", "cross", "check"]
