"""The Knobs page: a turned knob gives the same prediction as PyTorch with the change made by hand on a copy."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
import torch
from playwright.sync_api import Locator, Page, expect
from tests.e2e.conftest import Studio, failure

from nudge.infer import engine
from nudge.infer.engine import LanguageModel
from nudge.look import Line, Logistic
from nudge.model.gpt import GPT
from nudge.util.formatting import fixed, percent, points, significant

TEXT = "The little dog"


@pytest.fixture(scope="module")
def model(trained: Path) -> LanguageModel:
    return engine.load(trained / "small", device="cpu")


@pytest.fixture
def desk(studio: Studio, visitor: Callable[..., Page]) -> Page:
    page = visitor(f"{studio.url}/knobs?run=small&text={quote(TEXT)}")
    expect(page.locator(".two-bars .row")).to_have_count(11)  # ten tokens and the rest
    return page


def predicted(model: LanguageModel, change: Callable[[GPT], object] = lambda _: None) -> torch.Tensor:
    """The probabilities after TEXT with the parameters of a copy changed in place."""
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        change(network)
        return network(torch.tensor([model.prompt_ids(TEXT)]))[0, -1].double().softmax(-1)


def scale_attention(network: GPT, block: int, factor: float) -> None:
    for parameter in network.blocks[block].attn.c_proj.parameters():
        parameter.mul_(factor)


def scale_mlp(network: GPT, block: int, factor: float) -> None:
    for parameter in network.blocks[block].mlp.c_proj.parameters():
        parameter.mul_(factor)


def mute(network: GPT, block: int) -> None:
    scale_attention(network, block, 0)
    scale_mlp(network, block, 0)


def expect_shown(page: Page, base: torch.Tensor, changed: torch.Tensor) -> None:
    """The bars and the distance are those of these two distributions."""
    kl = (base * (base.log() - changed.log())).sum().item()
    expect(page.locator(".kl")).to_have_text(fixed(kl, 3))
    likeliest = base.sort(descending=True, stable=True).indices[:10].tolist()
    newcomers = [token for token in changed.sort(descending=True).indices[:10].tolist() if token not in likeliest]
    rows = page.locator(".two-bars .row")
    expect(rows).to_have_count(11 + len(newcomers))
    for row, token in ((0, likeliest[0]), (9, likeliest[9]), *((10 + n, token) for n, token in enumerate(newcomers))):
        before, after = base[token].item(), changed[token].item()
        change = points(after - before)
        expect(rows.nth(row).locator(".p.a")).to_have_text(percent(before))
        expect(rows.nth(row).locator(".p.b")).to_have_text(percent(after))
        expect(rows.nth(row).locator(".d")).to_have_text(change if change[0] in "+−" else "–")
    shown = likeliest + newcomers
    expect(rows.last.locator(".p.b")).to_have_text(percent(1 - changed[shown].sum().item()))


def slider(page: Page, name: str) -> Locator:
    return page.get_by_role("slider", name=name, exact=True)


def drag(page: Page, handle: Locator, up_px: int) -> None:
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y - up_px, steps=8)
    page.mouse.up()


def test_dials_faders_and_buttons_are_the_networks(desk: Page, model: LanguageModel) -> None:
    base = predicted(model)
    expect_shown(desk, base, base)
    expect(desk.get_by_text("The same as the base, bit for bit.")).to_be_visible()
    dial = slider(desk, "Attention of block 0")

    drag(desk, dial, 40)  # 160 pixels are the whole way from 0 to 2
    expect(dial).to_have_attribute("aria-valuetext", "× 1.50")
    expect_shown(desk, base, predicted(model, lambda network: scale_attention(network, 0, 1.5)))
    dial.dblclick()
    expect(dial).to_have_attribute("aria-valuetext", "× 1.00")
    expect_shown(desk, base, base)

    drag(desk, slider(desk, "MLP of block 1"), -160)
    drag(desk, slider(desk, "Head 1 of block 0"), 36)  # half of a fader's way

    def by_hand(network: GPT) -> None:
        scale_mlp(network, 1, 0)
        network.blocks[0].attn.c_proj.weight[16:32].mul_(2)  # the rows that read the second of two heads

    expect_shown(desk, base, predicted(model, by_hand))
    expect(desk.get_by_text("dials: 1, heads: 1")).to_be_visible()

    desk.get_by_role("button", name="Mute block 0").click()
    expect_shown(desk, base, predicted(model, lambda network: (mute(network, 0), scale_mlp(network, 1, 0))))
    desk.get_by_role("button", name="Reset all").click()
    expect_shown(desk, base, base)
    expect(slider(desk, "Head 1 of block 0")).to_have_attribute("aria-valuenow", "1")
    expect(desk.get_by_role("button", name="Mute block 0")).to_have_attribute("aria-pressed", "false")
    desk.get_by_role("button", name="Play only block 1").click()
    expect_shown(desk, base, predicted(model, lambda network: mute(network, 0)))


def test_many_quick_presses_end_at_the_last(desk: Page, model: LanguageModel) -> None:
    base, dial = predicted(model), slider(desk, "MLP of block 0")
    dial.focus()
    for _ in range(15):
        desk.keyboard.press("ArrowUp")
    for _ in range(6):
        desk.keyboard.press("ArrowLeft")
    expect(dial).to_have_attribute("aria-valuenow", "1.45")
    expect_shown(desk, base, predicted(model, lambda network: scale_mlp(network, 0, 1.45)))
    desk.keyboard.press("PageDown")
    expect(dial).to_have_attribute("aria-valuenow", "1.2")
    desk.keyboard.press("Home")
    expect_shown(desk, base, base)


def test_the_base_is_shown_while_a_is_held(desk: Page) -> None:
    slider(desk, "MLP of block 0").focus()
    desk.keyboard.press("PageUp")
    row = desk.locator(".two-bars .row").first
    expect(row.locator(".p.b")).to_be_visible()
    desk.keyboard.down("a")
    expect(row.locator(".p.a")).to_be_visible()
    expect(row.locator(".p.b")).to_be_hidden()
    desk.keyboard.up("a")
    expect(row.locator(".p.b")).to_be_visible()
    desk.get_by_role("radio", name="A base").click()
    expect(row.locator(".p.b")).to_be_hidden()


def test_a_key_bias_changes_nothing_and_a_query_bias_does(desk: Page, model: LanguageModel) -> None:
    base = predicted(model)
    desk.get_by_role("button", name="Query biases").click()
    expect(desk.locator(".exact")).to_have_text(re.compile("More exactly|Measured"))
    expect_shown(desk, base, predicted(model, lambda network: network.blocks[0].attn.c_attn.bias[:16].fill_(3)))
    desk.get_by_role("button", name="Key biases").click()
    expect(desk.locator(".kl")).to_have_text("0.000")
    expect(desk.get_by_text("values: 16")).to_be_visible()
    expect_shown(desk, base, base)
    expect(desk.locator(".exact")).to_have_text(re.compile("what float32 rounds off|bit for bit"))
    desk.get_by_role("button", name="10 more values").click()
    expect(desk.get_by_text("values: 6")).to_be_visible()


def test_a_parameter_by_name_and_one_value_of_it(desk: Page, model: LanguageModel) -> None:
    base, ids = predicted(model), model.prompt_ids(TEXT)
    desk.get_by_role("combobox", name="Parameter").fill("wte")
    desk.get_by_role("option", name="wte.weight").click()
    index, value = desk.get_by_role("textbox", name="Index"), desk.get_by_role("textbox", name="Value")
    index.fill(f"{ids[-1]}, 3")
    trained = model.network.wte.weight[ids[-1], 3].item()
    expect(desk.get_by_text(f"trained value {significant(trained, 4)}")).to_be_visible()
    slider(desk, "factor").focus()
    desk.keyboard.press("PageUp")
    expect(desk.get_by_role("button", name="wte.weight × 1.25")).to_be_visible()
    value.fill("4")
    value.press("Enter")
    expect(desk.get_by_text("parameters: 1, values: 1")).to_be_visible()

    network = copy.deepcopy(model.network)
    with torch.no_grad():
        head = network.wte.weight.clone()  # tied, but what scores is another knob than what reads
        network.wte.weight[ids[-1], 3] = 4
        network.wte.weight.mul_(1.25)
        changed = (network.hidden(torch.tensor([ids]))[0, -1] @ head.T).double().softmax(-1)
    expect_shown(desk, base, changed)

    index.fill("500000, 3")
    desk.get_by_role("button", name="Set", exact=True).click()
    expect(failure(desk, "config.no_such_index")).to_contain_text("500000")
    index.fill("<img src=x>")
    desk.get_by_role("button", name="Set", exact=True).click()
    expect(failure(desk, "config.not_an_index")).to_contain_text("<img src=x>")
    index.fill("0, 0")
    expect(desk.locator(".message.bad")).to_have_count(0)
    desk.get_by_role("button", name="As trained again: wte.weight[").click()
    desk.get_by_role("button", name="As trained again: wte.weight × 1.25").click()
    expect_shown(desk, base, base)
    expect(slider(desk, "factor")).to_have_attribute("aria-valuenow", "1")


def test_the_smallest_networks_take_a_step(desk: Page) -> None:
    line = desk.locator(".card").filter(has=desk.get_by_role("heading", name="The smallest network"))
    y = line.locator("dt:text-is('y') + dd")
    expect(y).to_have_text("1.100")  # 0.5 * 2 + 0.1
    line.get_by_role("button", name="One training step").click()
    stepped = Line().step(2, 2, lr=0.05)
    expect(y).to_have_text(fixed(stepped.y(2), 3))
    expect(line.get_by_role("slider", name="W", exact=True)).to_have_attribute("aria-valuetext", fixed(stepped.W))
    expect(line.locator(".done")).to_have_text("W 0.500 → 0.680 · b 0.100 → 0.190")

    neuron = desk.locator(".card").filter(has=desk.get_by_role("heading", name="One neuron"))
    y, network, x = neuron.locator("dt:text-is('y') + dd"), Logistic(w0=3, w1=-2.25, w2=0.75), (0.6, -0.2)
    expect(y).to_have_text(fixed(network.y(*x), 3))
    before = neuron.locator("img").get_attribute("src")
    neuron.get_by_role("radio", name="towards 1").click()
    neuron.get_by_role("button", name="One training step").click()
    expect(y).to_have_text(fixed(network.step(x, 1, lr=1).y(*x), 3))
    assert neuron.locator("img").get_attribute("src") != before
    neuron.get_by_role("slider", name="w2").dblclick()
    expect(neuron.get_by_role("slider", name="w2")).to_have_attribute("aria-valuenow", "0.75")


def test_another_text_asks_the_base_anew(desk: Page, model: LanguageModel) -> None:
    slider(desk, "MLP of block 0").focus()
    desk.keyboard.press("PageDown")
    expect(desk.locator(".kl")).not_to_have_text("0.000")
    area = desk.get_by_role("textbox", name="Text", exact=True)
    area.fill("구글에서 " * 60)
    expect(desk.locator(".notes .message")).to_contain_text("reads at most 32")
    area.fill("구글에서")
    expect(desk.locator(".notes .message")).to_have_count(0)
    with torch.no_grad():
        base = model.network(torch.tensor([model.prompt_ids("구글에서")]))[0, -1].softmax(-1)
    expect(desk.locator(".two-bars .row").first.locator(".p.a")).to_have_text(percent(base.max().item()))
