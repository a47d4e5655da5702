"""Korean texts have one word for each thing, and no particle with its other form in parentheses."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "nudge"
TEXTS = [
    *ROOT.glob("*.ko.md"),
    *ROOT.glob("docs/**/*.ko.md"),
    *SOURCE.glob("sheet/lecture/*.ko.md"),
    *SOURCE.glob("studio/words/*ko.toml"),
]
OTHER_WORDS = {
    "매개변수": "파라미터",
    "최적화기": "옵티마이저",
    "갱신": "업데이트, and 스텝 for its number",
    "훈련": "학습",
    "그래디언트": "기울기",
    "나무로": "트리로",
    "추가 기능": "선택 설치 항목(extra)",
}
TITLE = "훈련과 추론"  # the lecture's own
TWO_FORMS = re.compile(r"\(으\)|\(이\)|은\(는\)|는\(은\)|이\(가\)|가\(이\)|을\(를\)|를\(을\)|과\(와\)|와\(과\)")


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_korean_texts_have_one_word_for_each_thing(path: Path):
    text = path.read_text(encoding="utf-8").replace(TITLE, "")
    assert {word: instead for word, instead in OTHER_WORDS.items() if word in text} == {}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_particle_is_left_to_the_reader(path: Path):
    assert TWO_FORMS.findall(path.read_text(encoding="utf-8")) == []


def test_the_texts_are_found():
    assert len(TEXTS) >= 7
