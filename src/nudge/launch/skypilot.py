"""A managed job for SkyPilot, which rents machines and replaces lost ones.

Source: https://docs.skypilot.co/en/latest/reference/yaml-spec.html
"""

import dataclasses
import getpass
import hashlib
import json
import platform
import re
import shlex
import sys
import textwrap
from importlib import metadata
from pathlib import Path

from nudge.errors import ConfigError
from nudge.launch.job import ANY_GPU, NO_GPU, Engine, Job, LocalPath, check_printable, torchrun, training_s

RUNS, INPUTS = "/nudge/runs", "/nudge/inputs"  # on the rented machines
PORT = 29500  # no other job is on these machines
CATALOG = {"a100-40": "A100", "a100-80": "A100-80GB", "4090": "RTX4090"}  # GPUs with another name in SkyPilot

TASK = """\
# Made by nudge launch: {nodes} x {per_node} processes. Rent the machines and start with: sky jobs launch FILE
# Launched again, it goes on from the newest checkpoint in the bucket.
name: {name}
num_nodes: {nodes}

resources:
{resources}

file_mounts:
{mounts}

setup: |
{setup}

run: |
{run}
"""

SETUP = """\
set -euo pipefail
# The machine's own Python may be too old for nudge. The libraries have the versions of the machine that wrote the job.
export PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
uv venv --quiet --allow-existing --python {python} ~/nudge-venv
uv pip install --quiet --python ~/nudge-venv/bin/python \\
  {packages}"""

RUN = """\
set -euo pipefail
run={run}
{limit}mapfile -t hosts <<< "$SKYPILOT_NODE_IPS"
{torchrun}"""

LIMIT = """\
# Shortly before the time is over, stop the run, which saves it: a run reads the control file of its folder.
( sleep {seconds}; until echo stop > "$run/control"; do sleep 10; done ) 2>/dev/null &    # the folder may not exist yet
trap 'kill %1 2>/dev/null || true' EXIT
"""


def task_yaml(job: Job) -> str:
    """Return the SkyPilot task of a job. Raises: ConfigError for a job without a named GPU, with shards, or a glob."""
    if job.gpu == ANY_GPU:
        raise ConfigError("job_gpu")
    if ("--shard",) in job.options:
        raise ConfigError("job_shard")
    remote_files = RemoteFiles(job.folder)
    package = remote_files.remote_word(job.package)
    options = tuple(tuple(remote_files.remote_word(word) for word in option) for option in job.options)
    # A machine sees another's checkpoints only after a delay. So with several machines torchrun restarts nothing;
    # SkyPilot restarts all of them once everything is in the bucket.
    remote_job = dataclasses.replace(job, options=options, restarts=job.restarts if job.nodes == 1 else 0)
    rendezvous = (
        f'--rdzv-endpoint "${{hosts[0]}}:{PORT}" --node-rank "$SKYPILOT_NODE_RANK" --rdzv-id "$SKYPILOT_TASK_ID"'
    )
    run_name = Path(job.folder, job.run).resolve().name
    check_printable("--run", run_name)
    run = RUN.format(
        run=shlex.quote(f"{RUNS}/{run_name}"),
        limit="" if job.hours is None else LIMIT.format(seconds=training_s(job.hours)),
        torchrun=torchrun(remote_job, "~/nudge-venv/bin/python", rendezvous),
    )
    setup = SETUP.format(
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        packages=" \\\n  ".join(shlex.quote(name) for name in [package, *pins()]),
    )
    bucket = {"name": bucket_name(job), "mode": "MOUNT_CACHED"}  # in this mode, files can be appended to
    return TASK.format(
        name=yaml_scalar(slug(job.name)),
        nodes=job.nodes,
        per_node=job.per_node,
        resources=yaml_block(resources(job)),
        mounts=yaml_block({**remote_files.mounts, RUNS: bucket}),
        setup=textwrap.indent(setup, "  "),
        run=textwrap.indent(run, "  "),
    )


def resources(job: Job) -> dict[str, object]:
    """Return the SkyPilot resources of each machine: hardware, spot or not, restarts after errors."""
    hardware = (
        {"cpus": f"{job.cpus * job.per_node}+"}
        if job.gpu == NO_GPU
        else {"accelerators": f"{CATALOG.get(job.gpu, job.gpu)}:{job.per_node}"}
    )
    # SkyPilot always replaces lost machines; this is for processes that fail.
    return {**hardware, "use_spot": job.spot, "job_recovery": {"max_restarts_on_errors": job.restarts}}


class RemoteFiles:
    """The files and folders to copy to the rented machines. `mounts` maps remote paths to local paths."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.mounts: dict[str, object] = {}

    def remote_word(self, word: str) -> str:
        """Return a command-line word with a local path replaced by its remote path, and mount the file.

        Raises: ConfigError for a glob, and for a link to a name that a job file cannot hold.
        """
        if not isinstance(word, LocalPath):
            return word
        source = (self.folder / Path(word).expanduser()).resolve()
        if not source.exists():
            raise ConfigError("job_glob", glob=str(word))
        check_printable(f"what {word} links to", str(source))
        target = f"{INPUTS}/{len(self.mounts)}/{source.name}"
        self.mounts[target] = str(source)
        return target


def pins() -> list[str]:
    """Return the libraries that nudge requires, with the versions installed on this machine."""
    needed = [re.split(r"[^\w.-]", line)[0] for line in metadata.requires("nudge-lm") or () if "extra ==" not in line]
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in needed]


def slug(name: str) -> str:
    """Return the name in characters that every cloud accepts: `My Run` -> `my-run`, or `run` if none is left."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:30].rstrip("-") or "run"


def bucket_name(job: Job) -> str:
    """Return the name of a run's bucket: always the same, so that a relaunched job finds its checkpoints.

    It ends with digits of a hash, because the buckets of all users must have different names.
    """
    owner = json.dumps([getpass.getuser(), platform.node(), job.folder, job.run])
    return f"nudge-{slug(job.name)}-{hashlib.sha256(owner.encode()).hexdigest()[:8]}"


def yaml_scalar(value: object) -> str:
    """Return a value as YAML; JSON is valid YAML."""
    return json.dumps(value, ensure_ascii=False)


def yaml_block(table: dict[str, object], indent: str = "  ") -> str:
    """Return a table as YAML, with indented inner tables."""
    lines = []
    for key, value in table.items():
        shown = f"\n{yaml_block(value, indent + '  ')}" if isinstance(value, dict) else f" {yaml_scalar(value)}"
        lines.append(f"{indent}{key if key.isidentifier() else yaml_scalar(key)}:{shown}")
    return "\n".join(lines)


ENGINE = Engine(
    file_text=task_yaml,
    submit=("sky", "jobs", "launch"),
    suffix=".yaml",
    install="pip install \"skypilot[aws]\" (or the name of your cloud), then 'sky check'",
)
