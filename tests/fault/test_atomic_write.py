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

# Overwrites a file for ever, each time with one letter many times over, in pieces.
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
    moment = random.Random(0)
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
    files.write_text(path, "new")  # what a killed writer left behind is in nobody's way
    assert path.read_text() == "new"


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
