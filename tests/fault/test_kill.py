"""A run that is stopped at any moment and resumed makes the same updates, bit for bit, as one that never was."""

import json
import os
import random
import resource
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from tests.processes import FORKS, typed
from tests.waiting import LONG_S

from nudge import events
from nudge.cli import main
from nudge.runs import checkpoint
from nudge.runs.folder import RunFolder
from nudge.util import json_reader

TEXT = "".join(f"{i} squared is {i * i}, and {i} and {i} make {i + i}.\n" for i in range(3000))


def settings(steps: int, **more: object) -> list[str]:
    """A model so small that an update takes milliseconds."""
    values = {
        "model.n_layer": 2,
        "model.n_head": 2,
        "model.n_embd": 32,
        "model.block_size": 32,
        "train.batch_tokens": 256,
        "train.micro_batch": 4,  # two passes an update
        "train.steps": steps,
        "save.every": 10,
        "eval.every": 25,
        "eval.tokens": 512,
        "sample.every": 20,
        "sample.max_tokens": 8,
        "machine.dtype": "float32",
        "machine.threads": 2,
        **more,
    }
    return [f"--set={key}={value}" for key, value in values.items()]


def command(folder: Path, args: list[str], largest_file: int | None) -> None:
    """`nudge ARGS` in `folder`, its output in files."""
    os.chdir(folder)
    for stream, name in ((sys.stdout, "output.txt"), (sys.stderr, "errors.txt")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream.fileno())
    if largest_file is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    main(args)


def start(folder: Path, args: list[str], largest_file: int | None = None) -> BaseProcess:
    """`largest_file`: the most bytes of a file, as on a disk that is full."""
    process = FORKS.Process(target=command, args=(folder, args, largest_file))
    process.start()
    return process


def ended(process: BaseProcess) -> int | None:
    """The exit code; None: still running."""
    process.join(LONG_S)
    return process.exitcode


def finish(folder: Path, args: list[str]) -> None:
    assert ended(start(folder, args)) == 0, (folder / "errors.txt").read_text()


def wait_for_lines(process: BaseProcess, run: Path, count: int) -> None:
    """Until the run's log has that many lines, or the process has ended."""
    while process.is_alive() and lines_of(run) < count:
        time.sleep(0.002)


def lines_of(run: Path) -> int:
    path = run / "events.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def story(run: Path) -> list[dict[str, object]]:
    """What a run said, without the clock and without what only tells of its interruptions."""
    timed = {"time", "tokens_per_s", "step_s", "train_s", "save_s", "sha256", "n_bytes"}
    told = [events.to_json(event) for event in events.read(run / "events.jsonl")]
    told = [line for line in told if line["event"] not in ("started", "stopped")]
    return sorted(
        ({key: value for key, value in line.items() if key not in timed} for line in told),
        key=lambda line: (line["step"], line["event"]),
    )


def assert_same_run(run: Path, reference: Path) -> None:
    assert story(run) == story(reference)
    ours, theirs = checkpoint.read_newest(RunFolder(run)), checkpoint.read_newest(RunFolder(reference))
    assert ours.step == theirs.step
    for name in theirs.model:
        assert torch.equal(ours.model[name], theirs.model[name]), name
    assert ours.optimizer is not None
    assert theirs.optimizer is not None
    for name, moments in theirs.optimizer.items():
        for key, value in moments.items():
            assert torch.equal(ours.optimizer[name][key], value), f"{name}/{key}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def train_args(run: str, steps: int, **more: object) -> list[str]:
    return ["train", "--data", "text.txt", "--tokenizer", "bytes", "--run", run, *settings(steps, **more)]


@pytest.mark.parametrize(
    ("optimizer", "steps", "kills"),
    [
        pytest.param("adamw", 150, 5, marks=pytest.mark.slow),
        pytest.param("adamw", 1500, 50, marks=pytest.mark.campaign(sample=2)),
        pytest.param("muon", 300, 10, marks=pytest.mark.campaign(sample=2)),
    ],
)
def test_killed_at_random_moments(folder: Path, optimizer: str, steps: int, kills: int, chance: random.Random) -> None:
    """kill -9 in the middle of anything: starting up, an update, a save, an evaluation, a sample."""
    options = {"train.optimizer": optimizer}
    finish(folder, train_args("reference", steps, **options))
    run = folder / "killed"
    seen_steps = set()
    for _ in range(kills):
        resuming = (run / "run.json").exists()
        process = start(folder, ["resume", "killed"] if resuming else train_args("killed", steps, **options))
        wait_for_lines(process, run, lines_of(run) + chance.choice([0, 1, 3, 12, 25, 50]))
        time.sleep(chance.uniform(0, 0.03))
        process.kill()
        process.join()
        if (run / "ckpt.pt").exists():
            seen_steps.add(checkpoint.read_newest(RunFolder(run)).step)
    finish(folder, ["resume", "killed"])
    assert len(seen_steps) > kills // 4, "the kills came too early to test much"
    assert not list(run.rglob("*.part")), "what a killed process left stays for ever"
    assert_same_run(run, folder / "reference")


