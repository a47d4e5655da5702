"""One run in several processes: the same numbers as in one, and what happens when one of them is lost."""

import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from tests.processes import Processes, free_port, losses, run, start, wait_for_step
from tests.waiting import LONG_S, wait_until

from nudge import events
from nudge.config import MachineConfig
from nudge.distributed.rendezvous import rendezvous
from nudge.errors import CheckpointError, RunError
from nudge.infer.engine import load
from nudge.runs import checkpoint
from nudge.runs.folder import RunFolder
from nudge.train import control
from nudge.util import json_reader

TEXT = "".join(f"{i} squared is {i * i}, and {i} and {i} make {i + i}.\n" for i in range(3000))
ROUNDING = 2e-5  # float32 sums in another order; after 12 updates the losses below differ by 2e-6 at most


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


def options(text: Path, **more: object) -> list[str]:
    """A network so small that an update takes milliseconds."""
    values = {
        "model.n_layer": 3,
        "model.n_head": 2,
        "model.n_embd": 32,
        "model.block_size": 32,
        "train.batch_tokens": 256,
        "train.steps": 12,
        "train.warmup_steps": 4,
        "train.lr": 1e-3,
        "save.every": 4,
        "save.keep_last": 9,
        "eval.every": 6,
        "eval.tokens": 1000,
        "sample.every": 12,
        "sample.max_tokens": 8,
        "machine.dtype": "float32",
        "machine.timeout_s": 20,
        **more,
    }
    return ["--data", str(text), "--tokenizer", "bytes", *(f"--set={key}={value}" for key, value in values.items())]


Losses = dict[tuple[str, int], float]


def furthest(one: Losses, other: Losses) -> float:
    assert one.keys() == other.keys()
    return max(abs(one[key] - other[key]) for key in one)


@pytest.fixture(scope="module")
def alone(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Losses]:
    """The losses of one process, by optimizer and way to compute an update."""
    folder = tmp_path_factory.mktemp("alone")

    @functools.cache
    def find(optimizer: str, update: str) -> Losses:
        chosen = {"train.optimizer": optimizer, "machine.update": update}
        run(folder, 1, "train", *options(text, **chosen), "--run", f"{optimizer} {update}")
        return losses(folder / f"{optimizer} {update}")

    return find


WAYS: dict[str, tuple[int, dict[str, object]]] = {
    "2 fast, two passes each": (2, {"machine.update": "fast", "train.micro_batch": 2}),
    "4 fast": (4, {"machine.update": "fast"}),
    "2 DDP, four passes each": (2, {"machine.update": "eager", "train.micro_batch": 1}),
    "4 DDP": (4, {"machine.update": "eager"}),
    "2 FSDP, two passes each": (2, {"machine.shard": "true", "train.micro_batch": 2}),
    "4 FSDP, activations recomputed": (4, {"machine.shard": "true", "machine.recompute": "true"}),
}
ALWAYS = {("adamw", "2 fast, two passes each"), ("muon", "2 DDP, four passes each")}  # the others in a campaign


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "way"),
    [
        pytest.param(*both, marks=() if both in ALWAYS else pytest.mark.campaign(sample=4))
        for both in itertools.product(("adamw", "muon"), WAYS)
    ],
)
def test_any_number_of_processes_makes_the_same_updates(
    optimizer: str, way: str, text: Path, alone: Callable[[str, str], Losses], tmp_path: Path
) -> None:
    n, how = WAYS[way]
    run(tmp_path, n, "train", *options(text, **{"train.optimizer": optimizer, **how}), "--run", "run")
    update = "fast" if how.get("machine.update") == "fast" else "eager"
    assert furthest(alone(optimizer, update), losses(tmp_path / "run")) < ROUNDING
    started = next(
        event for event in events.read(RunFolder(tmp_path / "run").events) if isinstance(event, events.Started)
    )
    assert started.processes == n


