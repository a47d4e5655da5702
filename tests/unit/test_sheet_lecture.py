"""The lecture's sheets say what its notes say, with this program's numbers, alike in both languages."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from nudge.data import tokenizer
from nudge.sheet import lecture, page
from nudge.sheet.catalog import LECTURE
from nudge.sheet.page import LANGUAGES
from nudge.sheet.source import read

BOTH = [(name, language) for name in LECTURE for language in LANGUAGES]

# What the notes of a chapter say, word by word, and (second) what has to stand beside it because the notes are loose.
SAID = {
    "gpt2": (
        "NANO BANANA CHEAT SHEET",
        "GPT-2: Training & Inference",
        "Deep Dive into LLMs - Chapter 7/24 by Andrej Karpathy",
        "GPT-2 vs Modern LLMs",
        *("Parameters", "1.6B", "100B-1T", "60-600x"),
        *("Context Length", "1,024 tokens", "100K-1M tokens", "100-1000x"),
        *("Training Tokens", "100B", "15T+ (FineWeb)", "150x"),
        *("Training Cost", "~$40,000"),
        "Training Cost Evolution",
        *("2019", "2024", "~$600", "8x H100", "~$100", "Could really bring it down", "llm.c (GitHub)"),
        "Training Pipeline & Loss Monitoring",
        *("Tokenization", "Training Loop", "32K steps", "Loss ↓", "Inference", "For each step (32K total)"),
        *("Step 1-20 (0%)", "Step 420 (1%)", "Step 32,000 (100%)"),
        *("Random text from random network", "Not yet very coherent", "local patterns", "Fairly coherent English"),
        "GPU Infrastructure",
        *("1 GPU (H100)", "8 GPUs = 1 Node", "Multi-Node Cluster", "Data Center (100K+ GPUs)"),
        *("Lambda: $3/GPU/hour", "Elon Musk", "100,000 GPUs", "next token prediction", "NVIDIA", "$3.4T"),
        "Key Numbers",
        *("1.6B params", "1,024 context", "100B tokens", "32K steps", "33B total tokens", "$3 / GPU / hour"),
        "GPT-2 was the first time that a recognizably modern stack came together... all of the pieces are recognizable "
        "today, it's just everything has gotten bigger",
        "The loss is the number that you are watching... you're twiddling your thumbs, drinking coffee",
        "and making sure that this looks good",
        "This is the Gold Rush - getting the GPUs, getting enough of them so they can all collaborate to predict the "
        "next token",
        "Takeaways",
    ),
    "io": (
        "NANO BANANA CHEAT SHEET",
        "NEURAL NETWORK I/O",
        "INPUT SPECIFICATION",
        *("Property", "Value", "Notes", "Type", "Token Sequence", "Integer IDs", "Min Length", "Zero context"),
        *("Max Length", "~8,000", "Format", "List of integers", "[3962, 2819, ...]"),
        "OUTPUT SPECIFICATION",
        *("Probability Distribution", "Size", "100,277", "Vocabulary size", "Range", "0-1", "Sum", "1.0"),
        "NEURAL NETWORK I/O FLOW",
        *("Context Window", "Neural Network", "Next Token Prediction"),
        *("Statistical Modeling", "100K+ Tokens", "Loss Calculation", "Parameter Update"),
        *("Concept", "Definition", "Example", "Key Numbers", "Vocabulary Size", "Training Update"),
        *("4~8,000 tokens", "max 8,000", "15T tokens"),
        *(" Post", " Direction", " Case", "3962", "19438", "11799"),
        "TRAINING LOOP",
        *("1. ", "2. ", "3. ", "4. ", "5. ", "6. ", "7. "),
        "KEY INSIGHT",
        "tokens are like atoms of these sequences",
        "we want to model the statistical relationships",
        "nudging the neural network",
        "KEY TAKEAWAYS",
    ),
}
SAID_IN_KOREAN = {
    "gpt2": (
        *("훈련과 추론", "배율", "수천만-수억 달러", "당시 GPU", "추정치", "llm.c 재현, 1일", "최적화"),
        *("비용 감소 원인", "데이터셋 품질", "필터링, 추출, 전처리", "하드웨어 성능", "소프트웨어 최적화", "재현 가능"),
        *(
            "인터넷 데이터",
            "전처리",
            "필터링",
            "토큰화",
            "파라미터 초기화",
            "감소 확인",
            "매 20 step",
            "학습 완료된 모델",
        ),
        *("1M 토큰 샘플링", "Next token 예측", "Loss 계산", "파라미터 업데이트", "~7초 소요", "학습 진행 시각화"),
        *("완전 랜덤", "무의미", "약간의 로컬 일관성", "상당히 일관된 영어", "신경망 성능 측정 지표", "낮을수록 좋음"),
        *("7초 / step", "NVIDIA 시총", "GPU 골드러시"),
        "GPT-2는 현대적 스택이 처음으로 완성된 모델... 모든 구성요소가 오늘날에도 그대로, 단지 모두 커졌을 뿐",
        "Loss는 연구자가 지켜보는 숫자... 손가락 빙빙 돌리며, 커피 마시며, 잘 되고 있는지 확인",
        "이것이 골드러시다 - GPU를 확보하고, 충분히 모아서 모두 협력해 다음 토큰을 예측",
        *("GPT-2 = 현대 LLM의 원형", "Loss 감소 = 학습 성공", "$100로 재현 가능한 시대", "400배"),
        *("GPU = AI의 핵심 인프라", "llm.c로 직접 체험"),
    ),
    "io": (
        *("가변", "고정", "토큰은 시퀀스의 원자와 같음", "토큰 간 통계적 관계 모델링", "신경망을 살짝 조정하는 개념"),
        "신경망에 입력되는 토큰 시퀀스",
        *("입력: 가변 길이 토큰 시퀀스 (0 ~ max context)", "출력: 고정 크기 확률 분포 (어휘 크기)"),
        *("학습: 정답 토큰의 확률을 높이는 방향으로 업데이트", "병렬 처리: 여러 Window를 동시에"),
    ),
}
SET_RIGHT = {
    "gpt2": (
        "1,557,611,200",
        "33.55B",
        "67x",
        "400x",
        "$73",
        "2.54",
        "RoPE",
        "$576",
        "1.3%",
        "62",
        "2.7",
        "32 x TPU v3",
        "ln 50,257",
    ),
    "io": ("cl100k", "50,257", "<|endoftext|>", '91 "|"', '860 "View"', '287 "ing"', '11579 " Single"'),
}


def words(value: Any) -> str:
    """All text below a part of a sheet; regions and table cells are apart by a space, a line's spans are not."""
    if isinstance(value, page.Span):
        return " " if value.kind == "break" else "" if value.kind == "footnote" else value.text
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        spans = all(isinstance(one, page.Span) for one in value)
        return ("" if spans else " ").join(words(one) for one in value)
    if hasattr(value, "__dataclass_fields__"):
        return " ".join(words(getattr(value, name)) for name in value.__dataclass_fields__)
    return ""


