"""The files of weights that the studio looks into: which there are, what is kept of them, and what is not opened."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.unit.test_inspection import saved

from nudge import checkpoint as checkpoints
from nudge.errors import CheckpointError, RunError
from nudge.studio.models import Models
from nudge.studio.weight_files import WeightFiles


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs, a network of another program in two shards, and a file by itself."""
    root = tmp_path / "runs"
    for step in (0, 5):
        saved(root / "first", step=step, seed=step)
    saved(root / "second", step=7)
    shards = root / "foreign"
    shards.mkdir()
    places = {}
    for name, shard in (("wte.weight", "model-1.safetensors"), ("wpe.weight", "model-2.safetensors")):
        safetensors.torch.save_file({name: torch.ones(3, 2)}, shards / shard)
        places[name] = shard
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    safetensors.torch.save_file({"wte.weight": torch.ones(3, 2)}, root / "alone.safetensors")
    return root


@pytest.fixture
def files(runs: Path) -> WeightFiles:
    return WeightFiles(Models(runs))


FIRST, LAST = "first/checkpoints/step_00000000.pt", "first/checkpoints/step_00000005.pt"


def test_lists_of_names(files: WeightFiles) -> None:
    assert files.of_run("first") == [FIRST, LAST]
    assert files.of_step("first", 5) == LAST
    assert files.foreign() == ["alone.safetensors", "foreign"]
    assert files.elsewhere("first") == ["second/checkpoints/step_00000007.pt", "alone.safetensors", "foreign"]
    assert [p.name for p in files.open("foreign").parameters] == ["wte.weight", "wpe.weight"]
    with pytest.raises(RunError):
        files.of_run("../runs")


def test_answers_are_kept_until_a_file_changes(files: WeightFiles, runs: Path) -> None:
    difference = files.difference(FIRST, LAST)
    assert difference.total > 0
    assert files.difference(FIRST, LAST) is difference
    assert files.histogram(LAST, "wte.weight") is files.histogram(LAST, "wte.weight")
    saved(runs / "first", step=5, seed=0)  # the same weights as those of step 0
    assert files.difference(FIRST, LAST).total == 0


def test_a_checksum_is_compared_once_for_each_state_of_a_file(files: WeightFiles, runs: Path) -> None:
    checked = files.check(LAST)
    assert checked.checksum != files.open(LAST).checksum
    assert files.check(LAST) is checked
    data = bytearray((runs / LAST).read_bytes())
    data[len(data) // 2] ^= 1
    (runs / LAST).write_bytes(data)
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        files.check(LAST)
    saved(runs / "first", step=5)
    assert files.check(LAST) is not checked


def test_a_file_that_goes_away_while_it_is_read_is_told(files: WeightFiles, runs: Path) -> None:
    def vanishing() -> None:
        (runs / LAST).unlink()
        (runs / LAST).read_bytes()

    with pytest.raises(CheckpointError, match=f"{LAST} cannot be read"):
        files._keep(("any",), (LAST,), vanishing)


def test_a_shorter_file_is_not_touched_again(files: WeightFiles, runs: Path) -> None:
    files.open(LAST)
    path = runs / LAST
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="only a piece"):
        files.histogram(LAST, "wte.weight")
    name, passed_over = files.newest("first")
    assert name == FIRST
    assert "only a piece" in passed_over[0]


def test_newest_of_a_folder_without_checkpoints(files: WeightFiles, runs: Path) -> None:
    assert files.newest("foreign") == ("foreign", [])
    (runs / "begun").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        files.newest("begun")


def test_only_what_lies_under_the_runs_folder_is_opened(files: WeightFiles, runs: Path, tmp_path: Path) -> None:
    outside = saved(tmp_path / "outside")
    target = checkpoints.paths(outside)[0]
    (runs / "first" / "checkpoints" / "step_00000009.pt").symlink_to(target)
    (runs / "linked").symlink_to(tmp_path / "outside")
    (runs / "foreign" / "model-2.safetensors").unlink()
    safetensors.torch.save_file({"wpe.weight": torch.ones(3, 2)}, tmp_path / "shard.safetensors")
    (runs / "foreign" / "model-2.safetensors").symlink_to(tmp_path / "shard.safetensors")
    for name in ("../outside/ckpt.pt", str(target), "first/checkpoints/step_00000009.pt", "linked/ckpt.pt", "foreign"):
        for ask in (files.open, files.check):
            with pytest.raises(CheckpointError, match="lies outside"):
                ask(name)
    assert not any(name.startswith("linked") for name in files.elsewhere("first"))
    assert files.newest("first")[0] == LAST
    with pytest.raises(CheckpointError, match="not there"):
        files.open("first/checkpoints/step_00000001.pt")
