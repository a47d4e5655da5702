"""No process of a run unpickles what another one sent, and no file is unpickled except by readers that refuse code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "nudge"
UNPICKLES = {  # what it is: the files that may use it, and why
    # torch's exchange of objects, and what is built on it
    r"(gather|broadcast|scatter|send|recv)_object": {},
    r"dcp\.(save|async_save)\(": {},
    r"dcp\.load\((?!.*no_dist=True)": {},
    r"rdzv[-_]backend[ =](?!static)|--standalone": {},  # torchrun's c10d keeps its state as a pickle
    r"torch\.load\((?!.*weights_only=True)": {},
    r"\bpickle\.(load|loads)\(|allow_pickle=True": {},
    r"\bpickle\.Unpickler\b": {"data/foreign/meta_pkl.py": "a subclass that refuses every import"},
    # Between a process and its own child, through a pipe that only they have
    r"ProcessPoolExecutor\(": {"estimate/calibration.py": "child", "bench/llamacpp.py": "child"},
}


def lines() -> list[tuple[str, str]]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        found += [(name, line) for line in path.read_text(encoding="utf-8").splitlines()]
    return found


@pytest.mark.parametrize("pattern", UNPICKLES)
def test_nothing_unpickles_but_what_is_listed(pattern: str) -> None:
    found = {name for name, line in lines() if re.search(pattern, line)}
    assert found == set(UNPICKLES[pattern])


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("dist.all_gather_object(values, value)", r"(gather|broadcast|scatter|send|recv)_object"),
        ("dcp.load(tensors, storage_reader=reader)", r"dcp\.load\((?!.*no_dist=True)"),
        ("torch.load(path, mmap=True)", r"torch\.load\((?!.*weights_only=True)"),
    ],
)
def test_the_rule_finds_what_it_forbids(line: str, pattern: str) -> None:
    assert pattern in UNPICKLES
    assert re.search(pattern, line)
