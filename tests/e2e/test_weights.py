"""Weights in a real browser: the numbers are those of the file, names stay text, and a damaged file stops nothing."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from playwright.sync_api import Page, expect
from tests.e2e.conftest import Studio, failure
from torch import Tensor

from nudge.util.formatting import percent, significant

HOSTILE = "<img src=x onerror=alert(1)>"


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, the oldest first."""
    return sorted((run / "checkpoints").glob("step_*.pt"))


def state(path: Path) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in torch.load(path, weights_only=True)["model"].items()}


def titles(page: Page, selector: str) -> list[float]:
    """The exact numbers behind the rounded ones."""
    return page.locator(selector).evaluate_all("all => all.map(one => Number(one.title))")


def test_counts_shares_and_statistics_are_the_files(studio: Studio, visitor: Callable[..., Page]) -> None:
    newest = state(checkpoints(studio.runs / "small")[-1])
    total = sum(tensor.numel() for tensor in newest.values())
    page = visitor(f"{studio.url}/weights?run=small")
    expect(page.locator(".sub")).to_contain_text("SHA-256 verified")
    expect(page.get_by_text(f"{total:,} numbers in {len(newest)} tensors")).to_be_visible()
    expect(page.get_by_role("treeitem")).to_have_count(
        3 + 1 + 1 + 2 + 1 - 1
    )  # root, embedding with two, 2 blocks, ln_f

    closed = page.locator("[role=treeitem][aria-expanded=false]")
    while n := closed.count():
        closed.first.click()
        expect(closed).not_to_have_count(n)
    leaves = page.locator("[role=treeitem]:has(.leaf.cut)")
    expect(leaves).to_have_count(len(newest))
    shown = leaves.evaluate_all(
        "all => all.map(row => ['.nm .cut', '.pa'].map(part => row.querySelector(part).title)"
        ".concat(['.sp', '.pc'].map(part => row.querySelector(part).textContent)))"
    )
    assert {name: (count, shape, share) for name, count, shape, share in shown} == {
        name: (f"{tensor.numel():,}", str(list(tensor.shape)), percent(tensor.numel() / total))
        for name, tensor in newest.items()
    }

    for name in ("blocks.1.mlp.c_fc.weight", "blocks.0.ln_1.weight"):
        page.locator(f'.leaf.cut[title="{name}"]').click()
        expect(page.locator(".parameter h2")).to_have_text(name)
        expect(page.get_by_text(f"measured over all {newest[name].numel():,} values")).to_be_visible()
        values = newest[name]
        expected = [values.mean(), values.std(correction=0), values.min(), values.max(), values.norm()]
        assert titles(page, ".parameter .figure") == pytest.approx([value.item() for value in expected], rel=1e-9)
    heights = page.locator(".parameter svg path[fill='var(--blue)']")
    assert heights.count() > 20


def test_neighbours_and_differences_are_torchs(studio: Studio, visitor: Callable[..., Page]) -> None:
    files = checkpoints(studio.runs / "small")
    first, last = state(files[0]), state(files[-1])
    page = visitor(f"{studio.url}/weights?run=small")
    table = last["wte.weight"]
    page.get_by_role("textbox", name="Find a token").fill("#300")
    expect(page.locator(".token-row")).to_contain_text("id 300 ·")
    expect(page.locator(".token-row")).to_contain_text(f"a vector of {table.shape[1]} numbers")
    cosines = torch.cosine_similarity(table[300][None], table)
    cosines[300] = -2
    nearest = cosines.topk(8)
    assert [round(value, 9) for value in titles(page, ".near .right")] == [
        round(value, 9) for value in nearest.values.tolist()
    ]
    ids = page.locator(".near").evaluate_all("all => all.map(one => Number(one.title.split(' ')[0]))")
    assert ids == nearest.indices.tolist()
    assert titles(page, ".numbers-of-row .num") == table[300, :8].tolist()
    page.get_by_role("textbox", name="Find a token").fill("채용")
    expect(page.locator(".found .pick").first).to_contain_text("채용")

    step = int(files[0].stem.removeprefix("step_"))
    expect(page.get_by_role("heading", name=f"Since step {step}")).to_be_visible()
    moved = {name: ((last[name] - first[name]).norm() / first[name].norm()).item() for name in last}
    most = sorted(moved, key=lambda name: -moved[name])[:8]
    rows = page.locator("button.moved")
    assert rows.evaluate_all("all => all.map(one => one.title)") == most
    assert titles(page, "button.moved .right") == pytest.approx([moved[name] for name in most], rel=1e-9)
    mlp = [name for name in last if ".mlp." in name]
    change, size = (torch.cat([part[name].flatten() for name in mlp]).norm() for part in (_minus(last, first), first))
    expect(page.locator("div.moved", has_text="MLP").locator(".right")).to_have_text(
        significant((change / size).item())
    )

    rows.first.click()
    expect(page.locator(".parameter h2")).to_have_text(most[0])
    expect(page.locator("[role=treeitem][aria-selected=true]")).to_contain_text(most[0].split(".", 2)[2])


