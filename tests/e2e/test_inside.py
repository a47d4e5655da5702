"""Inside in a real browser: what is shown is what PyTorch computes, cells open to their arithmetic, text stays text."""

import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
import torch
from playwright.sync_api import Page, expect
from tests.e2e.conftest import Studio, failure
from torch import Tensor

from nudge.infer import engine
from nudge.infer.engine import LanguageModel
from nudge.studio.tokens import words_of
from nudge.util.formatting import percent, whole

TEXT = "The little dog ran to the edge of the water."
KOREAN = "구글에서 시니어 엔지니어를 채용합니다"
HOSTILE = ("<script>hacked=1</script>", "<img src=x onerror=hacked=1>")


@pytest.fixture(scope="module")
def model(trained: Path) -> LanguageModel:
    return engine.load(trained / "small", device="cpu")


@torch.no_grad()
def pattern(model: LanguageModel, ids: list[int], layer: int, head: int) -> Tensor:
    """[T, T]: the attention of a head, from the weights alone, without the library behind the page."""
    network, T = model.network, len(ids)
    block = network.blocks[layer]
    x = block.ln_1(residual(model, ids, layer))
    q, k, _ = block.attn.c_attn(x).split(network.config.n_embd, dim=1)
    K = network.config.n_embd // network.config.n_head
    scores = q[:, head * K : (head + 1) * K] @ k[:, head * K : (head + 1) * K].t() / math.sqrt(K)
    return scores.masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf).softmax(-1)


@torch.no_grad()
def residual(model: LanguageModel, ids: list[int], layer: int) -> Tensor:
    """[T, C]: the residual stream before a block."""
    network = model.network
    x = network.wte(torch.tensor(ids)) + network.wpe(torch.arange(len(ids)))
    for block in list(network.blocks)[:layer]:
        x = block(x[None])[0]
    return x


def shown_percentages(text: str) -> list[float]:
    return [float(number) / 100 for number in re.findall(r"([0-9.]+)%", text)]


def number(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-").replace(",", ""))


def opened(visitor: Callable[..., Page], studio: Studio, text: str, query: str = "") -> Page:
    page = visitor(f"{studio.url}/inside?run=small&text={quote(text)}{query}")
    expect(page.locator(".lens button").first).to_be_visible(timeout=20_000)  # the last thing that comes
    return page


def test_a_head_is_pytorchs_in_rows_and_cells(
    studio: Studio, visitor: Callable[..., Page], model: LanguageModel
) -> None:
    page = opened(visitor, studio, TEXT)
    ids = model.prompt_ids(TEXT)
    thumb = page.get_by_role("button", name="Block 0, head 1")
    thumb.click()
    expect(thumb).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".head-view h3")).to_have_text("Block 0, head 1")
    expect(page.locator(".folds").first).to_have_class(re.compile("unfolded"))  # and its block in the pipeline
    weights = pattern(model, ids, 0, 1)
    row = 5
    page.locator(".map .beside button").nth(row).hover()
    expected = weights[row].topk(3).values.tolist()
    looks = page.locator(".looks")
    expect(looks).to_contain_text(percent(expected[0]))
    assert shown_percentages(looks.inner_text()) == pytest.approx(expected, rel=0.01)

    place = page.locator(".map .cells").bounding_box()
    assert place is not None
    column, cell = 2, place["width"] / len(ids)
    page.mouse.click(place["x"] + (column + 0.5) * cell, place["y"] + (row + 0.5) * cell)
    index = page.get_by_text(f"blocks.0.attn.scores[1, {row}, {column}]")
    expect(index).to_be_visible()
    share = page.locator(".step").nth(3)
    expect(share).to_have_text(percent(weights[row, column].item()))
    score = number(page.locator(".step").nth(1).inner_text())
    largest = torch.log(weights[row].max() / weights[row, column]).item()  # how far below the largest score
    assert number(page.locator(".step").nth(2).inner_text()) == pytest.approx(math.exp(-largest), rel=0.01)
    assert number(page.locator(".step").nth(0).inner_text()) == pytest.approx(score * math.sqrt(16), rel=0.01)

    page.keyboard.press("ArrowRight")
    expect(page.get_by_text(f"blocks.0.attn.scores[1, {row}, {column + 1}]")).to_be_visible()
    expect(share).to_have_text(percent(weights[row, column + 1].item()))


