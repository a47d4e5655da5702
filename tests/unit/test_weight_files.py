"""The files of weights in the studio: their list, what is cached of them, and what is never opened."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.unit.test_inspection import saved

from nudge.errors import CheckpointError, RunError
from nudge.runs import checkpoint as checkpoints
from nudge.runs.checkpoint import Checkpoint, SavedFile
from nudge.runs.folder import RunFolder
from nudge.studio.models import Models
from nudge.studio.weight_files import WeightFiles
from nudge.util import files as disk


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
    assert files.run_files("first") == [FIRST, LAST]
    assert files.step_file("first", 5) == LAST
    assert files.foreign() == ["alone.safetensors", "foreign"]
    assert files.elsewhere("first") == ["second/checkpoints/step_00000007.pt", "alone.safetensors", "foreign"]
    assert [p.name for p in files.open("foreign").parameters] == ["wte.weight", "wpe.weight"]
    with pytest.raises(RunError):
        files.run_files("../runs")


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
    with pytest.raises(CheckpointError) as error:
        files.check(LAST)
    assert error.value.code == "checkpoint.wrong_checksum"
    saved(runs / "first", step=5)
    assert files.check(LAST) is not checked


def test_a_file_that_goes_away_while_it_is_read_is_reported(files: WeightFiles, runs: Path) -> None:
    def vanishing() -> None:
        (runs / LAST).unlink()
        (runs / LAST).read_bytes()

    with pytest.raises(CheckpointError) as error:
        files._keep(("any",), (LAST,), vanishing)
    assert error.value.code == "checkpoint.vanished"
    assert error.value.values["path"] == LAST


def test_a_shorter_file_is_not_touched_again(files: WeightFiles, runs: Path) -> None:
    files.open(LAST)
    path = runs / LAST
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError) as error:
        files.histogram(LAST, "wte.weight")
    assert error.value.code == "checkpoint.not_a_checkpoint"
    name, passed_over = files.newest("first")
    assert name == FIRST
    assert path.name in passed_over[0]


def test_newest_of_a_folder_without_checkpoints(files: WeightFiles, runs: Path) -> None:
    assert files.newest("foreign") == ("foreign", [])
    (runs / "begun").mkdir()
    with pytest.raises(CheckpointError) as error:
        files.newest("begun")
    assert error.value.code == "checkpoint.none_yet"


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
            with pytest.raises(CheckpointError) as error:
                ask(name)
            assert error.value.code == "checkpoint.outside"
    assert not any(name.startswith("linked") for name in files.elsewhere("first"))
    assert files.newest("first")[0] == LAST
    with pytest.raises(CheckpointError) as error:
        files.open("first/checkpoints/step_00000001.pt")
    assert error.value.code == "checkpoint.gone"


PARTS = "third/checkpoints/step_00000007.parts"


@pytest.fixture
def in_parts(runs: Path) -> Path:
    """A run whose only checkpoint is a folder with the weights in one file and the optimizer's moments in another."""
    run = RunFolder(shutil.copytree(runs / "second", runs / "third", symlinks=True))
    whole = checkpoints.read(checkpoints.paths(run)[0])
    checkpoints.paths(run)[0].unlink()
    save_in_parts(run, whole)
    return runs / PARTS


def save_in_parts(run: RunFolder, whole: Checkpoint) -> None:
    moments = {f"{name}.{key}": value for name, of in (whole.optimizer or {}).items() for key, value in of.items()}
    written, parts = run.checkpoints / "writing", []
    written.mkdir()
    for number, (section, tensors) in enumerate((("model", whole.model), ("optimizer", moments)), start=1):
        path = written / f"shard-{number:05d}.safetensors"
        safetensors.torch.save_file({f"{section}.{name}": value.clone() for name, value in tensors.items()}, path)
        parts.append(SavedFile(file=path.name, n_bytes=path.stat().st_size, sha256=disk.sha256(path)))
    checkpoints.save_parts(run, whole, written, parts)


