"""What the documentation promises without exception, each tried."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from tests.fault.test_kill import TEXT, settings
from tests.processes import start, typed, wait_for_step

import nudge
from nudge import config as configs
from nudge import events
from nudge.runs import checkpoint
from nudge.runs.folder import RunFolder

pytestmark = pytest.mark.slow


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """All that is in a folder: name: (size, when it was changed)."""
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_a_command_that_only_looks_writes_nothing(runs: Path, tmp_path: Path) -> None:
    source = str(runs / "small")
    (tmp_path / "text.txt").write_text(TEXT)
    before = tree(runs)
    for args in (
        ["predict", source, "--prompt", "def"],
        ["once", source, "--prompt", "def", "--target", "x"],
        ["inspect", source],
        ["sample", source, "--max-tokens", "4"],
        ["eval", source, "--data", "text.txt"],
        ["sheet", "run", source, "--out", "page.pdf"],
        ["export", source, "--to", "hf", "--out", "exported"],
    ):
        said = typed(tmp_path, *args)
        assert said.returncode == 0, said.stderr.decode()
        assert tree(runs) == before, args


def test_a_page_with_changes_is_not_written_over(runs: Path, tmp_path: Path) -> None:
    args = ["sheet", "run", str(runs / "small"), "--out", "page.md"]
    assert typed(tmp_path, *args).returncode == 0
    page = tmp_path / "page.md"
    page.write_text(page.read_text() + "\nmine\n")
    assert typed(tmp_path, *args).returncode == 2
    assert page.read_text().endswith("\nmine\n")


def test_nothing_is_written_beside_token_files(tmp_path: Path) -> None:
    folder = tmp_path / "nanogpt"
    folder.mkdir()
    for name in ("train.bin", "val.bin"):
        (np.arange(20_000) % 200).astype("<u2").tofile(folder / name)
    before = tree(folder)
    args = ["train", "--data", "nanogpt", "--tokenizer", "bytes", "--run", "run", *settings(5)]
    said = typed(tmp_path, *args)
    assert said.returncode == 0, said.stderr.decode()
    assert tree(folder) == before


def test_a_caller_that_stops_iterating_loses_no_update(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    given = ["data.tokenizer=bytes", *(option.removeprefix("--set=") for option in settings(1000))]
    config = configs.override(nudge.recipe("tiny"), configs.parse_settings([*given, "save.every=1000"]))
    config = configs.override(config, {"data": {"paths": (str(tmp_path / "text.txt"),)}})
    for event in nudge.run(config, tmp_path / "run"):
        if isinstance(event, events.Step) and event.step == 7:
            break
    assert checkpoint.read_newest(RunFolder(tmp_path / "run")).step == 7


@pytest.mark.parametrize("victim", [0, 1])
def test_a_signal_to_one_of_several_processes_stops_and_saves_the_run(tmp_path: Path, victim: int) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    args = ["train", "--data", "text.txt", "--tokenizer", "bytes", "--run", "run"]
    args += settings(1_000_000, **{"save.every": 1_000_000, "sample.every": 0, "eval.every": 0})
    with start(tmp_path, 2, *args) as processes:
        wait_for_step(tmp_path / "run", 3)
        os.kill(processes.all[victim].pid or 0, signal.SIGTERM)
        codes = processes.wait()
        assert codes[victim] == 128 + signal.SIGTERM
        assert codes[1 - victim] == 0
        assert "Traceback" not in processes.errors()
    told = [event for event in events.read(tmp_path / "run" / "events.jsonl") if isinstance(event, events.Step)]
    assert checkpoint.read_newest(RunFolder(tmp_path / "run")).step == told[-1].step
