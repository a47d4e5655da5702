"""Which way updates are computed, and what happens where that way cannot be had (see also test_kernels_missing.py)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # torch.compile takes its time


def compiled(folder: Path, **environment: str) -> str:
    (folder / "text.txt").write_text("".join(f"{i} and {i} make {2 * i}.\n" for i in range(500)))
    small = ["model.n_layer=1", "model.n_embd=16", "model.block_size=16", "train.batch_tokens=64", "sample.every=0"]
    done = subprocess.run(
        [sys.executable, "-m", "nudge", "train", "--data", "text.txt", "--tokenizer", "bytes", "--steps", "3"]
        + [f"--set={setting}" for setting in (*small, "machine.update=compiled", "machine.dtype=float32")],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def losses(output: str) -> list[str]:
    return [line.split()[1] for line in output.splitlines() if line.split()[:1] in (["1"], ["2"], ["3"])]


def test_compiled_updates_and_what_becomes_of_them_without_a_compiler(tmp_path: Path) -> None:
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    without = compiled(tmp_path / "without", CXX="/nowhere/c++")
    assert "update eager: torch.compile does not work here" in without
    with_compiler = compiled(tmp_path / "with")
    if "update compiled: as asked" not in with_compiler:
        pytest.skip("torch.compile finds no C++ compiler here")
    assert [float(x) for x in losses(with_compiler)] == pytest.approx([float(x) for x in losses(without)], abs=2e-4)
    assert len(losses(without)) == 3
