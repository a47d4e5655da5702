"""Control-C and SIGTERM at any moment: nothing half-written, no traceback, and the run goes on from its last save."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.fault.test_kill import TEXT, ended, finish, settings, start, wait_for_lines
from tests.waiting import LONG_S, wait_until

from nudge import events
from nudge.events import Evaluation, Saved, Step, Stopped
from nudge.runs import checkpoint
from nudge.runs.folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")]
SIGNALS = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def train_args(**more: object) -> list[str]:
    return ["train", "--data", "text.txt", "--tokenizer", "bytes", "--run", "run", *settings(1_000_000, **more)]


def check_stopped(folder: Path) -> None:
    """The last finished update is saved, and nothing else is left."""
    run = RunFolder(folder / "run")
    told = [event for event in events.read(run.events) if isinstance(event, Step | Stopped)]
    assert isinstance(told[-1], Stopped)
    saved = checkpoint.read_newest(run)
    assert (saved.step, saved.verified) == (told[-1].step, True)
    assert all(event.step <= saved.step for event in told)
    assert not list(run.path.rglob("*.part"))
    assert not run.control.exists()
    check_errors(folder)


def check_errors(folder: Path) -> None:
    errors = (folder / "errors.txt").read_text()
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


@SIGNALS
def test_a_signal_during_a_save(folder: Path, number: signal.Signals, code: int) -> None:
    large = {"model.n_embd": 256, "model.block_size": 64, "save.every": 1, "eval.every": 0, "sample.every": 0}
    process, run = start(folder, train_args(**large)), RunFolder(folder / "run")
    wait_for_lines(process, run.path, 6)
    while not list(run.checkpoints.glob(".step_*.part")):
        assert process.is_alive()
    os.kill(process.pid or 0, number)
    assert ended(process) == code
    check_stopped(folder)


@SIGNALS
def test_a_signal_during_an_evaluation(folder: Path, number: signal.Signals, code: int) -> None:
    long = {"eval.every": 3, "eval.tokens": 10_000_000, "sample.every": 0, "save.every": 3, "train.micro_batch": 1}
    (folder / "text.txt").write_text(TEXT * 40)
    process, run = start(folder, train_args(**long)), RunFolder(folder / "run")
    # The save of a step comes before its evaluation, which is long; that of step 0 is the first.
    wait_until(lambda: any(isinstance(event, Saved) for event in events.read(run.events)), "an evaluation")
    os.kill(process.pid or 0, number)
    assert ended(process) == code
    check_stopped(folder)
    assert not any(isinstance(event, Evaluation) for event in events.read(run.events))


@SIGNALS
def test_a_signal_during_a_pause(folder: Path, number: signal.Signals, code: int) -> None:
    process, run = start(folder, train_args()), RunFolder(folder / "run")
    wait_for_lines(process, run.path, 6)
    run.control.write_text("pause")
    os.kill(process.pid or 0, number)
    assert ended(process) == code
    check_stopped(folder)


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        pytest.param(number, moment, marks=() if moment in (0, 5) else pytest.mark.campaign(sample=3))
        for number in (signal.SIGINT, signal.SIGTERM)
        for moment in range(12)
    ],
)
def test_a_signal_while_it_starts(folder: Path, number: signal.Signals, moment: int, chance: random.Random) -> None:
    """While it reads the text, measures the machine, compiles the kernels: nothing is saved, it ends at once."""
    environment = os.environ | {"NUDGE_CACHE": str(folder / "cache")}  # empty: text is prepared, kernels are compiled
    command, run = [sys.executable, "-m", "nudge", *train_args()], RunFolder(folder / "run")
    with (folder / "output.txt").open("wb") as output, (folder / "errors.txt").open("wb") as errors:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=errors)
        wait_until(lambda: (folder / "output.txt").stat().st_size, "its first words")  # Python itself has started
        time.sleep(chance.uniform(moment, moment + 1) / 3)
        process.send_signal(number)
        assert process.wait(LONG_S) in (128 + number, -number)
    check_errors(folder)
    if number == signal.SIGINT:
        assert not list(folder.rglob("*.part"))
    assert not run.is_in_use()
    again = ["resume", "run", "--steps"] if run.run_json.exists() else [*train_args(), "--steps"]
    done = checkpoint.read_newest(run).step if checkpoint.paths(run) else 0
    finish(folder, [*again, str(done + 5)])


@SIGNALS
def test_two_signals_quickly(folder: Path, number: signal.Signals, code: int) -> None:
    """The second may come before anything can react to the first: it ends the process at once."""
    process, run = start(folder, train_args()), RunFolder(folder / "run")
    wait_for_lines(process, run.path, 10)
    for _ in range(2):
        os.kill(process.pid or 0, number)
        time.sleep(0.001)
    assert ended(process) in (code, -number)
    check_errors(folder)
    assert checkpoint.read_newest(run).verified
    finish(folder, ["resume", "run", "--steps", str(checkpoint.read_newest(run).step + 5)])
