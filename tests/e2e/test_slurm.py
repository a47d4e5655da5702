"""A job on a real Slurm: a controller and two nodes that are started on this machine, for these tests alone."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
PATH = os.environ["PATH"] + ":/usr/sbin"  # where Debian puts what answers requests
MISSING = [program for program in PROGRAMS if not shutil.which(program, path=PATH)]
pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(bool(MISSING), reason=f"Slurm is not installed (no {', '.join(MISSING)}): Debian's slurm-wlm"),
]

CONFIG = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=500
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=500
PartitionName=main Nodes=n1,n2 Default=YES
"""


@dataclass(frozen=True)
class Cluster:
    """Slurm's own commands, for this cluster."""

    environment: dict[str, str]

    def __call__(self, *command: str, cwd: Path | None = None) -> str:
        result = subprocess.run(
            command,
            env=self.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            errors="replace",  # squeue cuts a name within a letter
            check=False,
            timeout=60,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def show(self, number: str) -> dict[str, str]:
        words = self("scontrol", "show", "job", number).split()
        return dict(word.partition("=")[::2] for word in words)

    def wait(self, what: str, happened: Callable[[], object], *, log: Path | None = None) -> None:
        end = time.monotonic() + 120
        while not happened():
            output = "\n".join(file.read_text(encoding="utf-8") for file in log.glob("*.out")) if log else ""
            assert time.monotonic() < end, f"{what} did not happen\n{self('squeue')}\n{output}"
            time.sleep(0.2)


def free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "state").mkdir()
    host = socket.gethostname().partition(".")[0]
    user = subprocess.check_output(["id", "-un"], text=True).strip()
    config, key = folder / "slurm.conf", folder / "munge.key"
    config.write_text(CONFIG.format(folder=folder, host=host, user=user, ports=free_ports(3)))
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    environment = {**os.environ, "PATH": PATH, "SLURM_CONF": str(config), "OMP_NUM_THREADS": "1"}
    munge = [f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    daemons = [
        ["munged", "--foreground", "--force", f"--key-file={key}", *munge],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", "n1"],
        ["slurmd", "-D", "-N", "n2"],
    ]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number, daemon in enumerate(daemons):
            with (folder / f"{number}.log").open("wb") as log:
                started.append(subprocess.Popen(daemon, env=environment, cwd=folder, stdout=log, stderr=log))
            time.sleep(0.5)
        here = Cluster(environment)
        here.wait("two idle nodes", lambda: here("sinfo", "--noheader", "--states=idle", "--format=%D").strip() == "2")
        try:
            yield here
        finally:  # else its processes outlive it
            here("scancel", "--state=RUNNING")
            here("scancel", "--state=PENDING")
            here.wait("an idle cluster", lambda: not here("squeue", "--noheader"))
    finally:
        for daemon in reversed(started):
            daemon.terminate()
        for daemon in started:
            daemon.wait(timeout=30)


TRAINING = shlex.split("--recipe llm_viz --steps 1000000 --save-every 1000000 --eval-every 0 --sample-every 0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One that is hard to quote."""
    path = tmp_path / 'it\'s 내 "폴더"'
    path.mkdir()
    return path


@pytest.fixture
def job(cluster: Cluster, folder: Path) -> Iterator[str]:
    """The number of a job of four processes on two nodes that would train for a long time, and trains."""
    options = shlex.split("--on slurm --nodes 2 --per-node 2 --cpus 1 --gpu none --hours 1 --submit")
    command = [sys.executable, "-m", "nudge", "launch", *options, "--", *TRAINING, "--run", "runs/첫 실험"]
    number = cluster(*command, cwd=folder).split()[-1]  # "Submitted batch job 7"
    cluster.wait("some updates", lambda: len(recorded(folder, "step")) > 3, log=folder)
    yield number
    cluster("scancel", number)
    cluster.wait("an idle cluster", lambda: not cluster("squeue", "--noheader"))


def recorded(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Return the recorded events of a kind."""
    events = folder / "runs" / "첫 실험" / "events.jsonl"
    lines = events.read_text(encoding="utf-8").splitlines() if events.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_a_run_is_saved_before_its_time_is_over(cluster: Cluster, job: str, folder: Path):
    """Slurm sends the signal of --signal by its clock; here it is sent at once."""
    assert cluster.show(job)["NumNodes"] == "2"
    cluster("scancel", "--signal=USR1", "--batch", job)
    cluster.wait("the end of the job", lambda: cluster.show(job)["JobState"] == "COMPLETED", log=folder)
    (stopped,) = recorded(folder, "stopped")
    assert stopped["reason"] == "interrupted"
    assert recorded(folder, "saved")[-1]["step"] == stopped["step"] > 3


def test_a_job_that_is_requeued_goes_on(cluster: Cluster, job: str, folder: Path):
    """As after a preemption: the processes are recorded to end, and later the same job begins again."""
    cluster("scontrol", "requeue", job)
    cluster.wait("the requeue", lambda: cluster.show(job)["JobState"] == "PENDING", log=folder)
    cluster("scontrol", "update", f"JobId={job}", "StartTime=now")  # else it waits for two minutes
    cluster.wait("a second start", lambda: len(recorded(folder, "started")) == 2, log=folder)
    first, second = recorded(folder, "started")
    assert first["resumed_from"] is None
    assert "verified" in second["resumed_from"]
    assert second["step"] > 0


def test_slurm_takes_the_file_as_it_is(cluster: Cluster, folder: Path):
    command = (
        "launch --on slurm --nodes 2 --per-node 2 --cpus 1 --gpu none --partition main --out job.sh --name 이름 --"
    )
    cluster(sys.executable, "-m", "nudge", *command.split(), cwd=folder)
    cluster("sbatch", "--test-only", "job.sh", cwd=folder)