def test_a_stage_opens_and_a_cell_shows_its_arithmetic(
    studio: Studio, visitor: Callable[..., Page], model: LanguageModel
) -> None:
    page = opened(visitor, studio, TEXT)
    ids = model.prompt_ids(TEXT)
    stream = residual(model, ids, 2)
    last = page.get_by_role("button", name=re.compile("^ln_f"))
    last.focus()
    page.keyboard.press("Enter")
    expect(last).to_have_attribute("aria-expanded", "true")
    expect(page.locator(".panel")).to_contain_text(f"[{len(ids)}, 32]")
    page.locator(".panel .cells").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    expect(page.get_by_text("ln_f[2, 1]")).to_be_visible()
    value = model.network.ln_f(stream)[2, 1].item()
    assert number(page.locator(".panel .value").inner_text()) == pytest.approx(value, rel=1e-3)
    expect(page.locator(".panel .numbers")).to_contain_text("√")  # the formula with its numbers

    page.get_by_role("button", name=re.compile("^MLP")).click()  # of block 1, which is unfolded
    expect(last).to_have_attribute("aria-expanded", "false")
    page.get_by_role("radio", name="pre").click()
    expect(page.get_by_text("Downsampled: 1 of every 2 columns")).to_be_visible()  # 128 units, 96 at most
    page.locator(".panel .cells").focus()
    page.keyboard.press("End")
    expect(page.get_by_text("blocks.1.mlp.pre[0, 126]")).to_be_visible()
    expect(page.locator(".panel .term")).to_have_count(8 + 1 + 1 + 1)  # the largest, the bias, the rest, the sum
    terms = page.locator(".panel .term > :last-child").all_inner_texts()
    assert sum(map(number, terms[:-1])) == pytest.approx(number(terms[-1]), abs=0.01)
    low, high = page.locator(".panel .facts dd").nth(2).inner_text().split(" to ")
    block = model.network.blocks[1]
    x = residual(model, ids, 1)
    units = block.mlp.c_fc(block.ln_2(x + block.attn(block.ln_1(x)[None], None, None)[0]))
    assert [number(low), number(high)] == pytest.approx([units.min().item(), units.max().item()], rel=0.01)


def test_the_last_row_of_the_lens_is_the_prediction(
    studio: Studio, visitor: Callable[..., Page], model: LanguageModel
) -> None:
    page = opened(visitor, studio, TEXT)
    ids = model.prompt_ids(TEXT)
    with torch.no_grad():
        logits = model.network(torch.tensor([ids]))[0]
    n = min(8, len(ids))
    cells = page.locator(".lens button")
    expect(cells).to_have_count(3 * n)
    for at in range(n):
        top = logits[len(ids) - n + at].softmax(-1).max().item()
        expect(cells.nth(2 * n + at)).to_have_attribute("title", percent(top))
    cells.nth(2 * n).click()
    position = len(ids) - n
    rank = 1 + int((logits[position] > logits[position][ids[position + 1]]).sum())
    expect(page.locator(".lens-detail")).to_contain_text(f"at rank {whole(rank)} of {len(logits[0])}")
    expected = logits[position].softmax(-1).topk(5).values.tolist()
    assert shown_percentages(page.locator(".lens-detail").inner_text()) == pytest.approx(expected, rel=0.02)


def test_the_korean_sentence_folds_to_whole_words(
    studio: Studio, visitor: Callable[..., Page], model: LanguageModel
) -> None:
    page = opened(visitor, studio, TEXT, "&step=60")
    page.get_by_role("button", name="구글에서").click()
    expect(page.get_by_role("textbox", name="Text")).to_have_value(KOREAN)
    page.get_by_role("button", name="Block 1, head 1").click()
    expect(page.locator(".head-view h3")).to_contain_text("Block 1, head 1")
    page.get_by_role("radio", name="Words").click()
    labels = page.locator(".map .beside button")
    expect(labels).to_have_text([re.compile("end of text"), "구글에서", "·시니어", "·엔지니어를", "·채용합니다"])
    expect(page.locator(".looks")).to_contain_text("“·채용합니다” looks at")  # the last word's row comes by itself
    ids = model.prompt_ids(KOREAN)
    words = words_of(model.tokenizer, ids)
    weights = pattern(model, ids, 1, 1)
    row = weights[words[3].first : words[3].after].mean(0)
    shares = [row[word.first : word.after].sum().item() for word in words]
    expected = sorted(shares, reverse=True)[:3]
    labels.nth(3).focus()
    looks = page.locator(".looks")
    expect(looks).to_contain_text("“·엔지니어를” looks at")
    assert shown_percentages(looks.inner_text()) == pytest.approx(expected, rel=0.01)
    labels.nth(3).click()
    expect(page.get_by_text(f"fold(blocks.1.attn.pattern)[1, 3, {shares.index(expected[0])}]")).to_be_visible()
    assert number(page.locator(".made .value").last.inner_text()) == pytest.approx(expected[0], rel=1e-3)


