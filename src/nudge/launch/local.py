"""torchrun on this machine."""

import shlex

from nudge.errors import ConfigError
from nudge.launch.job import Engine, Job, torchrun

SCRIPT = """\
#!/usr/bin/env bash
# Made by nudge launch: {processes} processes on this machine. Start it with: bash FILE
# Started again, it goes on from the run's newest checkpoint.
set -euo pipefail
cd -- {folder}
run={run}
exec {torchrun}
"""


def write(job: Job) -> str:
    """The script. Raises: ConfigError for what needs more than one machine, or a queue."""
    if job.nodes > 1:
        raise ConfigError(
            f"--nodes {job.nodes} with --on local, which is one machine", "--on slurm or --on skypilot have more"
        )
    if job.hours is not None:
        raise ConfigError(
            "--hours is for machines that are borrowed", "nudge train's own --minutes or --steps ends a run"
        )
    return SCRIPT.format(
        processes=job.per_node,
        folder=shlex.quote(job.folder),
        run=shlex.quote(job.run),
        torchrun=torchrun(job, shlex.quote(job.python), ["--standalone"]),
    )


ENGINE = Engine(write=write, submit=("bash",), suffix=".sh", install="it comes with every Unix")
