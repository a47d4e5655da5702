"""Help comes at once: neither `import nudge` nor any command's own module may import torch."""

import json
import os
import subprocess
import sys
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


# Python itself brings 60, click with what it needs 50: it is many modules that take long, and `bench/start.py` says how
# long. nudge's own are few, because a command is imported when it is asked for.
MANY = 150


@pytest.mark.parametrize(
    ("args", "completing"),
    [(["--help"], ""), (["--version"], ""), (["train", "--help"], ""), ([], "nudge train --"), ([], "nudge ru")],
)
def test_help_and_completion_import_little(args: list[str], completing: str):
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    if completing:
        environment |= {"_NUDGE_COMPLETE": "bash_complete", "COMP_WORDS": completing, "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "nudge", *args], check=True, capture_output=True, text=True, env=environment
    )
    assert done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in imported
    assert not HEAVY & imported
    assert len(imported) < MANY