def text_of(name: str, language: str) -> str:
    return re.sub(r"\s+", " ", words(read(lecture.filled_text(name, language))))


def shape(block: page.Block) -> object:
    """What two languages have in common: kinds and counts, no words."""
    match block:
        case page.Table(head=head, rows=rows, align=align):
            return "table", len(head), len(rows), align
        case page.Bullets(items=items, numbered=numbered, keys=keys):
            return "bullets", numbered, keys, [(item.ticked, len(item.items)) for item in items]
        case page.Flow(direction=direction, nodes=nodes, edges=edges):
            boxes = [(node.shape, node.color, node.rank, node.order) for node in nodes]
            return "flow", direction, boxes, [(edge.start, edge.end, edge.style, edge.back) for edge in edges]
        case page.Mindmap(branches=branches):
            return "mindmap", [len(branch.leaves) for branch in branches]
        case page.Sequence(actors=actors, messages=messages):
            return "sequence", len(actors), [(one.kind, one.start, one.end, one.dashed) for one in messages]
        case page.Chart(curves=curves, marks=marks):
            return "chart", [curve.points for curve in curves], [(mark.x, mark.y) for mark in marks]
        case page.Knobs(knobs=knobs):
            return "knobs", [(knob.value, knob.color) for knob in knobs]
        case page.Quote(note=note):
            return "quote", bool(note)
        case page.Columns(columns=columns):
            return "columns", [[shape(one) for one in column] for column in columns]
        case _:
            return type(block).__name__


@pytest.mark.parametrize(("name", "language"), BOTH)
def test_a_sheet_is_read_and_says_what_the_notes_say(name: str, language: str) -> None:
    text = text_of(name, language)
    wanted = [
        *SAID.get(name, ()),
        *SET_RIGHT.get(name, ()),
        *(SAID_IN_KOREAN.get(name, ()) if language == "ko" else ()),
    ]
    missing = [phrase for phrase in wanted if re.sub(r"\s+", " ", phrase) not in text]
    assert not missing


