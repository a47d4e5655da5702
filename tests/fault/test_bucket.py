"""A run in a bucket that is mounted as SkyPilot mounts one: files only, no links, and written to the bucket later."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(
        not (shutil.which("rclone") and shutil.which("fusermount3") and Path("/dev/fuse").exists()),
        reason="nothing mounts a bucket here: Debian's rclone and fuse3, and /dev/fuse",
    ),
]
TRAINING = ["--recipe", "llm_viz", "--steps", "4", "--save-every", "2", "--set", "machine.update=eager"]


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Path]:
    """Where it is mounted. Source of the options: skypilot 0.14.1, sky/data/mounting_utils.py, get_mount_cached_cmd."""
    mounted, content = tmp_path / "mounted", tmp_path / "content"
    mounted.mkdir()
    content.mkdir()
    options = ["--vfs-cache-mode=full", "--dir-cache-time=10s", "--vfs-cache-poll-interval=10s"]
    places = [f"--cache-dir={tmp_path}/cache", f"--config={tmp_path}/rclone.conf", f":local:{content}", str(mounted)]
    process = subprocess.Popen(["rclone", "mount", *options, "--vfs-fast-fingerprint", *places])
    try:
        while not mounted.is_mount():
            assert process.poll() is None, "rclone could not mount"
            time.sleep(0.1)
        yield mounted
    finally:
        subprocess.run(["fusermount3", "-u", str(mounted)], check=True)
        process.wait(timeout=60)


def test_a_run_is_kept_in_a_bucket_and_goes_on_from_there(bucket: Path):
    def nudge(*args: str) -> None:
        ended = subprocess.run([sys.executable, "-m", "nudge", *args], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr

    run = bucket / "run"
    nudge("train", *TRAINING, "--run", str(run))
    assert (run / "ckpt.pt").read_bytes() == (run / "checkpoints" / "step_00000004.pt").read_bytes()
    nudge("resume", str(run), "--steps", "6")
    assert (run / "ckpt.pt").read_bytes() == (run / "checkpoints" / "step_00000006.pt").read_bytes()
