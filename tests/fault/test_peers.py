"""The processes of a run do not trust each other with code: what one sends, no other unpickles."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.fault.test_processes import TEXT, options
from tests.processes import FORKS, free_port, run
from tests.refusals import refused
from tests.waiting import LONG_S

from nudge.config import MachineConfig
from nudge.distributed.rendezvous import rendezvous
from nudge.distributed.world import MOST_BYTES, World
from nudge.errors import DataError
from nudge.runs import checkpoint
from nudge.runs.folder import RunFolder


class Hostile:
    """Its pickle leaves a file of the process that loads it."""

    def __reduce__(self) -> Any:
        return exec, ("import os; open('loaded by ' + os.environ['RANK'], 'w').close()",)


def _place(rank: int, port: int, folder: Path) -> None:
    os.chdir(folder)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in place.items()}, MASTER_ADDR="127.0.0.1")


def _send(world: World, data: bytes) -> None:
    """Take part in a `gather`, as a process that is not ours would."""
    longest = max(world.gather_rows(torch.tensor([len(data)])).tolist())
    world.gather_rows(torch.frombuffer(bytearray(data.ljust(longest)), dtype=torch.uint8)[None])


def _receive_bytes(rank: int, port: int, folder: Path) -> None:
    _place(rank, port, folder)
    hostile = pickle.dumps(Hostile())
    with rendezvous(MachineConfig(timeout_s=30)) as world:
        for data in (hostile, b"\xff\xfe{}", b"[" * 100_000, b"", json.dumps([1, "한"]).encode()[:-2]):
            if rank == 1:
                _send(world, data)
                continue
            with refused("run.foreign_process", process=f"rank 1 ({world.names[1]})"):
                world.gather("ours")
        if rank == 1:
            world.gather_rows(torch.tensor([MOST_BYTES + 1]))  # and nothing that long
        else:
            with refused("run.foreign_process"):
                world.gather("ours")
    if rank == 1:
        pickle.loads(hostile)


def _exchange_values(rank: int, port: int, folder: Path) -> None:
    _place(rank, port, folder)
    values: list[Any] = [None, True, 2**62, -0.1, float("inf"), "한 \ud800 \n", [], {"a": [1, {"b": None}]}]
    with rendezvous(MachineConfig(timeout_s=30)) as world:
        for value in values:
            assert world.gather([rank, value]) == [[0, value], [1, value]]
        assert world.gather("x" * (1 + rank * 100_000)) == ["x", "x" * 100_001]
        assert world.run_on_rank0(lambda: {"from": rank}) == {"from": 0}

        def fail() -> None:
            raise DataError("shard_size", path=folder / "한", folder=folder, **sizes)

        sizes = {name: np.int64(7000) for name in ("n_bytes", "n_tokens", "expected_bytes", "expected_tokens")}
        expected = DataError("shard_size", path=folder / "한", folder=folder, **sizes)
        with refused("data.shard_size", path=str(folder / "한"), n_bytes=7000) as raised:
            world.run_all(fail)
        assert raised.value.message == expected.message
        with refused("data.shard_size"):
            world.run_on_rank0(fail)
        with refused("data.shard_size") as raised:
            world.run_all(fail if rank == 1 else lambda: None)
        assert raised.value.where.startswith("process 1 on ")


def in_two_processes(work: Any, folder: Path) -> None:
    port = free_port()
    processes = [FORKS.Process(target=work, args=(rank, port, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(LONG_S)
        assert [process.exitcode for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.join()


@pytest.mark.slow
def test_bytes_that_are_no_message_are_refused_and_never_unpickled(tmp_path: Path) -> None:
    in_two_processes(_receive_bytes, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["loaded by 1"]  # where the sender itself loaded them


@pytest.mark.slow
def test_values_and_errors_arrive_as_they_were_sent(tmp_path: Path) -> None:
    in_two_processes(_exchange_values, tmp_path)


# Before anything is imported that could keep the real ones.
GUARD = """
import os, pickle, sys

def refuse(*given, **named):
    sys.stderr.write("something was unpickled")
    sys.stderr.flush()
    os._exit(9)

class Unpickler(pickle.Unpickler):
    load = refuse

pickle.load, pickle.loads, pickle.Unpickler = refuse, refuse, Unpickler
"""
TRAIN = "from nudge.cli import main; main(sys.argv[1:])"
OBJECTS = """
import torch.distributed as dist
dist.init_process_group("gloo")
dist.all_gather_object([None, None], "something")
"""


def guarded(folder: Path, code: str, *args: str) -> list[int]:
    """The exit codes of two processes in which nothing can be unpickled."""
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = []
    for rank in range(2):
        with (folder / f"{rank}.err").open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-c", GUARD + code, *args],
                cwd=folder,
                env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stderr=errors,
            )
        started.append(process)
    try:
        return [process.wait(LONG_S) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_sharded_run_that_saves_and_resumes_unpickles_nothing(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    settings = options(tmp_path / "text.txt", **{"train.steps": 4, "save.every": 2, "machine.shard": "true"})
    for args in (("train", *settings, "--run", "run"), ("resume", "run", "--steps", "6")):
        assert guarded(tmp_path, TRAIN, *args) == [0, 0], (tmp_path / "0.err").read_text()
    assert checkpoint.read_newest(RunFolder(tmp_path / "run")).step == 6


@pytest.mark.slow
def test_the_guard_sees_what_torch_unpickles(tmp_path: Path) -> None:
    assert guarded(tmp_path, OBJECTS) == [9, 9]


@pytest.mark.slow
def test_a_sharded_save_follows_no_link_and_leaves_nothing_over(tmp_path: Path) -> None:
    """Under the run's lock, whatever has the name of a save in progress was left by a process that is gone."""
    (tmp_path / "text.txt").write_text(TEXT)
    outside, checkpoints = tmp_path / "outside", tmp_path / "run" / "checkpoints"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")
    checkpoints.mkdir(parents=True)
    for name in (".step_00000000.parts.part", ".step_00000004.parts.before"):  # names that could be guessed
        (checkpoints / name).symlink_to(outside)
    left_over = checkpoints / ".step_00000002.parts.0123abcd.1.0123456789abcdef.part"
    left_over.mkdir()
    (left_over / "shard-00001.safetensors").write_bytes(b"half")
    settings = options(tmp_path / "text.txt", **{"train.steps": 2, "save.every": 2, "machine.shard": "true"})
    run(tmp_path, 2, "train", *settings, "--run", "run")
    assert [path.name for path in outside.iterdir()] == ["mine.txt"]
    assert sorted(path.name for path in checkpoints.iterdir()) == [
        "index.jsonl",
        "step_00000000.parts",
        "step_00000002.parts",
    ]
