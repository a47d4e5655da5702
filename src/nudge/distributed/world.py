"""The processes of one run: who they are, what they agree on, and which of them went missing.

torchrun, or whatever else sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, starts one command several times. Each of
them is one `World`, and does the same things in the same order; a run of a single process is a world of size 1, for
which nothing below costs anything.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from nudge.errors import LostError, NudgeError, first_line

T = TypeVar("T")
E = TypeVar("E")

WORDS = ("", "save", "pause", "stop")  # of train/control.py, the weightier one last
GRACE_S = 3.0  # after a failure: how long the others have to say that they are still there
LATE, CLOSED = "late", "closed"  # what a process says that is still there: it waited in vain, or was cut off


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One process of a run, among all of them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among those on this machine
    local_size: int = 1
    device: str = "cpu"  # that they speak over: cpu (gloo) or cuda (NCCL)
    timeout_s: float = 0.0
    launch: str = ""  # names what torchrun was started once for, over all its restarts
    restarts: int = 0
    parent: int = 0  # the process that launched this one
    store: Any = field(default=None, repr=False)  # torch's key-value store
    keeps_store: bool = False  # process 0 does; else the launcher, so that it outlives every process
    names: tuple[str, ...] = ()  # of all processes: where each is found

    @property
    def is_rank0(self) -> bool:
        """Whether this process writes the run folder and speaks to the person."""
        return self.rank == 0

    # What is done in all processes at once

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self.watched():
            dist.all_gather_object(values, value)
        return values

    def run_on_rank0(self, work: Callable[[], T]) -> T:
        """What `work` gives in the first process, for all; if it fails there, it fails in all."""
        if self.size == 1:
            return work()
        result, error = None, None
        if self.is_rank0:
            try:
                result = work()
            except LostError:
                raise
            except NudgeError as failed:
                error = failed
        result, error = self.gather((result, error))[0]
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def run_all(self, work: Callable[[], T]) -> T:
        """Do `work` in every process; if it fails in one, it fails in all, with that one's error."""
        with self._one_fate():
            return work()

    def run_all_iter(self, steps: Generator[E, None, T]) -> Generator[E, None, T]:
        """`run_all` for work that tells of its progress."""
        with self._one_fate():
            return (yield from steps)

    @contextlib.contextmanager
    def _one_fate(self) -> Iterator[None]:
        error = None
        try:
            yield
        except LostError:
            raise
        except NudgeError as failed:
            error = failed
        self._fail_together(error)

    def _fail_together(self, error: NudgeError | None) -> None:
        outcomes = self.gather((error, host_name()))
        failed = [(rank, error, host) for rank, (error, host) in enumerate(outcomes) if error is not None]
        if failed:
            rank, first, host = failed[0]
            where = f"process {rank} on {host}: " if len(failed) < self.size else ""
            raise type(first)(where + first.message, first.hint)

    def agree(self, word: str) -> str:
        """The weightiest of the words that the processes heard."""
        if self.size == 1:
            return word
        number = torch.tensor(WORDS.index(word) if word in WORDS else 0)
        with self.watched():
            dist.all_reduce(number, dist.ReduceOp.MAX)
        return WORDS[int(number)]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather_rows(self, mine: Tensor) -> Tensor:
        """The rows [n, ..] of every process, after each other: [size * n, ..]; each has as many."""
        if self.size == 1:
            return mine
        rows = mine.new_empty((self.size * len(mine), *mine.shape[1:]))
        dist.all_gather(list(rows.chunk(self.size)), mine.contiguous())
        return rows

    def part(self, n: int) -> slice:
        """This process's part of n things; every process has as many, so n must be a multiple of `size`."""
        assert n % self.size == 0, f"{n} things for {self.size} processes"
        each = n // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    # What can go wrong

    @property
    def is_orphan(self) -> bool:
        """Whether the launcher is gone: nobody would notice that this process goes on, or end it."""
        return self.size > 1 and os.getppid() != self.parent

    @contextlib.contextmanager
    def watched(self, step: int | None = None) -> Iterator[None]:
        """Turn the failure of a conversation into an error that names who is missing. `step`: updates made.

        Raises: LostError.
        """
        if self.size == 1:
            yield
            return
        try:
            yield
        except RuntimeError as error:  # torch's own errors of conversations are of this kind
            if _is_about_talking(error):
                raise self._lost(error, step) from error
            with contextlib.suppress(RuntimeError):
                self.store.set(f"failed/{self.rank}", f"{type(error).__name__}: {first_line(error)}")
            raise

    def _lost(self, error: BaseException, step: int | None) -> LostError:
        """Who is still there says so in the store, and who does not is named."""
        try:
            heard = in_time(2 * GRACE_S, lambda: self._ask(LATE if _is_late(error) else CLOSED))
        except (RuntimeError, TimeoutError) as silence:  # of whoever keeps the store; a closed connection tells at once
            who = self._named(0) if self.keeps_store else "the launcher of these processes"
            told = f"{who} did not answer for {self.timeout_s:g} s" if _is_late(silence) else f"{who} is gone"
            return self._lost_error(told, step, speaks=self.rank == 1 if self.keeps_store else self.local_rank == 0)
        crashed = [rank for rank, words in enumerate(heard) if words not in (None, LATE, CLOSED)]
        missing = [rank for rank, words in enumerate(heard) if words is None]
        if crashed:
            told = "; ".join(f"{self._named(rank)} failed: {heard[rank]}" for rank in crashed)
        elif missing:
            what = f"did not answer for {self.timeout_s:g} s" if LATE in heard else "is gone"
            told = "; ".join(f"{self._named(rank)} {what}" for rank in missing)
        else:
            told = f"the processes did not hear each other, though all are there ({first_line(error)})"
        speaker = next(rank for rank, words in enumerate(heard) if words in (LATE, CLOSED))
        return self._lost_error(told, step, speaks=self.rank == speaker)

    def _ask(self, how: str) -> list[str | None]:
        """Say that this process is there, and how it lost the others; what all say, some time later."""
        self.store.set(f"failed/{self.rank}", how)
        time.sleep(GRACE_S)
        keys = [f"failed/{rank}" for rank in range(self.size)]
        return [self.store.get(key).decode() if self.store.check([key]) else None for key in keys]

    def _lost_error(self, told: str, step: int | None, *, speaks: bool) -> LostError:
        hint = "torchrun --max-restarts starts again by itself; without it: nudge resume, from the last checkpoint"
        if "did not answer" in told:
            hint += f" (is it only slow, as at saving? --set machine.timeout_s={4 * self.timeout_s:g})"
        return LostError(told + ("" if step is None else f" after update {step}"), hint, speaks=speaks)

    def _named(self, rank: int) -> str:
        return f"rank {rank} ({self.names[rank]})"


ALONE = World()


def in_time(seconds: float, work: Callable[[], T]) -> T:
    """What `work` gives, if it does so in time: torch's store waits for ever for a host that accepts and never answers.

    Raises: TimeoutError, and what `work` raises.
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
    """What this machine calls itself."""
    return socket.gethostname()


def _is_late(error: BaseException) -> bool:
    """Whether a conversation ended for want of an answer: torch's errors of that are plain RuntimeErrors, too."""
    return isinstance(error, TimeoutError) or "imed out" in str(error)


def _is_about_talking(error: BaseException) -> bool:
    """gloo's failures are plain RuntimeErrors that name its source files."""
    words = str(error)
    return isinstance(error, dist.DistError) or "gloo" in words or "NCCL" in words or "Connection" in words