@pytest.mark.campaign
def test_in_bfloat16_sharded_processes_learn_as_others_do(text: Path, tmp_path: Path) -> None:
    """Rounding to 8 bits makes other numbers, but not other ones than DDP's by more than that."""
    for name, how in (("ddp", {"machine.update": "eager"}), ("fsdp", {"machine.shard": "true"})):
        run(tmp_path, 2, "train", *options(text, **{"machine.dtype": "bfloat16", **how}), "--run", name)
    assert furthest(losses(tmp_path / "ddp"), losses(tmp_path / "fsdp")) < 0.02


@pytest.mark.campaign
@pytest.mark.parametrize("how", [{}, {"machine.shard": "true"}], ids=["DDP", "FSDP"])
def test_a_run_goes_on_with_any_number_of_processes(how: dict[str, object], text: Path, tmp_path: Path) -> None:
    run(tmp_path, 1, "train", *options(text, **{"train.optimizer": "muon", **how}), "--run", "run")
    reference, folder = losses(tmp_path / "run"), RunFolder(tmp_path / "run")
    for n, saved in ((2, 0), (4, 4), (1, 8)):
        for path in checkpoint.paths(folder):
            if int(path.stem.removeprefix("step_")) > saved:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        done = run(tmp_path, n, "resume", "run")
        assert f"{saved} updates are made" in done.said(0)
        assert furthest(reference, losses(folder.path)) < ROUNDING
    assert load(folder.path).step == 12


def endless(text: Path, **more: object) -> list[str]:
    """A run that a test ends."""
    settings = {"train.steps": 1_000_000, "save.every": 5, "eval.every": 0, "sample.every": 0, "machine.timeout_s": 60}
    return ["train", *options(text, **{**settings, **more}), "--run", "run"]


HOW = {"DDP": {}, "FSDP": {"machine.shard": "true"}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "number", "how"),
    [
        pytest.param(*case, marks=() if case == (1, signal.SIGKILL, "DDP") else pytest.mark.campaign(sample=3))
        for case in itertools.product((0, 1), (signal.SIGKILL, signal.SIGSTOP), HOW)
    ],
)
def test_a_process_that_dies_or_hangs_is_named_and_the_run_goes_on(
    victim: int, number: signal.Signals, how: str, text: Path, tmp_path: Path
) -> None:
    words = "is gone" if number == signal.SIGKILL else "did not answer for 10 s"
    settings = {**HOW[how], "train.batch_tokens": 192, "machine.timeout_s": 10}
    with start(tmp_path, 3, *endless(text, **settings)) as processes:
        wait_for_step(tmp_path / "run", 6)
        lost = processes.all[victim]
        os.kill(lost.pid or 0, number)
        others = [process for process in processes.all if process is not lost]
        assert Processes(tmp_path, others).wait() == [2, 2]
        errors = processes.errors()
    assert f"error: rank {victim} (process {lost.pid} on {socket.gethostname()}) {words}" in errors
    assert errors.count("error:") == 1  # one process tells it, not each
    assert "Traceback" not in errors
    run(tmp_path, 2, "resume", "run", "--steps", "24")
    assert losses(tmp_path / "run").keys() >= {("Step", step) for step in range(1, 25)}


@pytest.mark.campaign
def test_a_process_that_dies_during_an_evaluation_is_named_too(text: Path, tmp_path: Path) -> None:
    much = {"machine.shard": "true", "eval.every": 1, "eval.tokens": 1_000_000, "train.micro_batch": 1}
    with start(tmp_path, 2, *endless(text, **much)) as processes:
        first, second = processes.all
        # What is saved first is what there is before update 1; then the first evaluation begins, which is long.
        wait_until(lambda: checkpoint.paths(RunFolder(tmp_path / "run")), "a checkpoint")
        at_work = psutil.Process(second.pid)
        before = at_work.cpu_times().user
        wait_until(lambda: at_work.cpu_times().user > before + 0.5, "an evaluation under way")
        second.kill()
        first.join(LONG_S)
        assert first.exitcode == 2
        assert "error: rank 1" in processes.said(0)
        assert "Traceback" not in processes.said(0)


