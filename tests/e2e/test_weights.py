"""Weights in a real browser: the file's own numbers, and files that are not what they should be."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Page, expect
from tests.e2e.conftest import Studio

from nudge import checkpoint
from nudge.infer import engine
from nudge.studio.numbers import count, fixed, significant, whole


def test_counts_statistics_neighbours_and_difference(
    shared_studio: Studio, visitor: Callable[..., Page], trained: Path
) -> None:
    page = visitor(f"{shared_studio.url}/weights?run=small")
    model = engine.load(trained / "small", device="cpu")
    parameters = dict(model.network.named_parameters())
    total = sum(p.numel() for p in parameters.values())
    expect(page.get_by_text(f"{whole(total)} numbers in {len(parameters)} tensors")).to_be_visible()

    block = page.get_by_role("treeitem", name="blocks.1")
    expect(block.locator(".count")).to_have_text(
        count(sum(p.numel() for name, p in parameters.items() if name.startswith("blocks.1.")))
    )
    block.focus()
    page.keyboard.press("Enter")
    expect(block).to_have_attribute("aria-expanded", "true")
    page.get_by_role("treeitem", name="MLP").last.click()
    page.get_by_role("treeitem", name="mlp.c_fc.weight").last.click()
    chosen = parameters["blocks.1.mlp.c_fc.weight"].detach().double()
    card = page.locator(".parameter")
    expect(card.locator("h2")).to_have_text("blocks.1.mlp.c_fc.weight")
    expect(card.locator(".figures .num")).to_have_text(
        [
            significant(value.item())
            for value in (chosen.mean(), chosen.std(correction=0), chosen.min(), chosen.max(), chosen.norm())
        ]
    )

    table = parameters["wte.weight"].detach()
    token = model.tokenizer.encode("dog")[0]
    page.get_by_role("textbox", name="Token").fill(f"#{token}")
    expect(page.get_by_text(f"id {token} ")).to_be_visible()
    cosine = torch.nn.functional.cosine_similarity(table, table[token][None])
    cosine[token] = -2
    nearest = page.locator(".card", has_text="Nearest tokens").locator(".near .num")
    expect(nearest).to_have_text([fixed(value) for value in cosine.sort(descending=True).values[:8].tolist()])

    first = checkpoint.read(trained / "small" / "checkpoints" / "step_00000020.pt").model["wte.weight"]
    moved = ((table - first).double().norm() / first.double().norm()).item()
    expect(page.locator(".near.wide .num").first).to_have_text(significant(moved, 2))


def test_another_step_and_on_to_inside(shared_studio: Studio, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{shared_studio.url}/weights?run=small")
    page.get_by_role("combobox", name="Checkpoint", exact=True).click()
    page.get_by_role("option", name="step 40").click()
    expect(page.get_by_text("small / step_00000040.pt")).to_be_visible()
    page.get_by_role("link", name="Open in Inside").click()
    expect(page.locator("h1")).to_have_text("Inside")
    expect(page.locator(".runchip")).to_contain_text("step 40")


def test_damaged_and_hostile_files(studio: Studio, visitor: Callable[..., Page]) -> None:
    last = studio.runs / "small" / "checkpoints" / "step_00000060.pt"
    content = torch.load(last, weights_only=True)
    evil = studio.runs / "evil"
    evil.mkdir()
    shutil.copy(studio.runs / "small" / "tokenizer.json", evil)
    content["model"]["<img src=x onerror=alert(1)>"] = torch.ones(3)
    torch.save(content, evil / "ckpt.pt")
    last.write_bytes(last.read_bytes()[:5000])

    page = visitor(f"{studio.url}/weights?run=small&step=60")
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    expect(page.locator(".message.bad")).to_contain_text("damaged")
    page.goto(f"{studio.url}/weights?run=small")  # the newest that verifies
    expect(page.locator(".message")).to_contain_text("step_00000060.pt passed over")
    expect(page.get_by_text("small / step_00000040.pt")).to_be_visible()
    page.goto(f"{studio.url}/weights?run=evil")
    page.get_by_role("treeitem", name="other").first.click()
    expect(page.get_by_role("treeitem", name="<img src=x onerror=alert(1)>").last).to_be_visible()
    assert page.locator("img[src=x]").count() == 0
