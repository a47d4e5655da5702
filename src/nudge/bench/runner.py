"""Contenders take turns: round by round each is measured once, in its own process, while all others wait.

Measured one after the other, two programs meet two machines: other programs come and go, and clocks are throttled. By
turns, what slows the machine slows everybody, and the figures of one round can be compared.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psutil

# A thread of the one before may still spin while it waits for work: libgomp's some milliseconds, libiomp's 200.
SETTLE_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One program in one setting. `prepare` is the `module:function` that its process calls with `options`.

    `needs`: the package it comes from (to import, to install); None: it is here. `absent`: why it does not take part,
    if that is known already. `group`: those of one group are compared. `limit`: which limit of the machine holds it
    back, and how much of that one token takes.
    """

    name: str
    prepare: str
    options: Mapping[str, Any]
    ours: bool = False
    group: str = ""
    needs: tuple[str, str] | None = None
    absent: str = ""
    limit: tuple[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A contender stands ready."""

    contender: Contender
    version: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured in one turn. `peak_bytes`: the most resident memory since it was ready."""

    contender: Contender
    number: int  # of the round, from 0
    figures: dict[str, float]
    peak_bytes: int
    output: Any = None  # what came out, where that can be compared


@dataclass(frozen=True, slots=True)
class Absent:
    """A contender that does not take part (any more), and why."""

    contender: Contender
    why: str
    began: bool = False  # it was prepared, and failed later


Event = Prepared | Measured | Absent


def interleave(contenders: Sequence[Contender], rounds: int, *, threads: int) -> Iterator[Event]:
    """Prepare all contenders, let each play once unmeasured, then `rounds` times by turns.

    Stopping the iteration ends their processes.
    """
    with ExitStack() as stack:
        ready: list[tuple[Contender, _Process]] = []
        largest = 0
        for contender in contenders:
            why = _absence(contender, largest)
            if why is None:
                process = stack.enter_context(_Process(threads))
                answer = process.ask({"prepare": contender.prepare, "options": dict(contender.options)})
                warm = {} if "failed" in answer else process.ask({"round": -1})
                why = answer.get("failed") or warm.get("failed")
                if why is None:
                    largest = max(largest, int(warm["peak_bytes"]))
                    ready.append((contender, process))
                    yield Prepared(contender, answer["ready"]["version"])
            if why is not None:
                yield Absent(contender, why)
        for number in range(rounds):
            for contender, process in list(ready):
                time.sleep(SETTLE_S)
                answer = process.ask({"round": number})
                if "failed" in answer:
                    ready.remove((contender, process))
                    yield Absent(contender, answer["failed"], began=True)
                else:
                    output = answer["figures"].pop("output", None)
                    yield Measured(contender, number, answer["figures"], int(answer["peak_bytes"]), output)


def _absence(contender: Contender, largest: int) -> str | None:
    """Why a contender cannot even begin; None if it can. They all stay in memory, which must not run out."""
    if contender.absent:
        return contender.absent
    if contender.needs and importlib.util.find_spec(contender.needs[0]) is None:
        return f"not installed: pip install {contender.needs[1]}"
    free = psutil.virtual_memory().available
    if free < largest:
        return f"skipped: {free / 1e9:.1f} GB of memory are left, the others took up to {largest / 1e9:.1f} GB each"
    return None


class _Process:
    """The process of one contender (nudge.bench.worker)."""

    def __init__(self, threads: int) -> None:
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # lives as long
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nudge.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            env=environment(threads),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def __enter__(self) -> "_Process":
        return self

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send one line and wait for the answer; a process that ends instead answers {"failed": ...}."""
        try:
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = self._process.wait()
        self._log.seek(0)
        said = [text.strip() for text in self._log.read().splitlines() if text.strip()]
        return {"failed": f"its process ended with {code}" + (f": {said[-1]}" if said else "")}

    def __exit__(self, *_: object) -> None:
        try:
            self._requests.close()
            self._process.wait(timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._answers.close()
        self._log.close()


def environment(threads: int) -> dict[str, str]:
    """The same for all: so many threads, short spins (docs/decisions/0003-short-spins.md), no network."""
    return {
        "GOMP_SPINCOUNT": "1000",
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONWARNINGS": "ignore",
    }