def _minus(a: dict[str, Tensor], b: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: a[name] - b[name] for name in a}


def test_the_keyboard_is_enough(studio: Studio, visitor: Callable[..., Page]) -> None:
    page = visitor(f"{studio.url}/weights?run=small")
    focused = page.locator("[role=treeitem]:focus")
    page.get_by_role("treeitem").first.focus()
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    expect(focused).to_contain_text("blocks.0")
    for branch in ("blocks.0", "attention"):
        expect(focused).to_contain_text(branch)
        page.keyboard.press("ArrowRight")
        expect(focused).to_have_attribute("aria-expanded", "true")
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".parameter h2")).to_have_text("blocks.0.attn.c_attn.weight")
    expect(focused).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(focused).to_have_attribute("aria-expanded", "false")
    expect(page.locator("[role=treeitem][aria-selected=true]")).to_be_hidden()
    page.keyboard.press("Home")
    expect(focused).to_contain_text("model weights")

    files = checkpoints(studio.runs / "small")
    page.get_by_role("slider", name="Step").locator("[tabindex]").focus()
    page.keyboard.press("ArrowLeft")
    before = files[-2].stem
    expect(page.locator(".sub")).to_contain_text(before)
    expect(page).to_have_url(re.compile(rf"step={int(before.removeprefix('step_'))}$"))
    mean = state(files[-2])["blocks.0.attn.c_attn.weight"].mean().item()
    expect(page.locator(".parameter .figure").first).to_have_attribute("title", repr(mean))
    page.get_by_role("link", name="Open in Inside").click()
    expect(page.locator("h1")).to_have_text("Inside")
    expect(page.locator(".runchip")).to_contain_text(f"step {int(before.removeprefix('step_'))}")


def test_hostile_names_stay_text(studio: Studio, own_run: Path, visitor: Callable[..., Page], tmp_path: Path) -> None:
    folder, outside = studio.runs / "foreign", tmp_path / "outside.safetensors"
    folder.mkdir()
    odd = torch.tensor([1.0, 2.0, float("nan")])
    tensors = {HOSTILE: odd, "{{7*7}}": torch.ones(2), ":onclick": torch.zeros(0, 3), "wte.weight": torch.ones(7)}
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    safetensors.torch.save_file(tensors, outside)
    (studio.runs / "leads-away.safetensors").symlink_to(outside)
    page = visitor(f"{studio.url}/weights?run={own_run.name}&file=foreign")
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    expect(page.locator(".misfits")).to_contain_text(HOSTILE)
    page.get_by_role("treeitem", name="other").click()
    for name in ("{{7*7}}", ":onclick", HOSTILE):
        page.locator(".leaf.cut").get_by_text(name, exact=True).click()
        expect(page.locator(".parameter h2")).to_have_text(name)
    expect(page.get_by_text("1 of 3 values are NaN or infinite")).to_be_visible()
    expect(page.locator(".parameter .figure").first).to_have_text(significant(1.5))
    assert page.locator("main img[src=x]").count() == 0

    page.get_by_role("combobox", name="File").click()
    page.get_by_role("option", name="leads-away.safetensors").click()
    expect(failure(page, "checkpoint.outside")).to_be_visible()
    expect(page.locator(".parameter h2")).to_have_text(HOSTILE)
    page.goto(f"{studio.url}/weights?run={own_run.name}&file=../outside.safetensors")
    expect(failure(page, "checkpoint.outside")).to_be_visible()


def test_a_damaged_checkpoint_is_reported_and_the_page_goes_on(
    studio: Studio, own_run: Path, visitor: Callable[..., Page]
) -> None:
    files = checkpoints(own_run)
    whole = files[-1].read_bytes()
    files[-1].write_bytes(whole[: len(whole) // 2])
    page = visitor(f"{studio.url}/weights?run={own_run.name}")
    expect(page.locator(".message.note")).to_contain_text(files[-1].name)
    expect(page.locator(".sub")).to_contain_text(files[-2].name)
    slider = page.get_by_role("slider", name="Step").locator("[tabindex]")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(failure(page, "checkpoint.not_a_checkpoint")).to_contain_text(files[-1].name)
    expect(page.locator(".sub")).to_contain_text(files[-2].name)

    # A changed value: everything can be read, but the checksum differs. Then a file that is cut while it is shown.
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    files[-1].write_bytes(flipped)
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(failure(page, "checkpoint.wrong_checksum")).to_be_visible()
    expect(page.locator(".sub")).to_contain_text(files[-1].name)
    files[-1].write_bytes(whole[:1000])
    page.get_by_role("treeitem", name="wpe.weight").click()
    expect(failure(page, "checkpoint.not_a_checkpoint")).to_be_visible()
    shutil.copy(files[0], files[-1])
    page.get_by_role("treeitem", name="wte.weight").click()
    expect(page.locator(".parameter h2")).to_have_text("wte.weight")
    expect(page.get_by_role("treeitem", name="wte.weight")).to_have_attribute("aria-selected", "true")
