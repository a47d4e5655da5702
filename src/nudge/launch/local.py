"""torchrun on this machine."""

import shlex

from nudge.errors import ConfigError
from nudge.launch.job import FREE_PORT, Engine, Job, torchrun

SCRIPT = """\
#!/usr/bin/env bash
# Made by nudge launch: {processes} processes on this machine. Start it with: bash FILE
# Started again, it goes on from the run's newest checkpoint.
set -euo pipefail
cd -- {folder}
run={run}
port=$({python} -c {free_port})
exec {torchrun}
"""


def script(job: Job) -> str:
    """Return a shell script that runs the job. Raises: ConfigError if it needs several machines or a time limit."""
    if job.nodes > 1:
        raise ConfigError("job_nodes", nodes=job.nodes)
    if job.hours is not None:
        raise ConfigError("job_hours")
    return SCRIPT.format(
        processes=job.per_node,
        folder=shlex.quote(job.folder),
        run=shlex.quote(job.run),
        python=shlex.quote(job.python),
        free_port=shlex.quote(FREE_PORT),
        torchrun=torchrun(job, shlex.quote(job.python), '--rdzv-endpoint "127.0.0.1:$port"'),
    )


ENGINE = Engine(file_text=script, submit=("bash",), suffix=".sh", install="it comes with every Unix")
