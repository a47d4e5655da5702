"""A batch script for Slurm: one torchrun per node, the rendezvous on the first node. Source: sbatch(1), srun(1)."""

import math
import shlex

from nudge.launch.job import ANY_GPU, FREE_PORT, NO_GPU, Engine, Job, saving_s, torchrun

DEFAULT_HOURS = 24.0

SCRIPT = """\
#!/bin/bash
# Made by nudge launch: {nodes} x {per_node} processes. Submit it with: sbatch FILE
# Submitted again, it goes on from the run's newest checkpoint.
{directives}
set -euo pipefail
run={run}

# Before the time is over, Slurm sends USR1 to this script alone. A run reads the control file of its folder.
trap 'echo stop > "$run/control" || true' USR1

head=$(hostname)                                    # this script runs on the first node: the rendezvous
port=$({python} -c {free_port})
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"    # srun does not inherit it since Slurm 22.05

# In the background, since bash handles a signal only after a command in the foreground has ended. The signal ends the
# first wait; the second one returns the status of srun. Only on its node does a torchrun know the number of the node.
srun --kill-on-bad-exit=1 bash -c 'PET_NODE_RANK=$SLURM_NODEID exec "$@"' torchrun \
  {torchrun} &
wait $! || wait $!
"""


def batch_script(job: Job) -> str:
    """Return the batch script of a job."""
    hours = job.hours or DEFAULT_HOURS
    minutes = math.ceil(hours * 60)
    directives = {
        "job-name": job.name,
        "chdir": job.folder,
        "output": "%x-%j.out",
        "open-mode": "append",  # a requeued job continues its log
        "nodes": job.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": job.cpus * job.per_node,
        "gres": {ANY_GPU: f"gpu:{job.per_node}", NO_GPU: None}.get(job.gpu, f"gpu:{job.gpu}:{job.per_node}"),
        "time": f"{minutes // 60:02}:{minutes % 60:02}:00",
        "signal": f"B:USR1@{saving_s(hours)}",
        "partition": job.partition,
    }
    given = [f"{name}={shlex.quote(str(value))}" for name, value in directives.items() if value is not None]
    return SCRIPT.format(
        nodes=job.nodes,
        per_node=job.per_node,
        directives="\n".join(f"#SBATCH --{line}" for line in [*given, "requeue"]),
        run=shlex.quote(job.run),
        python=shlex.quote(job.python),
        free_port=shlex.quote(FREE_PORT),
        torchrun=torchrun(
            job,
            shlex.quote(job.python),
            '--rdzv-endpoint "$head:$port" --rdzv-id "$SLURM_JOB_ID"',
        ),
    )


ENGINE = Engine(
    file_text=batch_script,
    submit=("sbatch",),
    suffix=".sh",
    install="run this on a machine of the cluster that has Slurm's commands, or copy the file there",
)
