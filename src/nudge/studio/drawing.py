"""A process that draws sheets. It can be killed, so that no text stops the studio or takes the machine's memory."""

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import psutil

from nudge.errors import NudgeError, SheetError
from nudge.sheet import catalog
from nudge.studio.worker import SupersededError

LIMIT_CPU_S = 20.0  # for one page; the lecture's take 1 to 3 s
LIMIT_S = 60.0  # the same by the clock: other programs may need the cores
HURRY_S = 5.0  # the same while a newer text waits: starting a process takes about as long as an ordinary page
LIMIT_BYTES = 2 * 2**30  # of address space; a page takes 0.4 GB, and Typst keeps 0.1 GB of each
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class _Process:
    """A running process, and this end of its pipe."""

    process: multiprocessing.process.BaseProcess
    pipe: Connection


class Drawer:
    """A process that is started for the first page, kept for the next ones, and replaced when it is killed or dies.

    `is_superseded` returns whether a newer text waits. Only one thread may use a drawer.
    """

    def __init__(
        self,
        is_superseded: Callable[[], bool] = lambda: False,
        *,
        limit_s: float = LIMIT_S,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self.is_superseded, self.limit_s, self.limit_bytes = is_superseded, limit_s, limit_bytes
        self._running: _Process | None = None

    @property
    def pid(self) -> int | None:
        """Return the process's id, or None if there is no process."""
        return self._running.process.pid if self._running else None

    def draw(self, text: str, form: catalog.Format, *, name: str) -> bytes:
        """Draw a page, as `catalog.draw` does.

        Raises: NudgeError's children, as `catalog.draw` does; SheetError if the page takes too long or too much memory;
        SupersededError.
        """
        is_warm = self._running is not None
        self._running = running = self._running or _start(self.limit_bytes)
        try:
            return self._ask(running, text, form, name)
        except (EOFError, OSError):  # it ended
            self.stop()
        if running.process.exitcode == TOOK_CPU:
            raise SheetError("too_slow", limit_s=LIMIT_CPU_S)
        if not is_warm:
            raise SheetError("too_much_memory", limit_gb=self.limit_bytes / 2**30)
        # Not because of this text alone: something killed the process, or earlier pages had taken its memory.
        return self.draw(text, form, name=name)

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._running:
            self._running.process.kill()
            self._running.process.join()
            self._running.pipe.close()
            self._running = None

    def _ask(self, running: _Process, text: str, form: catalog.Format, name: str) -> bytes:
        began = time.monotonic()
        running.pipe.send((text, form, name))
        while not running.pipe.poll(POLL_S):
            took = time.monotonic() - began
            if took > HURRY_S and self.is_superseded():
                self.stop()
                raise SupersededError
            if took > self.limit_s:
                self.stop()
                raise SheetError("too_slow", limit_s=self.limit_s)
        answer = running.pipe.recv()
        if isinstance(answer, BaseException):
            raise answer
        page: bytes = answer
        return page


def _start(limit_bytes: int) -> _Process:
    context = multiprocessing.get_context("spawn")  # a fork would copy the studio's threads and its locks
    ends: tuple[Any, Any] = context.Pipe()  # of another class on Windows
    ours, theirs = ends
    process = context.Process(target=_serve, args=(theirs, limit_bytes), name="sheets", daemon=True)
    process.start()
    theirs.close()  # so that its death ends the pipe
    return _Process(process, ours)


def _serve(pipe: Connection, limit_bytes: int) -> None:
    """Draw the pages that are asked for, until the studio ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the studio, which ends this process
    os.environ["RAYON_NUM_THREADS"] = "1"  # Typst's: each thread takes 64 MB of address space before it does anything
    _limit_memory(limit_bytes)
    while not _is_full(limit_bytes):
        try:
            text, form, name = pipe.recv()
        except EOFError:
            return
        _limit_time()
        pipe.send(_drawn(text, form, name))


def _is_full(most: int) -> bool:
    """Return whether the pages drawn so far have taken half of the memory, so that a new process should go on.

    Not by `ru_maxrss`: on Linux a new process inherits it from the one that started it, which may hold a large model.
    """
    return psutil.Process().memory_info().rss > most / 2


def _drawn(text: str, form: catalog.Format, name: str) -> bytes | Exception:
    try:
        return catalog.draw(text, form, name=name)
    except NudgeError as error:
        return error
    except MemoryError:
        os._exit(1)  # the same end as when Typst lacks memory: the process is replaced
    except Exception as error:  # a bug: the studio shows this traceback in its terminal
        return RuntimeError(f"{error!r}\n{traceback.format_exc()}")


if sys.platform == "win32":  # which has none of these limits: only the clock limits a page
    TOOK_CPU = None

    def _limit_memory(most: int) -> None:
        pass

    def _limit_time() -> None:
        pass

else:
    import resource

    TOOK_CPU = -signal.SIGXCPU

    def _limit_memory(most: int) -> None:
        if sys.platform != "darwin":  # where a process begins with more addresses than that
            _limit(resource.RLIMIT_AS, most)
        _limit(resource.RLIMIT_CORE, 0)  # its end is no reason to write so much memory to the disk

    def _limit_time() -> None:
        """Limit the CPU time of the next page. The process ends by itself, even if no studio is left."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + LIMIT_CPU_S) + 1)

    def _limit(what: int, most: int) -> None:
        _, highest = resource.getrlimit(what)
        resource.setrlimit(what, (most if highest == resource.RLIM_INFINITY else min(most, highest), highest))