@pytest.mark.slow
def test_too_few_processes_are_said_to_be_missing(text: Path, tmp_path: Path) -> None:
    with start(tmp_path, 2, *endless(text, **{"machine.timeout_s": 10}), size=4) as processes:
        assert processes.wait() == [2, 2]
        assert "error: 2 of 4 processes came within 10 s: missing rank 2, rank 3" in processes.said(0)
        assert "WORLD_SIZE" in processes.said(0)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_port_that_is_taken_is_said_to_be(text: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start(tmp_path, 2, *endless(text, **{"machine.timeout_s": 10}), port=port) as processes:
            assert processes.wait()[0] == 2
            assert f"error: port {port} on {socket.gethostname()} is taken by another program" in processes.said(0)
            assert "Traceback" not in processes.errors()


@pytest.mark.slow
def test_a_meeting_place_that_nobody_opens_is_an_error_after_the_time_out(text: Path, tmp_path: Path) -> None:
    port = free_port()
    with start(tmp_path, 1, *endless(text, **{"machine.timeout_s": 4}), first=1, size=2, port=port) as processes:
        assert processes.wait() == [2]
        assert f"error: process 1 cannot reach the rendezvous 127.0.0.1:{port} within 4 s" in processes.said(1)
        assert "Traceback" not in processes.said(1)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is set to 2, but not RANK and MASTER_ADDR and MASTER_PORT"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, "there is no rank 2 among 2"),
        ({"WORLD_SIZE": "two", "RANK": "0", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, "not made of whole numbers"),
    ],
)
def test_a_launcher_that_says_nonsense_is_told_so(
    environment: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match=words), rendezvous(MachineConfig()):
        pass


