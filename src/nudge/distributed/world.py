"""The processes of one run: how they exchange values and agree, and how they find out which of them went missing.

torchrun, or another launcher that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, starts one command several times.
Each process has a `World` and does the same things in the same order. A run of a single process is a world of size 1,
for which the methods below return at once.
"""

import contextlib
import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from nudge.errors import LostError, NudgeError, RunError, first_line

T = TypeVar("T")
E = TypeVar("E")
J = TypeVar("J", bound=bool | int | float | str | list[Any] | Mapping[str, Any] | None)  # a value of JSON

WORDS = ("", "save", "pause", "stop")  # of train/control.py, lowest priority first
GRACE_S = 3.0  # after a failure: how long the other processes have to report
LATE, CLOSED = "late", "closed"  # reports of a surviving process: an exchange timed out, or its connection closed
ALIVE = "alive"  # instead of a report: the process has noticed nothing yet, but its heart beats
BEAT_S = 1.0
MOST_BYTES = 1 << 30  # of the values of one process


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One process of a run, among all of them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among the processes on this machine
    local_size: int = 1
    device: str = "cpu"  # for communication: cpu (gloo) or cuda (NCCL)
    timeout_s: float = 0.0
    launch: str = ""  # identifies one start of torchrun, over all its restarts
    restarts: int = 0
    parent: int = 0  # the process that launched this one
    store: Any = field(default=None, repr=False)  # torch's key-value store
    keeps_store: bool = False  # process 0 keeps the store; else the launcher does, and it outlives every process
    names: tuple[str, ...] = ()  # process and host of each rank

    @property
    def is_rank0(self) -> bool:
        """Whether this process writes the run folder and the terminal output."""
        return self.rank == 0

    # Collective operations: every process calls them at the same point

    def gather(self, value: J) -> list[J]:
        """Return the values of all processes, by rank. They are sent as JSON: to read a pickle can run code in it.

        Raises: RunError if a process sends anything else.
        """
        if self.size == 1:
            return [value]
        sent = torch.frombuffer(bytearray(json.dumps(value, default=_to_plain).encode()), dtype=torch.uint8)
        with self.watch_processes():
            lengths = self.gather_rows(torch.tensor([len(sent)])).tolist()
            if (longest := max(lengths)) > MOST_BYTES:
                raise RunError("foreign_process", process=self._process_name(lengths.index(longest)))
            rows = self.gather_rows(functional.pad(sent, (0, longest - len(sent)))[None])
        return [self._from_json(rank, rows[rank, :length]) for rank, length in enumerate(lengths)]

    def _from_json(self, rank: int, received: Tensor) -> Any:
        try:
            return json.loads(received.numpy().tobytes())
        except (ValueError, RecursionError) as error:
            raise RunError("foreign_process", process=self._process_name(rank)) from error

    def run_on_rank0(self, work: Callable[[], J]) -> J:
        """Do `work` in process 0 and return its result in all processes; its NudgeError is raised in all."""
        if self.size == 1:
            return work()
        outcome: list[Any] = [None, None]  # the result, the error
        if self.is_rank0:
            try:
                outcome[0] = work()
            except LostError:
                raise
            except NudgeError as failed:
                outcome[1] = _error_to_json(failed)
        result, error = self.gather(outcome)[0]
        if error is not None:
            raise _error_from_json(error)
        return result

    def run_all(self, work: Callable[[], T]) -> T:
        """Do `work` in every process; a NudgeError in one is raised in all."""
        with self._fail_together():
            return work()

    def run_all_iter(self, steps: Generator[E, None, T]) -> Generator[E, None, T]:
        """Do the work of a generator in every process, as `run_all` does, and yield its progress."""
        with self._fail_together():
            return (yield from steps)

    @contextlib.contextmanager
    def _fail_together(self) -> Iterator[None]:
        """If the block raises a NudgeError in any process, raise that error in all processes."""
        outcome: list[Any] = [None, host_name()]
        try:
            yield
        except LostError:
            raise
        except NudgeError as failed:
            outcome[0] = _error_to_json(failed)
        outcomes = self.gather(outcome)
        failures = [(rank, error, host) for rank, (error, host) in enumerate(outcomes) if error is not None]
        if failures:
            rank, first, host = failures[0]
            where = f"process {rank} on {host}: " if len(failures) < self.size else ""
            raise _error_from_json(first).within(where)

    def agree(self, word: str) -> str:
        """Return the control word with the highest priority among the words of all processes (see WORDS)."""
        if self.size == 1:
            return word
        number = torch.tensor(WORDS.index(word) if word in WORDS else 0)
        with self.watch_processes():
            dist.all_reduce(number, dist.ReduceOp.MAX)
        return WORDS[int(number)]

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place, and return it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather_rows(self, mine: Tensor) -> Tensor:
        """Concatenate the rows [n, ..] of all processes: [size * n, ..]. All have equally many."""
        if self.size == 1:
            return mine
        rows = mine.new_empty((self.size * len(mine), *mine.shape[1:]))
        dist.all_gather(list(rows.chunk(self.size)), mine.contiguous())
        return rows

    def part(self, n: int) -> slice:
        """Return this process's share of n items. All shares are equal: n must be a multiple of `size`."""
        assert n % self.size == 0, f"{n} items for {self.size} processes"
        each = n // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    # Failures

    @property
    def is_orphan(self) -> bool:
        """Whether the launcher is gone, so that nothing else would end this process."""
        return self.size > 1 and os.getppid() != self.parent

    @contextlib.contextmanager
    def watch_processes(self) -> Iterator[None]:
        """Turn a communication failure into an error that names the missing process.

        Raises: LostError.
        """
        if self.size == 1:
            yield
            return
        try:
            yield
        except RuntimeError as error:  # the kind of torch's communication errors
            if _is_communication_error(error):
                raise self._find_lost(error) from error
            with contextlib.suppress(RuntimeError):
                self.store.set(f"failed/{self.rank}", f"{type(error).__name__}: {first_line(error)}")
            raise

    def _find_lost(self, error: BaseException) -> LostError:
        """Find out which processes have died or failed; return the error that names them. One process prints it."""
        try:
            report = LATE if _is_late(error) else CLOSED
            reports, reports_error = call_with_timeout(2 * GRACE_S, lambda: self._exchange_reports(report))
        except (RuntimeError, TimeoutError) as silence:
            return self._lost_store_error(silence)
        failures = [f"{self._process_name(rank)}: {report}" for rank, report in enumerate(reports) if _is_own(report)]
        missing = [self._process_name(rank) for rank, report in enumerate(reports) if report is None]
        if failures:
            return LostError("process_failed", failures="; ".join(failures), reports_error=reports_error)
        if not missing:
            return LostError("processes_apart", error=first_line(error), reports_error=reports_error)
        return self._lost_error("; ".join(missing), late=LATE in reports, reports_error=reports_error)

    def _lost_store_error(self, silence: BaseException) -> LostError:
        """Return the error for a lost store. It names the process that keeps the store."""
        keeper = self._process_name(0) if self.keeps_store else "the launcher of these processes"
        reports_error = self.rank == 1 if self.keeps_store else self.local_rank == 0
        return self._lost_error(keeper, late=_is_late(silence), reports_error=reports_error)

    def _exchange_reports(self, report: str) -> tuple[list[str | None], bool]:
        """Write this process's report, wait GRACE_S, and return the reports of all processes (None: no report).

        Also return whether this process is the first to get so far, which is the one that prints the error.

        A process that only waits for others cannot report before its own timeout: if its heart beats, it is ALIVE. But
        if processes waited in vain, the one without a report is the one they waited for, even if its heart beats.
        """
        self.store.set(f"failed/{self.rank}", report)
        before = self._read_all("beats")
        time.sleep(GRACE_S)
        reports, beats = self._read_all("failed"), self._read_all("beats")
        if LATE not in reports:
            reports = [
                ALIVE if found is None and old != new else found
                for found, old, new in zip(reports, before, beats, strict=True)
            ]
        return reports, self.store.compare_set("reporter", "", str(self.rank)).decode() == str(self.rank)

    def _read_all(self, name: str) -> list[str | None]:
        """Read a value of every process from the store; None for a process that wrote none."""
        keys = [f"{name}/{rank}" for rank in range(self.size)]
        return [self.store.get(key).decode() if self.store.check([key]) else None for key in keys]

    @contextlib.contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Count in the store, from a thread, so that the others can see that this process is alive while it waits."""
        ended = threading.Event()

        def beat() -> None:
            for count in itertools.count():
                with contextlib.suppress(RuntimeError):  # the store is lost, which `watch_processes` will notice
                    self.store.set(f"beats/{self.rank}", str(count))
                if ended.wait(BEAT_S):
                    return

        threading.Thread(target=beat, daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _lost_error(self, processes: str, *, late: bool, reports_error: bool) -> LostError:
        """Return the error that processes did not answer in time (`late`) or closed their connection."""
        if late:
            waited, longer = self.timeout_s, 4 * self.timeout_s
            return LostError(
                "process_silent",
                processes=processes,
                timeout_s=waited,
                longer_s=longer,
                reports_error=reports_error,
            )
        return LostError("process_gone", processes=processes, reports_error=reports_error)

    def _process_name(self, rank: int) -> str:
        return f"rank {rank} ({self.names[rank]})"


ALONE = World()


def call_with_timeout(seconds: float, work: Callable[[], T]) -> T:
    """Return the result of `work`, or give up after `seconds`: torch's store waits forever for a host that is down.

    Raises: TimeoutError; any error of `work`.
    """
    outcome: list[tuple[Any, BaseException | None]] = []

    def do() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"no answer for {seconds:g} s")
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def host_name() -> str:
    """Return the name of this machine."""
    return socket.gethostname()


def _error_to_json(error: NudgeError) -> list[Any]:
    return [error.family, error.name, error.where, error.values]


def _error_from_json(sent: list[Any]) -> NudgeError:
    family, name, where, values = sent
    kind = next(kind for kind in NudgeError.__subclasses__() if kind.family == family)
    return kind(name, where=where, **values)


def _to_plain(value: Any) -> Any:
    """Return a value of an error for JSON: a number of numpy as Python's, and a path or the like as text."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _is_own(report: str | None) -> bool:
    """Return whether a report tells of a failure of the process itself."""
    return report not in (None, LATE, CLOSED, ALIVE)


def _is_late(error: BaseException) -> bool:
    """Return whether communication timed out. torch also raises plain RuntimeErrors for that."""
    return isinstance(error, TimeoutError) or "imed out" in str(error)


def _is_communication_error(error: BaseException) -> bool:
    """Return whether torch's communication failed. gloo raises plain RuntimeErrors that name its source files."""
    message = str(error)
    return isinstance(error, dist.DistError) or any(word in message for word in ("gloo", "NCCL", "Connection"))
