"""Commands in processes of their own without their seconds of imports: forked from one that is ready to go."""

import contextlib
import multiprocessing
import os
import shlex
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from tests.waiting import LONG_S, wait_until

if sys.platform == "win32":  # where no process forks
    pytest.skip("forks processes", allow_module_level=True)

from nudge import events
from nudge.cli import main
from nudge.events import Evaluation, Step
from nudge.runs.folder import RunFolder

# A fork must not inherit running threads, so the server imports everything and computes nothing.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["nudge.train.run", "nudge.cli.live", "nudge.cli.run_report", "torch._dynamo", "torch.distributed.fsdp"]
)


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _work(folder: Path, home: Path, name: str, args: list[str], environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(home)
    typed_in = folder / f"{name}.in"
    os.dup2(os.open(typed_in if typed_in.exists() else os.devnull, os.O_RDONLY), 0)
    sys.stdin = os.fdopen(0, closefd=False)  # multiprocessing closed it
    for stream, kind in ((sys.stdout, "out"), (sys.stderr, "err")):
        os.dup2(os.open(folder / f"{name}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    main(args)


def typed(home: Path, *args: str, stdin: bytes | None = None, **environment: str) -> CompletedProcess[bytes]:
    """`nudge ARGS` in the folder `home`, as a person types it there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if stdin is not None:
            (folder / "it.in").write_bytes(stdin)
        process = FORKS.Process(target=_work, args=(folder, home, "it", list(args), os.environ | environment))
        process.start()
        process.join(LONG_S)
        try:
            assert process.exitcode is not None, f"nudge {shlex.join(args)} goes on and on"
            said = [(folder / f"it.{kind}").read_bytes() for kind in ("out", "err")]
            return CompletedProcess(["nudge", *args], process.exitcode, *said)
        finally:
            process.kill()
            process.join()


def _work_in_terminal(terminal: str, home: Path, args: list[str], environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(home)
    opened = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
    for number in range(3):
        os.dup2(opened, number)
    sys.stdin = os.fdopen(0, closefd=False)
    main(args)


def in_terminal(home: Path, *args: str, columns: int = 250) -> tuple[int | None, bytes]:
    """`nudge ARGS` in the folder `home`, typed in a real terminal: its exit code and every byte the terminal gets."""
    import fcntl
    import termios

    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color"}
    process = FORKS.Process(target=_work_in_terminal, args=(os.ttyname(slave), home, list(args), environment))
    got = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # Linux: EIO when the last writer has closed it
            while part := os.read(master, 65536):
                got.extend(part)

    reader = threading.Thread(target=read)
    process.start()
    reader.start()
    try:
        process.join(LONG_S)
        assert process.exitcode is not None, f"nudge {shlex.join(args)} goes on and on"
    finally:
        process.kill()
        process.join()
        os.close(slave)
        reader.join()
        os.close(master)
    return process.exitcode, bytes(got)


@dataclass
class Processes:
    """The processes of one command, and what each of them said."""

    folder: Path
    all: list[BaseProcess]
    first: int = 0

    def wait(self, timeout_s: float = LONG_S) -> list[int | None]:
        """The exit codes; None for one that did not end in time."""
        end = time.monotonic() + timeout_s
        for process in self.all:
            process.join(max(0.0, end - time.monotonic()))
        return [process.exitcode for process in self.all]

    def said(self, rank: int) -> str:
        """All that a process wrote, its errors last."""
        return "".join((self.folder / f"{rank}.{kind}").read_text(errors="replace") for kind in ("out", "err"))

    def errors(self) -> str:
        """What all processes wrote as errors."""
        ranks = range(self.first, self.first + len(self.all))
        return "".join((self.folder / f"{rank}.err").read_text(errors="replace") for rank in ranks)


@contextlib.contextmanager
def start(
    folder: Path,
    n: int,
    *args: str,
    first: int = 0,
    size: int | None = None,
    port: int | None = None,
    last: tuple[str, ...] = (),
    apart: bool = False,
) -> Iterator[Processes]:
    """`nudge ARGS` in n processes; none is left at the end.

    `first`: the lowest rank, the first one on its machine. `size`: how many they believe to be. `last`: more arguments
    for the last of them only. `apart`: each in a folder of its own, as on machines without a shared disk.
    """
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port or free_port()), "OMP_NUM_THREADS": "1"}
    started = []
    for rank in range(first, first + n):
        place = {"RANK": rank, "LOCAL_RANK": rank - first, "WORLD_SIZE": size or n, "LOCAL_WORLD_SIZE": size or n}
        if n == 1 and size is None:
            place = {}
        environment = os.environ | where | {key: str(value) for key, value in place.items()}
        more = last if rank == first + n - 1 else ()
        home = folder / str(rank) if apart else folder
        home.mkdir(exist_ok=True)
        process = FORKS.Process(target=_work, args=(folder, home, str(rank), [*args, *more], environment))
        process.start()
        started.append(process)
    processes = Processes(folder, started, first)
    try:
        yield processes
    finally:
        for process in started:
            process.kill()
            process.join()


def run(folder: Path, n: int, *args: str) -> Processes:
    """`nudge ARGS` in n processes, to its end, which must be a good one."""
    with start(folder, n, *args) as processes:
        codes = processes.wait()
        assert codes == n * [0], processes.errors() or codes
        return processes


def losses(run_folder: Path) -> dict[tuple[str, int], float]:
    """Every loss that a run told of."""
    told = events.read(RunFolder(run_folder).events)
    return {(type(event).__name__, event.step): event.loss for event in told if isinstance(event, Step | Evaluation)}


def wait_for_step(run_folder: Path, step: int) -> None:
    """Wait until a run told of that update."""
    wait_until(lambda: ("Step", step) in losses(run_folder), f"update {step}")