@pytest.mark.parametrize("name", LECTURE)
def test_both_languages_have_the_same_page(name: str) -> None:
    korean, english = (read(lecture.filled_text(name, language)) for language in ("ko", "en"))
    assert (korean.language, english.language) == ("ko", "en")
    assert (korean.paper, korean.over) == (english.paper, english.over)
    assert [color for color, _ in korean.legend] == [color for color, _ in english.legend]
    for ours, theirs in zip(korean.bands, english.bands, strict=True):
        assert (ours.percent, ours.is_title) == (theirs.percent, theirs.is_title)
        for one, other in zip(ours.regions, theirs.regions, strict=True):
            assert (one.name, one.color, one.strong, one.width) == (
                other.name,
                other.color,
                other.strong,
                other.width,
            )
            assert [mark for mark, _ in one.footnotes] == [mark for mark, _ in other.footnotes], one.name
            assert [shape(block) for block in one.blocks] == [shape(block) for block in other.blocks], one.name


@pytest.mark.parametrize(
    ("name", "paper", "bands"),
    [
        ("gpt2", "a4", [(10, ""), (25, "compare cost"), (40, "pipeline"), (25, "gpu numbers takeaways")]),
        (
            "internals",
            "a4-landscape",
            [(10, ""), (20, "parameters knobs"), (45, "transformer"), (25, "math brain takeaways")],
        ),
        ("io", "a4", [(10, ""), (25, "in out"), (40, "flow"), (25, "loop insight takeaways")]),
        ("parameters", "a4", [(10, ""), (25, "what words"), (40, "weights"), (25, "inside checkpoint takeaways")]),
    ],
)
def test_the_layout_is_the_notes(name: str, paper: str, bands: list[tuple[float, str]]) -> None:
    sheet = read(lecture.filled_text(name, "ko"))
    assert sheet.paper == paper
    assert [(band.percent, " ".join(one.name for one in band.regions)) for band in sheet.bands] == bands
    assert sheet.bands[0].is_title
    (strong,) = [one.name for band in sheet.bands for one in band.regions if one.strong]
    assert strong == bands[2][1], "the widest"


def test_an_english_sheet_has_no_korean() -> None:
    for name in LECTURE:
        assert not re.search("[가-힣]", lecture.filled_text(name, "en")), name


def test_placeholders_and_numbers_are_the_same_set() -> None:
    used = {found for name, language in BOTH for found in lecture.PLACEHOLDER.findall(lecture.template(name, language))}
    assert used == set(lecture.numbers())


@pytest.mark.parametrize(("name", "language"), BOTH)
def test_no_placeholder_and_no_private_path_is_left(name: str, language: str) -> None:
    text = lecture.filled_text(name, language)
    assert "{{" not in text
    assert not re.search(r"/Users/|/home/|[A-Z]:\\|file://|\.obsidian", text)


@pytest.mark.parametrize("name", LECTURE)
def test_both_languages_have_the_same_numbers(name: str) -> None:
    ours, theirs = (set(lecture.PLACEHOLDER.findall(lecture.template(name, language))) for language in ("ko", "en"))
    assert ours == theirs


def test_numbers_recomputed() -> None:
    """Other ways to the same figures: from the architecture, and by the arithmetic of the notes."""
    numbers = lecture.numbers()
    L, C, T, V = 48, 1600, 1024, 50_257
    block = 2 * 2 * C + (C + 1) * 3 * C + (C + 1) * C + (C + 1) * 4 * C + (4 * C + 1) * C
    assert numbers["xl_parameters"] == f"{L * block + (V + T) * C + 2 * C:,}" == "1,557,611,200"
    assert numbers["run_tokens"] == f"{32_000 * 2**20 / 1e9:.2f}B" == "33.55B"
    assert numbers["hours_by_7_s"] == str(round(32_000 * 7 / 60 / 60)) == "62"
    assert numbers["step_s_of_a_day"] == str(24 * 60 * 60 / 32_000) == "2.7"
    assert numbers["share_of_step_420"] == f"{100 * 420 / 32_000:.1f}%" == "1.3%"
    assert numbers["usd_of_the_day"] == f"${8 * 24 * 3}" == "$576"
    assert numbers["times_cheaper"] == f"{40_000 / 600:.0f}x" == "67x"
    assert numbers["times_hoped"] == f"{40_000 // 100}x"
    assert math.exp(float(numbers["random_loss"])) == pytest.approx(V, rel=0.05)


def test_the_ids_of_the_example(shared_data: Path) -> None:
    cl100k = tokenizer.get(str(shared_data / "cl100k_base.tiktoken"))
    assert cl100k.encode("|Viewing Single Post") == [91, 860, 287, 11579, 3962]
    assert [cl100k.decode([token]) for token in (11799, 19438)] == [" Case", " Direction"]
    assert lecture.numbers()["cl100k_vocabulary"] == f"{cl100k.vocab_size:,}"
