"""A job: a training on several processes, which an engine (torchrun, Slurm, SkyPilot) runs from a file.

Every process runs the same `nudge train --continue --run DIR ...` under torchrun. The first attempt starts the run, and
each later one (after a crash, a preemption, a time limit) resumes from the newest checkpoint. So a job has no state.
"""

import math
import shlex
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from nudge.errors import ConfigError

ANY_GPU, NO_GPU = "any", "none"
MIN_HOURS = 0.05
JOINERS = "\u200c\u200d"  # invisible, but part of how some languages and emoji are written
SAVING_S = 300  # for a run to save and stop before its time is over

# Asks the system for a port that nobody listens on. One that follows from a job's number may be taken.
FREE_PORT = """import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])"""


class LocalPath(str):
    """A word of the command that names a file, a folder or a glob on this machine; rented machines need a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`nudge train` with `options`, on `nodes` machines with `per_node` processes each."""

    name: str
    run: str  # the run's folder, relative to `folder`
    options: tuple[tuple[str, ...], ...]  # of nudge train, each with its value; without --run and --continue
    folder: str  # the base of relative paths
    python: str  # the interpreter with nudge installed
    nodes: int = 1
    per_node: int = 1
    cpus: int = 4  # cores per process, to feed a GPU or to compute
    gpu: str = ANY_GPU  # one per process, or NO_GPU
    hours: float | None = None  # until the run is saved and stopped; None: no limit
    restarts: int = 3  # of all processes, after one of them died
    partition: str | None = None  # Slurm's
    spot: bool = False  # rent cheaper machines that the cloud can take back
    package: str = "nudge-lm"  # for pip on rented machines

    def __post_init__(self) -> None:
        """Raise ConfigError for a field that a job file could not hold in one line."""
        for field, text in (
            ("the name of the job", self.name),
            ("--run", self.run),
            ("the current folder", self.folder),
            ("the path of Python", self.python),
            ("--gpu", self.gpu),
            ("--partition", self.partition or ""),
            ("--package", self.package),
            *((option[0], word) for option in self.options for word in option),
        ):
            check_printable(field, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A program that runs jobs from a file."""

    file_text: Callable[[Job], str]  # raises ConfigError for a job that this engine cannot run
    submit: tuple[str, ...]  # the command that runs the file
    suffix: str  # of the file
    install: str  # a hint if the command is missing


def check_printable(field: str, text: str) -> None:
    """Raise ConfigError for line ends, control characters and the like: in a script they could begin a new command."""
    if any(unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") and one not in JOINERS for one in text):
        raise ConfigError("job_unprintable", field=field, text=text)


def check(job: Job) -> None:
    """Check that an engine can run the job. Raises: ConfigError."""
    for option, number, least, usual in (
        ("--nodes", job.nodes, 1, 2),
        ("--per-node", job.per_node, 1, 8),
        ("--cpus", job.cpus, 1, 4),
        ("--restarts", job.restarts, 0, 3),
        ("--hours", 24 if job.hours is None else job.hours, MIN_HOURS, 24),
    ):
        if not least <= number < math.inf:
            raise ConfigError("job_option", option=option, number=number, least=least, usual=usual)
    if not job.name.isprintable() or "/" in job.name or job.name.startswith(("-", ".")) or not job.name:
        raise ConfigError("job_name", name=job.name)


def training_s(hours: float) -> int:
    """Return the seconds of training in a job of that many hours; the rest is for saving."""
    return int(hours * 3600) - saving_s(hours)


def saving_s(hours: float) -> int:
    """Return the seconds for saving: five minutes, or a quarter of a short job."""
    return min(SAVING_S, int(hours * 3600) // 4)


def torchrun(job: Job, python: str, rendezvous: str) -> str:
    """Return the shell command that trains in `$run`. `python` and `rendezvous` are already quoted for the shell.

    torchrun's other kind of rendezvous, c10d, unpickles what is in a store, and anyone who reaches the port of the
    store can write to it.
    """
    return " \\\n  ".join(
        [
            f"{python} -m torch.distributed.run",
            f"--nnodes {job.nodes} --nproc-per-node {job.per_node} --max-restarts {job.restarts}",
            f"--rdzv-backend static {rendezvous}",
            # Without the --, torchrun reads our --run as its option --run-path.
            '-m -- nudge train --continue --run "$run"',
            *(shlex.join(option) for option in job.options),
        ]
    )
