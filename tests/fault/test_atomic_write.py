"""kill -9 at any moment of a write leaves the old content or the new, never a mixture."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import pytest

from nudge.errors import MachineError
from nudge.util import files

# Overwrites a file forever, each time with many copies of one letter, in pieces.
WRITER = """
import itertools, sys
from pathlib import Path
from nudge.util import files

path = Path(sys.argv[1])
for letter in itertools.cycle(b"ABCDEFGH"):
    with files.atomic_writer(path) as file:
        for _ in range(64):
            file.write(bytes([letter]) * 16_384)
    print("written", flush=True)
"""
WHOLE = 64 * 16_384


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX's")
def test_killed_while_writing(tmp_path: Path):
    path = tmp_path / "file.bin"
    moment, n_cut_off = random.Random(0), 0
    for _ in range(20):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        time.sleep(moment.uniform(0, 0.02))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        content = path.read_bytes()
        assert len(content) == WHOLE
        assert content == content[:1] * WHOLE
        left_over = [other for other in tmp_path.iterdir() if other != path]
        assert len(left_over) <= 1, "the next writer removes what the one before left behind"
        n_cut_off += len(left_over)
    assert n_cut_off > 0, "no kill came in the middle of a write"
    files.write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


# Starts to write a file or a folder, prints a line, and waits in the middle until its input ends.
SLOW_WRITER = """
import sys
from pathlib import Path
from nudge.util import files

kind, path = sys.argv[1], Path(sys.argv[2])
with files.atomic_writer(path) if kind == "file" else files.new_folder(path) as target:
    target.write(b"slow") if kind == "file" else (target / "file").write_bytes(b"slow")
    print("begun", flush=True)
    sys.stdin.read()
