"""The Play page: the same text as the command's, with the probabilities of PyTorch."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from playwright.sync_api import Locator, Page, expect
from tests.e2e.conftest import Studio, failure

from nudge.infer import engine

WRITTEN = "() => [...document.querySelectorAll('.play-tokens .tk:not(.special)')].map(e => e.textContent).join('')"
SETTINGS = {"Temperature": "0.7", "Top-k": "40", "Top-p": "0.95", "Seed": "3", "Maximum tokens": "60"}


@pytest.fixture
def alphabets(common: Path, add_run: Callable[[Path], Path]) -> dict[str, Path]:
    """A model that writes Korean byte by byte, and one that knows few characters: trained once, in the studio."""
    folder = common / "alphabets"
    with FileLock(common / "alphabets.lock"):
        if not (folder / "done").exists():
            folder.mkdir(exist_ok=True)
            _train_alphabets(folder)
            (folder / "done").touch()
    return {name: add_run(folder / "runs" / name) for name in ("bytes", "chars")}


def _train_alphabets(folder: Path) -> None:
    text = folder / "text.txt"
    text.write_text("구글에서 시니어 엔지니어를 채용합니다.\n" * 3000, encoding="utf-8")
    for name, steps in (("bytes", "100"), ("chars", "1")):
        sizes = ("n_layer=2", "n_head=2", "n_embd=32", "block_size=64")
        settings = [part for size in sizes for part in ("--set", f"model.{size}")]
        command = [sys.executable, "-m", "nudge", "train", "--data", str(text), "--tokenizer", name, "--steps", steps]
        command += ["--set", "train.lr=5e-3", *settings, "--run", str(folder / "runs" / name)]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=300)


def write(page: Page, prompt: str, **settings: str) -> None:
    page.get_by_label("Prompt").fill(prompt)
    for label, value in settings.items():
        page.get_by_label(label).fill(value)
    page.get_by_role("button", name="Write", exact=True).click()


def status(page: Page) -> Locator:
    return page.locator("dt:has-text('Status') + dd")


def by_command(run: Path, prompt: str, settings: dict[str, str]) -> str:
    options = {
        f"--{name.lower().replace('maximum', 'max').replace(' ', '-')}": value for name, value in settings.items()
    }
    command = [sys.executable, "-m", "nudge", "sample", str(run), "--prompt", prompt, "--dtype=float32", "--json"]
    command += [part for option in options.items() for part in option]
    output = subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=120).stdout
    text: str = json.loads(output)["text"]
    return text


def comparable(text: str) -> str:
    """The command writes U+FFFD for bytes that are not a character; the page shows the bytes."""
    return re.sub("(<[0-9A-F]{2}>|\ufffd)+", "\ufffd", text).rstrip("\ufffd")


def test_the_text_of_the_command_with_the_probabilities_of_torch(studio: Studio, visitor: Callable[..., Page]) -> None:
    page, prompt = visitor(f"{studio.url}/play?run=small"), "The little dog"
    write(page, prompt, **SETTINGS)
    expect(status(page)).to_contain_text(re.compile("maximum of 60 tokens|end of text"))
    assert comparable(page.evaluate(WRITTEN)) == comparable(by_command(studio.runs / "small", prompt, SETTINGS))
    expect(page.locator(".play-prompt")).to_have_text(prompt)
    expect(page.locator("dt:has-text('Speed') + dd")).to_have_text(re.compile(r"^[\d,.]+ tokens/s$"))

    model = engine.load(studio.runs / "small")
    ids = model.prompt_ids(prompt)
    tokens = page.locator(".play-tokens .tk")
    for at in range(5):  # the mouse goes over the first tokens
        tokens.nth(at).hover()
        expect(tokens.nth(at)).to_have_attribute("aria-selected", "true")
        chip = page.locator(".play-token .chip .i")
        expect(page.locator("dt:has-text('Probability by the network') + dd")).to_be_visible()
        token = int(chip.inner_text().removeprefix("id "))
        with torch.no_grad():
            expected = model.network(torch.tensor([ids]))[0, -1].softmax(-1)
        shown = page.locator("dt:has-text('Probability by the network') + dd").get_attribute("title")
        assert float(shown or "nan") == pytest.approx(expected[token].item(), rel=1e-3)
        rank = 1 + int((expected > expected[token]).sum())
        expect(page.locator("dt:has-text('Rank') + dd")).to_have_text(f"{rank} of {len(expected)}")
        expect(page.locator(".play-alt.sel .r")).to_have_text(str(rank))
        ids.append(token)

    page.locator(".play-tokens").focus()  # and the keyboard goes the same way
    page.keyboard.press("Home")
    expect(tokens.nth(0)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowRight")
    expect(tokens.nth(1)).to_have_attribute("aria-selected", "true")
    expect(tokens.nth(0)).not_to_have_attribute("aria-selected", "true")
    page.get_by_role("radio", name="Plain").click()
    expect(page.locator(".play-legend")).to_be_hidden()


def test_stop_works_at_once_and_another_seed_writes_another_text(studio: Studio, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{studio.url}/play?run=small")
    page.evaluate(  # as soon as there is something, quicker than a hand
        """() => new MutationObserver((_, watch) => {
            const stop = [...document.querySelectorAll("button")].find(e => e.textContent.includes("Stop"));
            if (document.querySelector(".tk") && !stop.disabled) { watch.disconnect(); stop.click(); }
        }).observe(document.body, {childList: true, subtree: true, attributes: true})"""
    )
    write(page, "", **{"Maximum tokens": "1000"})
    expect(status(page)).to_contain_text("stopped after")
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    first = page.evaluate(WRITTEN)
    assert first
    assert page.locator(".tk").count() < 1000
    page.get_by_label("Maximum tokens").fill("20")
    page.get_by_role("button", name="Another seed").click()
    expect(status(page)).to_contain_text(re.compile("maximum of 20|end of text"))
    expect(page.get_by_label("Seed", exact=True)).to_have_value("1")
    assert not first.startswith(page.evaluate(WRITTEN))


def test_hostile_and_impossible_prompts(
    studio: Studio, alphabets: dict[str, Path], visitor: Callable[..., Page]
) -> None:
    page, hostile = visitor(f"{studio.url}/play?run=small"), "<img src=x onerror=alert(1)>"
    write(page, hostile, **{"Maximum tokens": "5"})
    expect(status(page)).to_contain_text(re.compile("maximum of 5|end of text"))
    expect(page.locator(".play-prompt")).to_have_text(hostile)
    expect(page.locator(".play-text img")).to_have_count(0)
    write(page, "too long " * 100)
    expect(failure(page, "config.prompt_too_long")).to_contain_text("32")
    write(page, "<b>", **{"Maximum tokens": "1001"})
    expect(failure(page, "config.too_many_tokens")).to_be_visible()
    write(page, "<b>", **{"Maximum tokens": "5", "Seed": "-1"})
    expect(failure(page, "config.not_whole")).to_contain_text("Seed")
    page.get_by_label("Seed", exact=True).fill("0")
    write(page, "<b>", **{"Top-p": "7"})
    expect(failure(page, "config.out_of_range")).to_contain_text("top_p")
    write(page, "<b>", **{"Top-p": "0.9"})
    expect(status(page)).to_contain_text(re.compile("maximum of 5|end of text"))
    expect(page.locator(".message.bad")).to_have_count(0)

    page.goto(f"{studio.url}/play?run={alphabets['chars'].name}")
    write(page, "구글 Q")
    expect(failure(page, "tokenizer.unknown_character")).to_contain_text("Q")


def test_a_syllable_of_several_tokens_is_whole(
    studio: Studio, alphabets: dict[str, Path], visitor: Callable[..., Page]
) -> None:
    run, settings = alphabets["bytes"], {"Temperature": "0.2", "Maximum tokens": "120"}
    page = visitor(f"{studio.url}/play?run={run.name}")
    write(page, "구글에서", **settings)
    expect(status(page)).to_contain_text("maximum of 120")
    assert "\ufffd" not in page.locator(".play-text").inner_text()
    assert comparable(page.evaluate(WRITTEN)) == comparable(by_command(run, "구글에서", settings | {"Seed": "0"}))
    syllable = page.locator(".tk").filter(has_text=re.compile("^[가-힣]$")).first
    syllable.click()
    letter = syllable.inner_text()
    expect(page.locator(".play-token")).to_contain_text(f"{letter} was written as 3 tokens.")
    overview = page.locator(".play-token dl").first.locator("dd")
    one, two, three, together = (float(overview.nth(at).get_attribute("title") or "nan") for at in range(4))
    assert one * two * three == pytest.approx(together, rel=1e-4)
    page.get_by_role("radio", name=f"{letter} 3 of 3").click()
    expect(page.locator(".play-token .chip .y")).to_have_text(f"{letter.encode()[2]:02X}")
    expect(page.locator("dt:has-text('Probability by the network') + dd")).to_have_attribute("title", f"{three:.6g}")