def test_four_threads_resume_bit_for_bit(folder: Path) -> None:
    """More threads share the sums differently, but always in the same way."""
    four = {"machine.threads": 4, "model.n_embd": 64, "model.block_size": 64, "train.batch_tokens": 1024}
    four |= {"model.n_head": 4, "save.every": 5}
    finish(folder, train_args("reference", 25, **four))
    process = start(folder, train_args("stopped", 25, **four))
    wait_for_lines(process, folder / "stopped", 10)
    process.kill()  # a signal that it hears would be one more save
    process.join()
    finish(folder, ["resume", "stopped"])
    assert_same_run(folder / "stopped", folder / "reference")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_last_finished_update(folder: Path, number: signal.Signals, code: int) -> None:
    process = start(folder, train_args("run", 100_000, **{"save.every": 100_000}))
    run = folder / "run"
    wait_for_lines(process, run, 30)
    os.kill(process.pid or 0, number)
    assert ended(process) == code
    told = list(events.read(run / "events.jsonl"))
    stopped = told[-1]
    assert isinstance(stopped, events.Stopped)
    assert stopped.reason == "interrupted"
    saved = checkpoint.read_newest(RunFolder(run))
    assert saved.verified
    assert saved.step == stopped.step == max(event.step for event in told if isinstance(event, events.Step))
    assert not (run / "control").exists()


@pytest.mark.slow
def test_a_signal_during_an_evaluation_does_not_wait_for_its_end(folder: Path) -> None:
    """A cluster gives a job some 30 s, and an evaluation may take minutes."""
    (folder / "text.txt").write_text(TEXT * 20)
    long = {"model.n_layer": 4, "model.n_embd": 128, "eval.tokens": 100_000_000, "sample.every": 0}
    process = start(folder, train_args("run", 100, **long))
    run = folder / "run"
    wait_for_lines(process, run, 2)  # started, saved; then comes the first evaluation
    time.sleep(0.3)
    begun = time.monotonic()
    os.kill(process.pid or 0, signal.SIGTERM)
    assert ended(process) == 143
    assert time.monotonic() - begun < 15
    assert [json.loads(line)["event"] for line in (run / "events.jsonl").read_text().splitlines()] == [
        "started",
        "saved",
        "stopped",
    ]
    assert checkpoint.read_newest(RunFolder(run)).verified


def test_a_second_signal_ends_it_at_once(folder: Path) -> None:
    process = start(folder, train_args("run", 100_000))
    wait_for_lines(process, folder / "run", 10)
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):  # both before it can react to one
        os.kill(process.pid or 0, number)
    assert ended(process) in (130, 143)
    assert checkpoint.read_newest(RunFolder(folder / "run")).verified


def test_a_torn_event_log_goes_on(folder: Path) -> None:
    finish(folder, train_args("run", 20))
    log = folder / "run" / "events.jsonl"
    log.write_bytes(log.read_bytes()[:-20])  # a power cut in the middle of the last line
    finish(folder, ["resume", "run", "--steps", "30"])
    lines = list(json_reader.read_lines(log, dict))
    assert [line["step"] for line in lines if line["event"] == "step"] == list(range(1, 31))


def test_full_disk_in_the_middle_of_a_save(folder: Path) -> None:
    """The save fails with one clear line; the checkpoint before it is intact and the run goes on from there."""
    args = train_args("run", 30, **{"save.every": 1000})
    # More than the weights alone at update 0, less than with the optimizer's state.
    assert ended(start(folder, args, largest_file=200_000)) == 2
    errors = (folder / "errors.txt").read_text()
    assert "could not save step_00000030.pt: File too large (the checkpoint before it is intact)" in errors
    assert "nudge resume run" in errors
    assert "Traceback" not in errors
    assert not list((folder / "run").rglob("*.part"))
    assert checkpoint.read_newest(RunFolder(folder / "run")).step == 0
    finish(folder, ["resume", "run"])
    finish(folder, train_args("reference", 30, **{"save.every": 1000}))
    assert_same_run(folder / "run", folder / "reference")


def test_two_processes_cannot_work_on_one_run(folder: Path) -> None:
    process = start(folder, train_args("run", 100_000))
    try:
        wait_for_lines(process, folder / "run", 5)
        assert ended(start(folder, ["resume", "run"])) == 2
        assert "in use by another nudge process" in (folder / "errors.txt").read_text()
    finally:
        process.kill()
        process.join()


def test_json_events_are_the_log(folder: Path) -> None:
    said = typed(folder, *train_args("run", 5), "--json").stdout
    printed = [json.loads(line) for line in said.splitlines()]
    logged = list(json_reader.read_lines(folder / "run" / "events.jsonl", dict))
    assert [line for line in printed if line["event"] != "preparing"] == logged