"""


def begun(kind: str, path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SLOW_WRITER, kind, str(path)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"begun\n"
    return writer


def write(kind: str, path: Path) -> None:
    if kind == "file":
        files.write_text(path, "new")
    elif kind == "link":
        files.point_to(path, path.parent / "target")
    else:
        with files.new_folder(path) as folder:
            (folder / "file").write_text("new")


def parts_in(folder: Path) -> set[tuple[str, int]]:
    """Return whose temporary files are in a folder: the file they are for, and the process."""
    names = [part.name.removeprefix(".").rsplit(".", 4) for part in folder.glob(".*.part")]
    return {(name, int(pid)) for name, _, pid, _, _ in names}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed_by_the_next_write_and_what_a_living_one_writes_is_not(
    kind: str, tmp_path: Path
):
    path = tmp_path / "a[b]*"
    with begun(kind, path) as killed, begun("file", tmp_path / "another") as other, begun(kind, path) as living:
        for writer in (killed, other):
            writer.kill()
            writer.wait()
        write(kind, path)
        assert parts_in(tmp_path) == {(path.name, living.pid), ("another", other.pid)}
        written = path if kind == "file" else path / "file"
        written.unlink()
    assert living.returncode == 0  # the end of the block let it continue
    assert written.read_bytes() == b"slow"
    assert parts_in(tmp_path) == {("another", other.pid)}


def leave(path: Path, *, age_s: float, place: str = "", pid: int = 0, n: int = 0) -> Path:
    """Leave a temporary file, or a folder if `path` ends with one, as a process would that was killed `age_s` ago."""
    left = path.with_name(f".{path.name}.{place or files._place_of_pids()}.{pid or os.getpid()}.{n:016x}.part")
    left.write_text("half")
    os.utime(left, (time.time() - age_s,) * 2)
    return left


YEAR_S, HOUR_S = 365 * 86_400, 3600


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_number_that_is_another_process_now(kind: str, tmp_path: Path):
    """A process that is younger than the file has the number of the one that wrote it."""
    path = tmp_path / "mine"
    left = leave(path, age_s=YEAR_S)
    if kind == "folder":
        left.unlink()
        left.mkdir()
        (left / "half").touch()
        os.utime(left, (1e9, 1e9))
    names = (".mine.part", ".mine.too.7.part", f".mine.{10**12}.part", ".mine.x.part", f".mine.{os.getpid()}.part")
    kept = [tmp_path / name for name in names]
    for other in kept:
        other.touch()
    write(kind, path)
    assert sorted(tmp_path.iterdir()) == sorted([path, *kept])


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_of_another_host_or_container_only_what_is_old_is_removed(kind: str, tmp_path: Path):
    """There the process may live, whether or not a process here has its number."""
    path = tmp_path / "mine"
    kept = [leave(path, age_s=HOUR_S, place="0" * 8, pid=pid, n=pid) for pid in (os.getpid(), 999_999_999)]
    for pid in (os.getpid(), 999_999_999):
        leave(path, age_s=2 * 86_400, place="0" * 8, pid=pid, n=10 * pid)
    write(kind, path)
    assert sorted(tmp_path.iterdir()) == sorted([path, *kept])


def test_a_folder_of_another_host_is_as_old_as_its_newest_file(tmp_path: Path):
    left = tmp_path / f".mine.{'0' * 8}.7.{'0' * 16}.part"
    (left / "deep").mkdir(parents=True)
    newest = left / "deep" / "file"
    newest.touch()
    for folder in (left / "deep", left):
        os.utime(folder, (1e9, 1e9))
    write("folder", tmp_path / "mine")
    assert newest.exists()
    os.utime(newest, (1e9, 1e9))
    for folder in (left / "deep", left):
        os.utime(folder, (1e9, 1e9))
    write("file", tmp_path / "mine" / "file")
    assert left.exists(), "only what is for the same path is looked at"
    (tmp_path / "mine" / "file").unlink()
    write("folder", tmp_path / "mine")
    assert not left.exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_the_same_process_id_in_two_containers_is_two_writers(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """On a disk that they share, neither may publish, empty or remove what the other has half written."""
    path = tmp_path / "mine"
    with begun("folder" if kind == "folder" else "file", path) as elsewhere:
        monkeypatch.setattr(os, "getpid", lambda: elsewhere.pid)
        monkeypatch.setattr(files, "_place_of_pids", lambda: "0" * 8)
        before = sorted(tmp_path.iterdir())
        write(kind, path)
        assert sorted(tmp_path.iterdir()) == sorted([*before, path])
        if kind == "folder":
            (path / "file").unlink()
    assert elsewhere.returncode == 0
    assert (path / "file" if kind == "folder" else path).read_bytes() == b"slow"


@pytest.mark.parametrize("planted", ["link", "dangling link", "file", "folder"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_stands_under_the_temporary_name_is_never_written_or_removed(
    kind: str, planted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Even if somebody guesses the random part, which this test fixes."""
    path, victim = tmp_path / "folder" / "mine", tmp_path / "victim"
    path.parent.mkdir()
    victim.write_text("precious")
    (path.parent / "target").write_text("new")
    monkeypatch.setattr("secrets.token_hex", lambda n: "0" * 2 * n)
    place = path.with_name(f".mine.{files._place_of_pids()}.{os.getpid()}.{'0' * 16}.part")
    if planted == "folder":
        place.mkdir()
        (place / "precious").touch()
    elif planted == "file":
        place.write_text("precious")
    else:
        place.symlink_to(victim if planted == "link" else tmp_path / "nothing")
    before = place.lstat()
    with pytest.raises(MachineError):
        write(kind, path)
    assert not path.exists()
    assert (place.lstat().st_ino, place.lstat().st_size) == (before.st_ino, before.st_size)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "nothing").exists()
    assert planted != "folder" or (place / "precious").exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
@pytest.mark.parametrize("name", ["x" * 255, "한" * 85, "🎉" * 63, "a.b"])
def test_every_name_that_a_disk_takes_can_be_written(kind: str, name: str, tmp_path: Path):
    write(kind, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "file"
    files.write_text(path, "old")
    plain_open = Path.open

    def full(self: Path, mode: str = "r", **kw: Any) -> IO[Any]:
        return plain_open(Path("/dev/full"), "wb") if "x" in mode else plain_open(self, mode, **kw)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(MachineError, match="No space left"):
        files.write_text(path, "x" * 100_000)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
