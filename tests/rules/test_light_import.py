"""Help comes at once: neither `import nudge` nor any command's own module may import torch."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nudge.cli import COMMANDS

HEAVY = {"torch", "numpy", "tokenizers", "tiktoken", "transformers"}


def modules_after(code: str) -> set[str]:
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    return set(json.loads(subprocess.check_output([sys.executable, "-c", script], text=True)))


LIGHT = {
    "nudge",
    "nudge.config",
    "nudge.events",
    "nudge.model.sizes",
    "nudge.recipes",
    "nudge.runs.folder",
    "nudge.runs.listing",
}


@pytest.mark.parametrize("module", sorted(LIGHT | {f"nudge.cli.{module}" for module, _ in COMMANDS.values()}))
def test_importing_is_light(module: str):
    assert not HEAVY & modules_after(f"import {module}")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_listing_runs_is_light(tmp_path: Path, options: list[str]):
    (tmp_path / "first").mkdir()
    for name in ("ckpt.pt", "run.json"):
        (tmp_path / "first" / name).write_text('{"config": {"recipe": "tiny"}}')
    listed = subprocess.check_output([sys.executable, "-m", "nudge", "runs", str(tmp_path), *options], text=True)
    assert "tiny" in listed
    command = f"from nudge.cli.runs import runs; runs([{str(tmp_path)!r}, *{options}], standalone_mode=False)"
    assert not HEAVY & modules_after(
        f"import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()): {command}"
    )


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["train", "--help"]])
def test_help_answers_at_once(args: list[str]):
    assert best_of_5([*args], {}) < 0.3


def test_completion_answers_at_once():
    words = {"_NUDGE_COMPLETE": "bash_complete", "COMP_WORDS": "nudge train --", "COMP_CWORD": "2"}
    assert best_of_5([], words) < 0.3


def best_of_5(args: list[str], environment: dict[str, str]) -> float:
    """Seconds. A busy machine makes some runs slow, but not the best of a few."""
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "nudge", *args], check=True, capture_output=True, env={**os.environ, **environment}
        )
        best = min(best, time.perf_counter() - begin)
    return best
