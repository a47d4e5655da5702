"""`nudge inspect`: the tree on a terminal and in a log, and the same for a program."""

import io
import json
import math
from pathlib import Path

import click.testing
import pytest
import safetensors.torch
import torch
from rich.console import Console
from tests.refusals import refused

from nudge.cli import inspect as command
from nudge.cli import inspectview as view
from nudge.config import Config, ModelConfig
from nudge.data import tokenizer as tokenizers
from nudge.errors import CheckpointError, ConfigError
from nudge.look.inspection import weights
from nudge.model.gpt import GPT, init_weights
from nudge.runs import checkpoint as checkpoints
from nudge.runs.checkpoint import Checkpoint, RunFolder

CONFIG = Config(model=ModelConfig(n_layer=3, n_head=2, n_embd=8, block_size=6, vocab_size=257))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder, network = RunFolder(tmp_path / "run"), GPT(CONFIG.model)
    tokenizers.get("bytes").save(folder.tokenizer)
    for step in (0, 7):
        init_weights(network, seed=step)
        moments = {name: {"exp_avg": p.detach()} for name, p in network.named_parameters()}
        state = network.state_dict()
        checkpoints.save(folder, Checkpoint(step=step, config=CONFIG, model=state, optimizer=moments))
    return folder


def inspected(*args: object) -> str:
    result = click.testing.CliRunner().invoke(command.inspect, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def shown(token: int) -> str:
    """Of the tokenizer of bytes."""
    return chr(token) if token < 128 else f"<{token:02x}>" if token < 256 else "<256>"


def strictly(text: str) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def on_a_terminal(run: Path, width: int) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    found = weights(run)
    view.show_head(console, found)
    view.show_tree(console, found, every=True)
    view.show_beside(console, found)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_tree_opens_the_first_block(run: RunFolder) -> None:
    printed = inspected(run.path)
    assert "SHA-256 verified" in printed
    assert "step 7" in printed
    assert printed.count("attn.c_attn.weight") == 1
    assert [line.split()[0] for line in printed.splitlines() if line.startswith("  blocks.")] == [
        f"blocks.{i}" for i in range(3)
    ]
    assert inspected(run.path, "--all").count("attn.c_attn.weight") == 3
    assert "exp_avg" in printed


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_names_and_numbers_are_never_cut(run: RunFolder, width: int) -> None:
    lines = on_a_terminal(run.path, width).splitlines()
    assert all(len(line) <= width for line in lines)
    (line,) = (line for line in lines if "wte.weight" in line)
    for cell in ("[257, 8]", "2.06 k", "%"):
        assert cell in line
    assert ("one row per token" in line) == (width >= view.WIDE)


def test_without_the_checksum(run: RunFolder) -> None:
    assert "not verified: --no-verify" in inspected(run.path, "--no-verify")
    assert strictly(inspected(run.path, "--no-verify", "--json"))["checksum"] == "not checked"


def test_everything_for_a_program(run: RunFolder) -> None:
    before = run.checkpoints / "step_00000000.pt"
    options = ("--tensor", "wte.weight", "--neighbours", "ab", "--against", before)
    printed = strictly(inspected(run.path, "--json", *options))
    found = weights(run.path)
    assert printed["total"] == found.total
    assert [p["name"] for p in printed["parameters"]] == [p.name for p in found.parameters]
    assert (printed["step"], printed["verified"], printed["config"]["model"]["n_layer"]) == (7, True, 3)
    assert sum(printed["tensor"]["counts"]) == printed["tensor"]["n"] == 257 * 8
    assert [near["token"] for near in printed["neighbours"]] == [97, 98]
    nearest = printed["neighbours"][0]["nearest"]
    assert len(nearest) == 8
    assert {near["text"] for near in nearest} == {shown(near["token"]) for near in nearest}
    assert printed["difference"]["parts"]["wte"] == pytest.approx(math.sqrt(2), rel=0.1)  # two independent draws


def test_json_has_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"w": torch.tensor([math.nan, math.inf])}, path)
    printed = strictly(inspected(path, "--json", "--tensor", "w", "--against", path))
    assert (printed["tensor"]["mean"], printed["tensor"]["n_not_finite"]) == (None, 2)
    assert printed["difference"]["changes"][0]["relative"] is None
    assert "not finite" in inspected(path, "--tensor", "w")


def test_the_difference_in_words(run: RunFolder, tmp_path: Path) -> None:
    printed = inspected(run.path, "--against", run.checkpoints / "step_00000000.pt")
    assert all(part in printed for part in ("wte", "wpe", "attention", "mlp", "norms"))
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file(
        {"wte.weight": torch.ones(3, 8), "ln_f.bias": torch.ones(8), "mine": torch.ones(1)}, other
    )
    printed = inspected(run.path, "--against", other)
    assert "only there: mine" in printed
    assert "of another shape: wte.weight [3, 8] -> [257, 8]" in printed


def test_checkpoints_of_other_sizes_are_not_compared(tmp_path: Path) -> None:
    small, large = (tmp_path / f"{n}.safetensors" for n in (2, 4))
    for n, path in ((2, small), (4, large)):
        safetensors.torch.save_file({"wte.weight": torch.ones(n, 3)}, path)
    with refused("checkpoint.nothing_in_common", old="wte.weight [2, 3]", new="wte.weight [4, 3]"):
        inspected(large, "--against", small)
    safetensors.torch.save_file({"mine": torch.ones(2)}, small)
    with refused("checkpoint.nothing_in_common", old="mine", new="wte.weight"):
        inspected(large, "--against", small)


def test_what_a_file_says_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    path, hostile = tmp_path / "a.safetensors", "\x1b[2J[bold]x[/nothing]\nsecond"
    safetensors.torch.save_file({hostile: torch.ones(2)}, path)
    for args in ((), ("--tensor", hostile), ("--against", path)):
        printed = inspected(path, *args)
        assert "\x1b" not in printed
        assert "␛[2J[bold]x[/nothing]⏎second" in printed


def test_what_cannot_be_asked(run: RunFolder, tmp_path: Path) -> None:
    for args, error in (
        (("--tensor", "wte"), CheckpointError),
        (("--neighbours", ""), ConfigError),
        (("--against", tmp_path / "nothing"), CheckpointError),
    ):
        with pytest.raises(error) as caught:
            inspected(run.path, *args)
        assert caught.value.hint
    with pytest.raises(ConfigError) as refused:
        inspected(run.path, "--neighbours", "")
    assert refused.value.code == "config.no_token_in_text"
    run.tokenizer.unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        inspected(run.path, "--neighbours", "a")


@pytest.mark.parametrize(
    ("share", "bar"), [(0.0, ""), (1e-9, "▏"), (0.05, "▌"), (0.4625, "████▋"), (1.0, "██████████")]
)
def test_shares_are_seen(share: float, bar: str) -> None:
    assert view.bar(share, view.BAR) == bar


def test_a_histogram_is_as_high_as_its_lines() -> None:
    lines = view._columns([0, 1, 700, 1400])
    assert len(lines) == view.ROWS
    assert ["".join(column).strip() for column in zip(*lines, strict=True)] == ["", "▁", "▄███", "███████"]
