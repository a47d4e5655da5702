"""kill -9 at any moment of a write leaves the old content or the new, never a mixture."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
        parts = {part.name for part in tmp_path.glob(".*")}
        assert parts == {f".{path.name}.{living.pid}.part", f".another.{other.pid}.part"}
        written = path if kind == "file" else path / "file"
        written.unlink()
    assert living.returncode == 0  # the end of the block let it continue
    assert written.read_bytes() == b"slow"
    assert [part.name for part in tmp_path.glob(".*")] == [f".another.{other.pid}.part"]


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_number_that_is_another_process_now(kind: str, tmp_path: Path):
    """In a container the first process always has id 1, so the files of an earlier one have the id of this one."""
    path = tmp_path / "mine"
    left_over = tmp_path / f".mine.{os.getpid()}.part"
    if kind == "folder":
        left_over.mkdir()
        (left_over / "half").touch()
    else:
        left_over.touch()
    os.utime(left_over, (1e9, 1e9))
    kept = [tmp_path / name for name in (".mine.part", ".mine.too.7.part", f".mine.{10**12}.part", ".mine.x.part")]
    for other in kept:
        other.touch()
    write(kind, path)
    assert sorted(tmp_path.iterdir()) == sorted([path, *kept])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "file"
    files.write_text(path, "old")
    plain_open = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r", **kw: plain_open(Path("/dev/full") if "w" in mode else self, mode, **kw)
    )
    with pytest.raises(OSError, match="No space left"):
        files.write_text(path, "x" * 100_000)
    assert path.read_text() == "old"