@pytest.mark.slow
def test_processes_with_other_text_or_options_are_refused(text: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text(TEXT + "one more line\n")
    args = endless(text)
    for different, words in (
        (("--data", str(tmp_path / "other.txt")), "process 1 has other tokens"),
        (("--set=train.lr=0.5",), "process 1 was started with another train.lr than process 0"),
    ):
        port = free_port()
        with start(tmp_path, 2, *args, port=port, last=different) as processes:
            assert processes.wait() == [2, 2]
            assert f"error: {words}" in processes.said(0)
            assert "Traceback" not in processes.errors()
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_that_cannot_share_evenly_are_told_how_many_can(text: Path, tmp_path: Path) -> None:
    with start(tmp_path, 3, *endless(text)) as processes:
        assert processes.wait() == [2, 2, 2]
        assert "error: 3 processes cannot share the 8 windows of an update evenly" in processes.said(0)
        assert "start 1, 2, 4, 8 of them" in processes.said(0)
        assert processes.errors().count("error:") == 1


@pytest.mark.slow
def test_several_processes_hear_save_pause_and_stop_together(text: Path, tmp_path: Path) -> None:
    folder, timeout_s = RunFolder(tmp_path / "run"), 5
    often = {"save.every": 1_000_000, "machine.timeout_s": timeout_s}
    with start(tmp_path, 2, *endless(text, **often)) as processes:
        wait_for_step(folder.path, 3)
        control.send(folder, "save")
        wait_until(lambda: len(checkpoint.paths(folder)) == 2, "a second checkpoint")
        control.send(folder, "pause")
        wait_for_silence(folder, 1.5 * timeout_s)  # they wait with, not for, each other
        control.send(folder, "resume")
        wait_for_step(folder.path, len(losses(folder.path)) + 5)
        control.send(folder, "stop")
        assert processes.wait() == [0, 0]
        assert "which is saved" in processes.said(0)
    last = [event for event in events.read(folder.events) if isinstance(event, events.Step)][-1]
    assert checkpoint.read_newest(folder).step == last.step


def wait_for_silence(folder: RunFolder, seconds: float) -> None:
    """Wait until a run has told of nothing new for so long."""
    seen = time.monotonic(), 0

    def silent() -> bool:
        nonlocal seen
        since, told = seen
        if (now := folder.events.stat().st_size) != told:
            seen = time.monotonic(), now
        return time.monotonic() - since > seconds

    wait_until(silent, "a pause")


def torchrun(*args: str, cwd: Path, out: Path) -> subprocess.Popen[bytes]:
    """The real launcher, with two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", *args]
    with out.open("wb") as file:
        return subprocess.Popen(command, cwd=cwd, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def workers(launcher: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [child for child in psutil.Process(launcher.pid).children() if "nudge" in child.cmdline()]


@pytest.mark.campaign
def test_torchrun_starts_a_run_again_that_lost_a_process_and_it_goes_on_by_itself(
    text: Path, tmp_path: Path, alone: Callable[[str, str], Losses]
) -> None:
    settings = options(text, **{"train.optimizer": "muon", "train.steps": 12, "save.every": 2})
    args = ("--max-restarts=1", "--standalone", "-m", "--", "nudge", "train", *settings)
    with torchrun(*args, cwd=tmp_path, out=tmp_path / "out.txt") as launcher:
        folder = RunFolder(tmp_path / "runs" / "tiny")  # its own choice: it must find it again
        wait_for_step(folder.path, 3)
        control.send(folder, "pause")  # so that the end does not come first
        workers(launcher)[1].kill()
        launcher.wait(LONG_S)
    assert launcher.returncode == 0, (tmp_path / "out.txt").read_text()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny"]
    assert furthest(alone("muon", "fast"), losses(folder.path)) < ROUNDING
    assert (
        sum(isinstance(event, events.Started) for event in map(events.from_line, json_reader.lines(folder.events))) == 2
    )


MEETINGS = {
    "as nudge launch writes it": "--rdzv-backend=static --rdzv-endpoint=127.0.0.1:{port}",
    "as others type it": "--rdzv-backend=c10d --rdzv-endpoint=127.0.0.1:{port}",
}


@pytest.mark.campaign
@pytest.mark.parametrize("meeting", MEETINGS)
def test_two_launchers_that_count_their_restarts_apart_meet_again(
    meeting: str, text: Path, tmp_path: Path, alone: Callable[[str, str], Losses]
) -> None:
    settings = options(text, **{"train.optimizer": "muon", "machine.update": "fast", "save.every": 2})
    where = [*MEETINGS[meeting].format(port=free_port()).split(), "--rdzv-id=two", "--nnodes=2"]
    command = [sys.executable, "-m", "torch.distributed.run", *where, "--nproc-per-node=1", "--max-restarts=2"]
    command += ["-m", "--", "nudge", "train", *settings, "--run", "run"]
    folder, outputs = RunFolder(tmp_path / "run"), [tmp_path / f"{name}.txt" for name in ("one", "two")]
    launchers = []
    try:
        for node, output in enumerate(outputs):
            with output.open("wb") as file:
                place = os.environ | {"PET_NODE_RANK": str(node)}  # as the Slurm job sets it; c10d does not read it
                launchers.append(subprocess.Popen(command, cwd=tmp_path, env=place, stdout=file, stderr=file))
        wait_for_step(folder.path, 3)
        control.send(folder, "pause")  # so that the end does not come first
        workers(launchers[1])[0].kill()
        assert [launcher.wait(LONG_S) for launcher in launchers] == [0, 0], [o.read_text() for o in outputs]
    finally:
        for launcher in launchers:
            for worker in workers(launcher) if launcher.poll() is None else ():
                worker.kill()
            launcher.kill()
            launcher.wait()
    assert furthest(alone("muon", "fast"), losses(folder.path)) < ROUNDING
    assert "cannot speak with them" not in "".join(output.read_text() for output in outputs)


@pytest.mark.campaign
def test_a_single_process_that_torchrun_starts_again_goes_on(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    command = ["--nproc-per-node=1", "--max-restarts=1", "--standalone", "-m", "--", "nudge", "train"]
    with torchrun(*command, *options(text, **{"save.every": 2}), cwd=tmp_path, out=out) as launcher:
        folder = RunFolder(tmp_path / "runs" / "tiny")
        wait_for_step(folder.path, 3)
        control.send(folder, "pause")
        workers(launcher)[0].kill()
        launcher.wait(LONG_S)
    assert launcher.returncode == 0, out.read_text()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny"]
    assert len(losses(folder.path)) == 12 + 3


@pytest.mark.campaign
def test_processes_whose_launcher_is_killed_save_and_end(text: Path, tmp_path: Path) -> None:
    args = ("--standalone", "-m", "--", "nudge", *endless(text, **{"save.every": 1_000_000}))
    with torchrun(*args, cwd=tmp_path, out=tmp_path / "out.txt") as launcher:
        folder = RunFolder(tmp_path / "run")
        wait_for_step(folder.path, 3)
        left = workers(launcher)
        launcher.send_signal(signal.SIGSTOP)  # a launcher that sleeps is no reason to stop
        done = len(losses(folder.path))
        wait_for_step(folder.path, done + 10)
        launcher.kill()
    _, alive = psutil.wait_procs(left, timeout=LONG_S)
    assert not alive
    assert not folder.is_in_use()
    assert checkpoint.read_newest(folder).step > done


@pytest.mark.campaign
def test_control_c_and_sigterm_to_the_launcher_save_the_last_update(text: Path, tmp_path: Path) -> None:
    args = ("--standalone", "-m", "--", "nudge", *endless(text, **{"save.every": 1_000_000}))
    with torchrun(*args, cwd=tmp_path, out=tmp_path / "out.txt") as launcher:
        folder = RunFolder(tmp_path / "run")
        wait_for_step(folder.path, 3)
        for process in (psutil.Process(launcher.pid), *workers(launcher)):  # as a terminal does it: to all at once
            process.send_signal(signal.SIGINT)
        launcher.wait(LONG_S)
    assert launcher.returncode != 0
    last = [event for event in events.read(folder.events) if isinstance(event, events.Step)][-1]
    assert checkpoint.read_newest(folder).step == last.step


@pytest.mark.slow
def test_a_checkpoint_of_several_files_is_one_for_everything_else(text: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    run(tmp_path, 2, "train", *options(text, **{"machine.shard": "true"}), "--run", "run")
    path = checkpoint.paths(folder)[0]
    assert path.is_dir()
    assert folder.ckpt.resolve() == path.resolve()
    whole = checkpoint.read(folder.ckpt)
    assert whole.verified
    assert whole.step == 12
    assert whole.optimizer
    run(tmp_path, 1, "export", "run", "--to", "hf", "--out", "exported")
    run(tmp_path, 1, "export", "run", "--to", "ckpt", "--out", "one")
    one = checkpoint.find(tmp_path / "one")
    assert one.verified
    assert one.step == 12
    for name, weight in whole.model.items():
        assert torch.equal(one.model[name], weight)
    assert one.optimizer is not None
    assert all(
        torch.equal(one.optimizer[name]["exp_avg"], state["exp_avg"])
        for name, state in whole.optimizer.items()
        if "exp_avg" in state
    )
    run(tmp_path, 1, "inspect", "run")
    run(tmp_path, 1, "sample", "run", "--max-tokens", "4")

    part = next(path.glob("shard-00002.*"))
    shutil.copy(part, path / "shard-00003.safetensors")
    with pytest.raises(CheckpointError, match=r"shard-00003\S+ does not belong to it"):
        checkpoint.read(path, verify=False)
    (path / "shard-00003.safetensors").unlink()
    damaged = bytearray(part.read_bytes())
    damaged[-5] ^= 1
    part.write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"shard-00002\S+ is damaged: its SHA-256 differs"):
        checkpoint.read(path)
    before = checkpoint.read_newest(folder)
    assert before.step == 8
    assert "skipped" in before.notes[0]
    (path / checkpoint.PARTS).unlink()
    with pytest.raises(CheckpointError, match="cannot be read: No such file or directory"):
        checkpoint.read(path)


@pytest.mark.campaign
def test_sharded_processes_that_share_no_disk_are_told_at_the_first_save(text: Path, tmp_path: Path) -> None:
    with start(tmp_path, 2, *endless(text, **{"machine.shard": "true"}), apart=True) as processes:
        assert processes.wait() == [2, 2]
        assert "is it on a disk that they share" in processes.said(0)
        assert "Traceback" not in processes.errors()
