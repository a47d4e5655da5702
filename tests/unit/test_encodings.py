"""What commands print where standard output is not UTF-8: an old code page, as in a pipe on Windows, or ASCII."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp949"])
@pytest.mark.parametrize("command", [["plan"], ["plan", "--explain"], ["--help"], ["train", "--data", "없는 파일.txt"]])
def test_any_text_is_printed(command: list[str], encoding: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-m", "nudge", *command], env=environment, cwd=tmp_path, capture_output=True)
    assert done.returncode == (2 if command[0] == "train" else 0)
    printed = (done.stdout + done.stderr).decode(encoding)
    assert "Traceback" not in printed
    if command == ["plan"]:
        assert ("10^18 FLOP" in printed) == (encoding == "ascii")
        assert "####" in printed or "████" in printed
    if command[0] == "train":
        assert ("없는 파일" in printed) == (encoding == "cp949")
        assert ("\\uc5c6" in printed) == (encoding != "cp949")
