"""Locks on a disk that has none of the operating system's, as some network disks: a file that a crash leaves behind."""

import ctypes
import errno
import os
import platform
import struct
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from tests.fault.test_kill import TEXT, command, ended, settings, wait_for_lines
from tests.processes import FORKS

from nudge import events
from nudge.runs import checkpoint
from nudge.runs.folder import RunFolder
from nudge.train import control

FLOCK = {"x86_64": 73, "aarch64": 32}  # the number of the system call. Source: Linux, arch/*/entry/syscalls
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in FLOCK, reason="seccomp, which takes flock away, is Linux's"
)


class Program(ctypes.Structure):
    """A BPF program (Source: linux/filter.h, struct sock_fprog)."""

    _fields_ = (("n", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def take_flock_away() -> None:
    """Let the kernel answer flock with ENOSYS, for this process and for good. Source: seccomp(2)."""
    instructions = struct.pack(
        "HBBI" * 4,
        *(0x20, 0, 0, 0),  # load the number of the system call
        *(0x15, 0, 1, FLOCK[platform.machine()]),  # if it is not flock, skip one
        *(0x06, 0, 0, 0x00050000 | errno.ENOSYS),  # return the error
        *(0x06, 0, 0, 0x7FFF0000),  # allow
    )
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert prctl(22, 2, ctypes.byref(Program(4, instructions)), 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def command_without_flock(folder: Path, args: list[str]) -> None:
    take_flock_away()
    command(folder, args, None)


def start_without_flock(folder: Path, *args: str) -> BaseProcess:
    process = FORKS.Process(target=command_without_flock, args=(folder, list(args)))
    process.start()
    return process


@pytest.mark.slow
def test_on_a_disk_without_locks_a_killed_run_can_be_resumed_on_its_host_and_on_another(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    folder, errors = RunFolder(tmp_path / "run"), tmp_path / "errors.txt"
    args = ["train", "--data", "text.txt", "--tokenizer", "bytes", "--run", "run", *settings(1_000_000)]
    # The other kind of lock leaves its file, which is no lock here: a folder that was copied from a disk with locks.
    folder.path.mkdir()
    (folder.path / ".lock").touch()
    process, held = start_without_flock(tmp_path, *args), folder.path / ".lock.held"
    wait_for_lines(process, folder.path, 5)
    control.send(folder, "pause")
    started = events.read(folder.events)[0]
    assert isinstance(started, events.Started)
    assert any(".lock.held" in note for note in started.notes), "it says so"
    assert ended(start_without_flock(tmp_path, "resume", "run")) == 2
    assert f"in use by process {process.pid} on " in errors.read_text()
    process.kill()
    process.join()
    assert held.exists()

    steps = str(checkpoint.read_newest(folder).step + 3)
    assert ended(start_without_flock(tmp_path, "resume", "run", "--steps", steps)) == 0, "this host sees its end"
    assert not held.exists()

    held.write_text(f"{os.getpid()}\nelsewhere\n")  # as a killed process of another host leaves it
    assert ended(start_without_flock(tmp_path, "resume", "run")) == 2
    last, hint = errors.read_text().splitlines()[-2:]
    assert f"in use by process {os.getpid()} on elsewhere" in last
    assert f"delete {Path('run') / '.lock.held'}" in hint
    held.unlink()
    assert ended(start_without_flock(tmp_path, "resume", "run", "--steps", steps)) == 0
    assert "Traceback" not in errors.read_text()
    assert "Warning" not in errors.read_text()
    assert not held.exists()