def test_a_checkpoint_of_several_files_is_one_file_of_weights(in_parts: Path, files: WeightFiles) -> None:
    assert files.run_files("third") == [PARTS]
    assert files.step_file("third", 7) == files.newest("third")[0] == PARTS
    same, found = files.check("second/checkpoints/step_00000007.pt"), files.check(PARTS)
    assert found.checksum == "verified"
    assert (found.step, found.parameters, set(found.stored)) == (7, same.parameters, set(same.stored))
    assert found.n_bytes == sum(path.stat().st_size for path in in_parts.iterdir())
    assert files.difference("second/checkpoints/step_00000007.pt", PARTS).total == 0
    with pytest.raises(CheckpointError) as error:
        files.step_file("third", 8)
    assert error.value.code == "checkpoint.no_step"
    assert error.value.values["step"] == 8


def test_a_checkpoint_of_several_files_is_read_again_when_it_changes(in_parts: Path, files: WeightFiles) -> None:
    first = files.check(PARTS)
    assert files.check(PARTS) is first
    part = in_parts / "shard-00001.safetensors"
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    with pytest.raises(CheckpointError, match="shard-00001"):
        files.check(PARTS)
    (in_parts / checkpoints.PARTS).unlink()
    with pytest.raises(CheckpointError) as error:
        files.open(PARTS)
    assert error.value.code == "checkpoint.gone"


def test_the_model_of_a_checkpoint_of_several_files_opens(in_parts: Path, files: WeightFiles) -> None:
    models = files.models
    assert models.steps("third") == [7]
    opened = models.open("third")
    assert models.open("third", 7).step == opened.step == 7
    expected = models.open("second").network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in opened.network.state_dict().items())
    run = models.folder("third")
    whole = checkpoints.read(in_parts)
    save_in_parts(run, dataclasses.replace(whole, model={name: -value for name, value in whole.model.items()}))
    assert torch.equal(models.open("third").network.wte.weight, -expected["wte.weight"])


def test_an_older_model_opens_if_a_part_of_the_newest_is_missing(in_parts: Path, files: WeightFiles) -> None:
    whole, run = checkpoints.read(in_parts), files.models.folder("third")
    save_in_parts(run, dataclasses.replace(whole, step=9))
    assert files.models.open("third").step == 9
    (checkpoints.parts_path(run, 9) / checkpoints.PARTS).unlink()
    assert files.models.open("third").step == 7
    with pytest.raises(CheckpointError, match="step_00000009"):
        files.models.open("third", 9)


def test_no_part_of_a_checkpoint_leads_out_of_the_runs_folder(
    in_parts: Path, files: WeightFiles, tmp_path: Path
) -> None:
    part = in_parts / "shard-00001.safetensors"
    part.rename(tmp_path / part.name)
    part.symlink_to(tmp_path / part.name)
    for ask in (files.open, files.check):
        with pytest.raises(CheckpointError) as error:
            ask(PARTS)
        assert error.value.code == "checkpoint.outside"
    for step in (7, None):
        with pytest.raises(CheckpointError) as error:
            files.models.open("third", step)
        assert error.value.code == "checkpoint.outside"


def test_a_link_that_leads_nowhere_hides_no_checkpoint(files: WeightFiles, runs: Path) -> None:
    (runs / "first" / "checkpoints" / "step_00000009.pt").symlink_to("step_00000009.parts")
    assert files.newest("first")[0] == LAST
    with pytest.raises(CheckpointError) as error:
        files.models.open("first", 9)
    assert error.value.code == "checkpoint.no_step"


def test_a_copy_of_the_newest_checkpoint_is_enough(in_parts: Path, files: WeightFiles, runs: Path) -> None:
    shutil.copytree(runs / "third", runs / "copy", symlinks=False, ignore=shutil.ignore_patterns("checkpoints"))
    assert files.newest("copy") == ("copy/ckpt.pt", [])
    assert files.models.open("copy").step == 7
