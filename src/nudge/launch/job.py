"""A training that is to run on several processes: what, on how many, for how long. The engines write it as a file.

Every process runs the same `nudge train --continue --run DIR ...` under torchrun: the first attempt begins the run, and
every later one (after a crash, a preemption, a time limit) goes on from its newest checkpoint. So a job has no state.
"""

import math
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nudge.errors import ConfigError

ANY_GPU, NO_GPU = "any", "none"
MIN_HOURS = 0.05
SAVING_S = 300  # that long before its time is over, a run is asked to save and stop


class LocalPath(str):
    """A word of the command that names a file, a folder or a glob on this machine: a rented one must be given it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`nudge train` with `options`, on `nodes` machines with `per_node` processes each."""

    name: str
    run: str  # the run's folder, seen from `folder`
    options: tuple[tuple[str, ...], ...]  # of nudge train, each with its value; without --run and --continue
    folder: str  # where relative paths begin
    python: str  # the interpreter that has nudge
    nodes: int = 1
    per_node: int = 1
    cpus: int = 4  # cores for each process: to feed a GPU, or to compute with
    gpu: str = ANY_GPU  # one for each process, or NO_GPU
    hours: float | None = None  # after which the run is saved and stopped; None: no limit
    restarts: int = 3  # of the processes, after one of them died
    partition: str | None = None
    spot: bool = False
    package: str = "nudge-lm"  # what pip installs on rented machines


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What runs a job: how its file is written, and which tool takes it."""

    write: Callable[[Job], str]  # Raises: ConfigError for what this engine cannot do
    submit: tuple[str, ...]  # the command that takes the file
    suffix: str
    install: str  # what to type where the command is missing


def check(job: Job) -> None:
    """Refuse what no engine can run. Raises: ConfigError."""
    for option, number in (("--nodes", job.nodes), ("--per-node", job.per_node), ("--cpus", job.cpus)):
        if number < 1:
            raise ConfigError(f"{option} must be at least 1, got {number}", f"for example {option} 2")
    if job.restarts < 0:
        raise ConfigError(f"--restarts must be 0 or more, got {job.restarts}", "3 is usual")
    if job.hours is not None and not MIN_HOURS <= job.hours < math.inf:
        raise ConfigError(f"--hours must be at least {MIN_HOURS}, got {job.hours}", "for example --hours 24")
    if not job.name.isprintable() or "/" in job.name or job.name.startswith(("-", ".")) or not job.name:
        raise ConfigError(f"--name cannot be {job.name!r}", "it names the job and its file, such as xl")


def training_s(hours: float) -> int:
    """Seconds until a run must be asked to stop, so that it is saved when the hours are over."""
    return int(hours * 3600) - saving_s(hours)


def saving_s(hours: float) -> int:
    """Seconds to save in: five minutes, or a quarter of a short job."""
    return min(SAVING_S, int(hours * 3600) // 4)


def torchrun(job: Job, python: str, rendezvous: Iterable[str]) -> str:
    """The command of a shell that trains in `$run`; `python` and `rendezvous` are its text, not to be quoted again."""
    return " \\\n  ".join(
        [
            f"{python} -m torch.distributed.run",
            f"--nnodes {job.nodes} --nproc-per-node {job.per_node} --max-restarts {job.restarts}",
            *rendezvous,
            # Without the -- torchrun takes our --run for its own --run-path.
            '-m -- nudge train --continue --run "$run"',
            *(shlex.join(option) for option in job.options),
        ]
    )
