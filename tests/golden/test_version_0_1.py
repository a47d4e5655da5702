"""What version 0.1.0 wrote opens for good: tests/fixtures/version_0_1 never changes, and neither do these numbers."""

import shutil
from pathlib import Path

import pytest

import nudge
from nudge import events
from nudge.cli import main
from nudge.data.shards import open_dataset
from nudge.events import Evaluation, Stopped
from nudge.runs.folder import RunFolder
from nudge.runs.listing import list_runs

FIXTURES = Path(__file__).parents[1] / "fixtures" / "version_0_1"
MADE_IN = "/srv/nudge"

# What 0.1.0 itself measured on its text, in nats per token, and wrote at temperature 0.
LOSSES = {"run": 5.351956035705893, "sharded": 5.6061691991613385, "imported": 5.351956035705893}
TEXTS = {"run": "............", "sharded": "\ufffd\ufffdUUUUUUUUUU", "imported": "............"}
# Measured by 0.1.0 after `nudge resume RUN --steps 8`.
GOES_ON_TO = {"run": 5.31460971727685, "sharded": 5.583459318337864}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the fixtures that a test may change, with its prepared text where run.json says it is."""
    folder = Path(shutil.copytree(FIXTURES, tmp_path / "old", symlinks=True))
    for run_json in folder.glob("*/run.json"):
        run_json.write_text(run_json.read_text().replace(MADE_IN, str(folder)))
    return folder


@pytest.mark.parametrize("run", ["run", "sharded", "imported"])
def test_models_measure_and_write_as_they_did(old: Path, run: str) -> None:
    model = nudge.load(old / run, device="cpu")
    assert nudge.evaluate(model, [old / "text.txt"]).loss == pytest.approx(LOSSES[run], abs=1e-5)
    assert model.generate("The little", temperature=0, max_tokens=12) == TEXTS[run]


def test_an_older_checkpoint_and_a_file_of_parts_open_by_name(old: Path) -> None:
    assert nudge.load(old / "run" / "checkpoints" / "step_00000003.pt").step == 3
    assert nudge.load(old / "sharded" / "checkpoints" / "step_00000004.parts").step == 4


@pytest.mark.parametrize("run", ["run", "sharded"])
def test_runs_go_on(old: Path, run: str) -> None:
    """With their optimizer's state: the loss on the whole held-out text is what 0.1.0 would have reached."""
    before = list(events.read(RunFolder(old / run).events))
    told = list(nudge.resume(old / run, steps=8))
    assert isinstance(told[-1], Stopped)
    assert told[-1].reason == "finished"
    assert list(events.read(RunFolder(old / run).events))[: len(before)] == before
    last = [event for event in told if isinstance(event, Evaluation)][-1]
    assert last.step == 8
    assert last.loss == pytest.approx(GOES_ON_TO[run], abs=1e-4)


def test_prepared_text_opens(old: Path) -> None:
    dataset = open_dataset(old / "data")
    assert dataset.fingerprint == "ffadd5c3bbdd88c155a923d70df8c92293fe022bfe71c93c186434795e95b508"
    assert (len(dataset.train), len(dataset.val)) == (9087, 1004)
    text = (old / "text.txt").read_text(encoding="utf-8")
    assert dataset.tokenizer.decode(dataset.train.read(0, 40).tolist()) in "<|endoftext|>" + text


def test_runs_are_listed(old: Path) -> None:
    lines = {Path(line.run).name: line for line in list_runs(old)}
    assert {name: (line.step, line.state) for name, line in lines.items()} == {
        "run": (6, "finished"),
        "sharded": (4, "finished"),
        "imported": (0, "imported"),
    }


def test_an_export_comes_back(old: Path) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["import", str(old / "hf"), "--out", str(old / "again")])
    assert not exit_info.value.code
    again, imported = nudge.load(old / "again").network, nudge.load(old / "imported").network
    assert all((a == b).all() for a, b in zip(again.parameters(), imported.parameters(), strict=True))
