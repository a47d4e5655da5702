"""bench/ablation.py runs what the package has, so it must keep up with it."""

import subprocess
import sys
from pathlib import Path

import pytest

from nudge.util import json_reader

SCRIPT = Path(__file__).parents[2] / "bench" / "ablation.py"  # in a process of its own: it changes PyTorch's functions


def ablation(*args: str) -> str:
    ended = subprocess.run([sys.executable, SCRIPT, *args], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_setups_are_measured_once_and_shown(tmp_path: Path):
    text, out = tmp_path / "text.txt", tmp_path / "results.jsonl"
    text.write_text("".join(f"{number} times {number} is {number * number}.\n" for number in range(500)))
    few = ",steps=3,warmup_steps=1,n_layer=1"
    setups = [setup + few for setup in ("base", "full,qk_norm,relu2,rms_norm,no_bias,no_gain,hidden_std=0.1,ns=4")]
    ablation(str(text), *setups, "--dtype", "bfloat16", "--out", str(out))
    base, full = json_reader.read_lines(out, dict)
    assert 1 < base["loss"] < 5 > full["loss"] > 1
    assert base["loss"] != full["loss"]
    assert (base["steps"], base["dtype"], base["settings"]["n_layer"]) == (3, "bfloat16", "1")
    again = ablation(str(text), *setups, "--dtype", "bfloat16", "--out", str(out))
    assert again == ""  # nothing is measured twice
    assert ablation("--table", str(out)).count("bfloat16") == 2