def test_another_checkpoint_shows_the_same_text(studio: Studio, visitor: Callable[..., Page], trained: Path) -> None:
    page = opened(visitor, studio, TEXT)
    page.get_by_role("button", name="Block 1, head 0").click()
    page.get_by_role("slider", name="Checkpoint").locator("[tabindex]").focus()
    steps = sorted(int(path.stem[-8:]) for path in (trained / "small" / "checkpoints").glob("*.pt"))
    for _ in steps[1:]:
        page.keyboard.press("ArrowLeft")
    expect(page.locator(".runchip")).to_contain_text(f"step {steps[0]}")
    expect(page).to_have_url(re.compile(f"step={steps[0]}"))
    expect(page.get_by_role("textbox", name="Text")).to_have_value(TEXT)
    then = engine.load(trained / "small" / "checkpoints" / f"step_{steps[0]:08d}.pt", device="cpu")
    ids = then.prompt_ids(TEXT)
    page.locator(".map .beside button").nth(4).hover()
    expected = pattern(then, ids, 1, 0)[4].topk(3).values.tolist()
    expect(page.locator(".looks")).to_contain_text(percent(expected[0]))
    assert shown_percentages(page.locator(".looks").inner_text()) == pytest.approx(expected, rel=0.01)


def test_hostile_text_stays_text_and_too_much_is_noted(studio: Studio, visitor: Callable[..., Page]) -> None:
    page = opened(visitor, studio, TEXT, "&step=60")
    page.get_by_role("radio", name="Words").click()
    for text in HOSTILE:
        page.get_by_role("textbox", name="Text").fill(text)
        expect(page.locator(".map .beside")).to_contain_text(text.split()[-1].split("/")[0])
        page.locator(".map .beside button").last.click()
        expect(page.locator(".looks")).to_contain_text("hacked=1")
    page.get_by_role("textbox", name="Text").fill(4 * TEXT)
    expect(page.get_by_text(re.compile("only the last ones are read"))).to_be_visible()
    page.locator(".lens button").last.click()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src='x']").count() == 0
    assert page.locator("main script").count() == 0


def test_a_network_without_a_start_of_documents(
    studio: Studio, add_run: Callable[[Path], Path], visitor: Callable[..., Page], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "nudge", "train", "--recipe", "llm_viz", "--steps", "1"]
    command += ["--run", str(tmp_path / "sorter")]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=300)
    run = add_run(tmp_path / "sorter").name
    page = visitor(f"{studio.url}/inside?run={run}&text=")
    expect(failure(page, "config.prompt_needed")).to_be_visible()
    expect(page.locator(".grid.inside")).to_be_hidden()  # there is nothing to show yet
    page.get_by_role("textbox").fill("C")  # one token
    expect(page.locator(".message.bad")).to_have_count(0)
    expect(page.locator(".lens button")).to_have_count(4)

    page = visitor(f"{studio.url}/inside?run={run}", locale="ko-KR", color_scheme="dark")
    expect(page.locator(".lens button").first).to_be_visible(timeout=20_000)
    expect(page.locator(".thumb")).to_have_count(9)
    expect(page.get_by_role("button", name="구글에서")).to_have_count(0)  # letters that are not in its vocabulary
    page.get_by_role("textbox").fill("")
    expect(failure(page, "config.prompt_needed")).to_be_visible()
    page.get_by_role("textbox").fill("CAB")
    expect(page.locator(".message.bad")).to_have_count(0)
    expect(page.locator(".at-first .sh")).to_have_text("[3]")
    page.get_by_role("textbox").fill("구")
    expect(failure(page, "tokenizer.unknown_character")).to_be_visible()
