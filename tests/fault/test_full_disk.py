"""A disk that is really full, and output that nobody takes: one line, and what was complete before stays readable."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.fault.test_kernels_missing import three_updates
from tests.fault.test_kill import TEXT, assert_same_run, ended, finish, settings, start, wait_for_lines
from tests.fault.test_processes import wait_for_silence
from tests.processes import typed
from tests.refusals import refused
from tests.waiting import LONG_S

from nudge import events
from nudge.recipes import recipe
from nudge.runs import checkpoint
from nudge.runs.folder import RunFolder
from nudge.studio.launch import Launcher
from nudge.studio.words import Words
from nudge.train import control

SIZE = 4 << 20
RARELY = {"save.every": 1_000_000, "eval.every": 0, "sample.every": 0}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 4 MiB; the command's folder, with the text, is on another one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "nudge", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk; without it, test_kill.py limits the size of files")
    (tmp_path / "text.txt").write_text(TEXT)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Take all that is left of a disk."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


def train_args(steps: int = 1_000_000, **more: object) -> list[str]:
    return [*("train", "--data", "text.txt", "--tokenizer", "bytes", "--run", "disk/run"), *settings(steps, **more)]


def errors_of(folder: Path) -> str:
    errors = (folder / "errors.txt").read_text()
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    return errors


@pytest.mark.slow
def test_a_run_on_a_full_disk_ends_with_one_line_and_goes_on_when_there_is_room(tmp_path: Path, disk: Path) -> None:
    folder = RunFolder(disk / "run")
    process = start(tmp_path, train_args(400, **RARELY))
    wait_for_lines(process, folder.path, 20)
    filler = fill(disk)
    assert ended(process) == 2
    errors = errors_of(tmp_path)
    assert errors.count("error: ") == 1
    assert "No space left on device" in errors
    assert "nudge resume disk/run" in errors
    assert not list(disk.rglob("*.part"))
    log = folder.events.read_bytes()
    told = events.read(folder.events)
    assert told, "what was complete stays readable"
    assert checkpoint.read_newest(folder).verified

    # There is still no room: a resumption says so, and changes nothing.
    assert ended(start(tmp_path, ["resume", "disk/run"])) == 2
    assert "No space left on device" in errors_of(tmp_path)
    assert events.read(folder.events)[: len(told) - 1] == told[:-1]
    assert folder.events.read_bytes().startswith(log)

    filler.unlink()
    finish(tmp_path, ["resume", "disk/run"])
    finish(tmp_path, ["train", "--data", "text.txt", "--tokenizer", "bytes", "--run", "ref", *settings(400, **RARELY)])
    assert_same_run(folder.path, tmp_path / "ref")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_whose_disk_is_full(tmp_path: Path, disk: Path, number: signal.Signals) -> None:
    """The stop needs no file. What cannot be saved is one error; the checkpoint before it stays."""
    folder = RunFolder(disk / "run")
    process = start(tmp_path, train_args(**RARELY))
    wait_for_lines(process, folder.path, 20)
    control.send(folder, "pause")  # so that the log does not find the full disk first
    wait_for_silence(folder, 0.5)
    fill(disk)
    with refused("machine.not_written", path=folder.control):
        control.send(folder, "stop")
    assert folder.control.read_text() == "pause\n"
    os.kill(process.pid or 0, number)
    assert ended(process) == 2
    errors = errors_of(tmp_path)
    assert errors.count("error: ") == 1
    assert "No space left on device" in errors
    assert checkpoint.read_newest(folder).step == 0


def output(home: Path, *args: str, **streams: int | None) -> subprocess.CompletedProcess[bytes]:
    """`nudge ARGS` with these streams; those that are not given are collected."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **streams}
    return subprocess.run([sys.executable, "-m", "nudge", *args], cwd=home, timeout=LONG_S, **given)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("args", ["runs", "--help", "plan --json", "completion bash", "plan gpt2_small"])
def test_output_on_a_full_disk_is_one_line(tmp_path: Path, args: str) -> None:
    with Path("/dev/full").open("wb") as full:
        refused = output(tmp_path, *args.split(), stdout=full.fileno())
        assert refused.returncode == 2
        assert refused.stderr.decode().splitlines()[0] == (
            "error: cannot read or write standard output: No space left on device"
        )
        assert len(refused.stderr.splitlines()) == 2
        both = output(tmp_path, *args.split(), stdout=full.fileno(), stderr=full.fileno())
        assert both.returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize("args", ["runs", "--help", "plan --json", "completion bash", "plan gpt2_small"])
def test_output_that_nobody_reads_ends_the_command_quietly(tmp_path: Path, args: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        unread = output(tmp_path, *args.split(), stdout=write)
    finally:
        os.close(write)
    assert (unread.returncode, unread.stderr) == (141, b"")


@pytest.mark.slow
def test_what_is_written_to_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, disk: Path, trained: Path) -> None:
    source = str(next(trained.iterdir()))
    commands = {
        "hf": ["export", source, "--to", "hf", "--out"],
        "one": ["export", source, "--to", "ckpt", "--out"],
        "page.pdf": ["sheet", "run", source, "--out"],
        "job.sh": ["launch", "--on", "local", "--out"],
        "tokens": ["data", "prepare", "text.txt", "--tokenizer", "bytes", "--out"],
        "tokenizer.json": ["tokenizer", "train", "text.txt", "--vocab-size", "300", "--out"],
    }
    for name, args in commands.items():
        filler = fill(disk)
        said = typed(tmp_path, *args, f"disk/{name}")
        errors = said.stderr.decode().splitlines()
        assert (said.returncode, said.stderr.count(b"error: ")) == (2, 1), said.stderr.decode()
        named = "disk" if name == "tokenizer.json" else f"disk/{name}"
        assert f"{named}: No space left on device" in errors[-2]
        filler.unlink()
        assert {path.name for path in disk.rglob("*") if path.is_file()} <= {".lock"}, name


def test_a_button_whose_word_cannot_be_written_shows_one_line_in_both_languages(disk: Path) -> None:
    folder = RunFolder(disk)
    fill(disk)
    with refused("machine.not_written", path=folder.control) as caught:
        control.send(folder, "stop")
    error = caught.value
    assert Words("en").failure(error) == (error.message, error.hint)
    korean, hint = Words("ko").failure(error)
    assert str(folder.control) in korean
    assert "No space left on device" in korean
    assert (korean, hint) != (error.message, error.hint)
    assert not folder.control.exists()


def test_a_run_that_no_page_could_stop_is_not_started(disk: Path) -> None:
    """The log of a process takes no room while it is empty; the file that names the process does."""
    fill(disk)
    launcher = Launcher(disk)
    with refused("machine.not_written"):
        launcher.start("run", recipe("tiny"))
    assert not any("train" in child.cmdline() for child in psutil.Process().children())
    assert not (disk / "run").exists()


@pytest.mark.slow
def test_a_full_cache_does_not_make_a_run_slow(disk: Path, tmp_path: Path) -> None:
    """The kernels are compiled elsewhere, for this process alone."""
    disk.chmod(0o755)  # as a cache must be
    if (usual := three_updates(tmp_path / "cache"))["update"] != "fast":
        pytest.skip(f"no fast update on this machine: {usual['why']}")
    fill(disk)
    assert three_updates(disk)["update"] == "fast"
    assert [path.name for path in disk.rglob("*") if path.is_file()] == ["filler"]
