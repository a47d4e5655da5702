"""Benchmarks in turns: in each round each contender is measured once, in its own process, while the others wait.

Two programs measured one after the other run under different conditions: other programs start and end, clocks are
throttled. In turns all contenders are slowed alike, so the figures of a round can be compared.
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

# The previous contender's threads may still spin, libgomp's for some milliseconds, libiomp's for 200.
SETTLE_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One program with one setting. `prepare` is the `module:function` that its process calls with `options`.

    `needs`: the package to import and the package to install, if any. `absent`: the reason why it does not take part,
    if known beforehand. `group`: contenders of one group are compared. `limit`: the limit of the machine that applies,
    and the work of one token.
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
class Turn:
    """A contender begins its turn in round `number`, from 0; -1: it gets ready."""

    contender: Contender
    number: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A contender is ready."""

    contender: Contender
    version: str


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of one turn. `peak_bytes`: the peak of resident memory since the contender was ready."""

    contender: Contender
    number: int  # of the round, from 0
    figures: dict[str, float]
    peak_bytes: int
    output: Any = None  # if it can be compared


@dataclass(frozen=True, slots=True)
class Absent:
    """A contender that does not take part or dropped out, with the reason."""

    contender: Contender
    why: str
    began: bool = False  # it failed after it was ready


Event = Turn | Prepared | Measured | Absent


def interleave(contenders: Sequence[Contender], rounds: int, *, threads: int) -> Iterator[Event]:
    """Prepare all contenders, run each once without measuring, then measure `rounds` rounds in turns.

    Closing the iterator ends the contenders' processes.
    """
    with ExitStack() as stack:
        ready: list[tuple[Contender, _Process]] = []
        largest = 0
        for contender in contenders:
            why = _absence(contender, largest)
            if why is None:
                yield Turn(contender, -1)
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
                yield Turn(contender, number)
                time.sleep(SETTLE_S)
                answer = process.ask({"round": number})
                if "failed" in answer:
                    ready.remove((contender, process))
                    yield Absent(contender, answer["failed"], began=True)
                else:
                    output = answer["figures"].pop("output", None)
                    yield Measured(contender, number, answer["figures"], int(answer["peak_bytes"]), output)


def _absence(contender: Contender, largest: int) -> str | None:
    """Return why a contender cannot start, or None. All contenders stay in memory, which must not run out."""
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
        """Send a request and return the answer, or {"failed": ...} if the process ended."""
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
        lines = [text.strip() for text in self._log.read().splitlines() if text.strip()]
        return {"failed": f"its process ended with {code}" + (f": {lines[-1]}" if lines else "")}

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
    """Return the contenders' environment: threads, short spins (docs/decisions/0003-short-spins.md), no network."""
    return {
        "GOMP_SPINCOUNT": "1000",
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONWARNINGS": "ignore",
    }
