"""Set-up: what the Makefile promises, and that every library is pinned."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned():
    extras = PROJECT["optional-dependencies"]
    needed = [line for group in (PROJECT["dependencies"], *extras.values()) for line in group]
    names = {plain(re.split(r"[^\w.-]", line)[0]) for line in needed} - {PROJECT["name"]}
    assert names <= {plain(name) for name in PINS}


def test_pins_suit_every_platform():
    assert not [name for name, version in PINS.items() if "+" in version]
    assert not [name for name in PINS if name.startswith(("nvidia", "cuda", "triton"))]


def make(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *args], cwd=folder, capture_output=True, text=True, check=False)


def test_make_alone_says_what_it_can_do():
    said = make(ROOT).stdout
    for target in ("train", "test", "check", "format", "docs", "clean"):
        assert re.search(rf"^make {target} ", said, re.M)


@pytest.mark.parametrize("python", ["false", "no-such-python"])
def test_a_python_that_will_not_do_is_one_clear_line(tmp_path: Path, python: str):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    result = make(tmp_path, f"PYTHON={python}", "train")
    assert result.returncode != 0
    assert result.stdout == (
        f"nudge needs Python 3.11 or newer, and '{python}' is not one: try 'make PYTHON=python3.12 train'\n"
    )
    assert not (tmp_path / ".venv").exists()
