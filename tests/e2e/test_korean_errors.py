"""Errors in the Korean studio: each is Korean in its message and in its hint, on every page that shows one."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.e2e.conftest import Studio, failure
from tests.e2e.test_play import alphabets  # noqa: F401 (a fixture)
from tests.e2e.test_sheet_page import DRAWN_MS, shown, write

from nudge.studio.words import texts

KO = texts("ko")


@pytest.fixture
def korean(visitor: Callable[..., Page]) -> Callable[[str], Page]:
    """Opens a page as a Korean user."""
    return functools.partial(visitor, locale="ko-KR")


def fill(page: Page, label: str, value: str) -> None:
    page.get_by_label(KO[label], exact=True).fill(value)


def says(error: Locator, message: str, hint: str) -> None:
    expect(error.locator(".m")).to_have_text(message, timeout=60_000)
    expect(error.locator(".ink2").first).to_have_text(hint)


def test_on_play(studio: Studio, korean: Callable[[str], Page]) -> None:
    page = korean(f"{studio.url}/play?run=small")
    fill(page, "play.prompt", "The little dog " * 50)
    page.get_by_role("button", name=KO["play.write"], exact=True).click()
    error = failure(page, "config.prompt_too_long")
    expect(error.locator(".m")).to_contain_text("토큰인데, 이 모델의 문맥 길이는 32토큰입니다")
    expect(error.locator(".ink2")).to_have_text("프롬프트를 줄이세요. 모델은 끝부분만 보게 됩니다")
    fill(page, "play.prompt", "The")
    fill(page, "play.seed", "-1")
    page.get_by_role("button", name=KO["play.write"], exact=True).click()
    expect(failure(page, "config.not_whole").locator(".m")).to_have_text("시드: 0 이상의 정수여야 합니다. 입력값: -1")


def test_an_unknown_character(
    studio: Studio,
    alphabets: dict[str, Path],  # noqa: F811
    korean: Callable[[str], Page],
) -> None:
    page = korean(f"{studio.url}/play?run={alphabets['chars'].name}")
    fill(page, "play.prompt", "구글에서 Quiz")
    page.get_by_role("button", name=KO["play.write"], exact=True).click()
    error = failure(page, "tokenizer.unknown_character")
    expect(error.locator(".m")).to_contain_text("없는 글자입니다: 'Q' (U+0051)")
    expect(error.locator(".ink2")).to_contain_text("bytes, gpt2, bpe-N은 모든 글자를 압니다")


def test_in_the_form_of_a_run(empty_studio: Studio, korean: Callable[[str], Page], tmp_path: Path) -> None:
    page = korean(f"{empty_studio.url}/train")
    page.locator("input[name=lr]").fill("-1")
    says(
        failure(page, "config.out_of_range"),
        "train.lr 값이 범위를 벗어났습니다: -1.0 (조건: 0 이상)",
        "docs/configuration.md에 모든 설정과 기본값이 있습니다",
    )
    page.locator("input[name=lr]").fill("0.001")
    page.locator("input[name=steps]").fill("many")
    error = failure(page, "config.wrong_type")
    expect(error.locator(".m")).to_have_text(
        "'train.steps' 값의 타입이 맞지 않습니다: 'many' (조건: 64비트 이하의 정수)"
    )
    page.locator("input[name=steps]").fill("100")
    (tmp_path / "reviews.txt").write_text("a", encoding="utf-8")
    page.locator("input[name=data]").fill(str(tmp_path / "review.txt"))
    says(
        failure(page, "data.missing"),
        f"찾을 수 없습니다: {tmp_path / 'review.txt'}",
        "혹시 이것인가요? 'reviews.txt'",
    )


def test_of_a_run_that_did_not_begin(empty_studio: Studio, korean: Callable[[str], Page], tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("too short", encoding="utf-8")
    page = korean(f"{empty_studio.url}/train")
    page.locator("input[name=data]").fill(str(tmp_path / "short.txt"))
    page.locator("input[name=name]").fill("short")
    page.get_by_role("button", name=KO["train.start"], exact=True).click()
    error = page.locator(".preparing .message[data-code='data.too_short']")
    expect(error.locator(".m")).to_contain_text("텍스트가 너무 짧습니다. 학습 부분은 3토큰인데", timeout=120_000)
    expect(error.locator(".ink2")).to_contain_text("텍스트를 더 추가하거나 문맥 길이를 줄이세요")
    page.get_by_role("link", name="EN", exact=True).click()  # the process has told no language
    expect(error.locator(".m")).to_contain_text("one window needs")


def test_in_the_text_of_a_sheet(studio: Studio, korean: Callable[[str], Page]) -> None:
    page = korean(f"{studio.url}/sheet?what=io&lang=en")
    shown(page, "/sheets/io.en.png")
    page.get_by_role("button", name=KO["sheet.change"]).click()
    write(page, "\ncorner: My own notes", after="title:")
    error = failure(page, "sheet.repeated_key")
    expect(error.locator(".m")).to_contain_text("번째 줄: 머리말: 'corner' 키가 두 번 나옵니다", timeout=DRAWN_MS)
    expect(error.locator(".ink2").first).to_have_text("하나만 남기세요")


def test_of_a_plan_and_an_unknown_run(studio: Studio, korean: Callable[[str], Page]) -> None:
    page = korean(f"{studio.url}/predict?run=nope")
    expect(failure(page, "run.unknown").locator(".m")).to_contain_text("폴더에 없는 실행입니다: 'nope'")
    page = korean(f"{studio.url}/plan?gpu=h1000")
    expect(failure(page, "config.unknown_gpu").locator(".ink2")).to_contain_text("혹시 이것인가요? 'h100'")
