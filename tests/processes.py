"""One command in several processes, as torchrun starts them but without its seconds of imports: forked, ready to go."""

import contextlib
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from nudge import events
from nudge.cli import main
from nudge.events import Evaluation, Step
from nudge.runs.folder import RunFolder

# A fork must not inherit running threads, so the server imports everything and computes nothing.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["nudge.train.run", "nudge.cli.live", "nudge.cli.run_report", "torch._dynamo", "torch.distributed.fsdp"]
)
LONG_S = 120  # a test fails rather than waits for ever


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _work(folder: Path, home: Path, rank: int, args: list[str], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    os.chdir(home)
    for stream, kind in ((sys.stdout, "out"), (sys.stderr, "err")):
        os.dup2(os.open(folder / f"{rank}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    main(args)


@dataclass
class Processes:
    """The processes of one command, and what each of them said."""

    folder: Path
    all: list[BaseProcess]

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
        return "".join((self.folder / f"{rank}.err").read_text(errors="replace") for rank in range(len(self.all)))


@contextlib.contextmanager
def start(
    folder: Path,
    n: int,
    *args: str,
    size: int | None = None,
    port: int | None = None,
    last: tuple[str, ...] = (),
    apart: bool = False,
) -> Iterator[Processes]:
    """`nudge ARGS` in n processes; none is left at the end.

    `size`: how many they believe to be. `last`: more arguments for the last of them only. `apart`: each in a folder of
    its own, as on machines without a shared disk.
    """
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port or free_port()), "OMP_NUM_THREADS": "1"}
    started = []
    for rank in range(n):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size or n, "LOCAL_WORLD_SIZE": size or n}
        if n == 1 and size is None:
            place = {}
        environment = where | {key: str(value) for key, value in place.items()}
        more = last if rank == n - 1 else ()
        home = folder / str(rank) if apart else folder
        home.mkdir(exist_ok=True)
        process = FORKS.Process(target=_work, args=(folder, home, rank, [*args, *more], environment))
        process.start()
        started.append(process)
    processes = Processes(folder, started)
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
    end = time.monotonic() + LONG_S
    while ("Step", step) not in losses(run_folder):
        assert time.monotonic() < end, f"update {step} did not come"
        time.sleep(0.05)
