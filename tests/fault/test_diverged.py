"""A run whose numbers overflow: JSON has no NaN, and strict readers fail on a whole file because of one."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fault.test_kill import TEXT, settings
from tests.processes import typed


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.slow
def test_what_a_diverged_run_prints_is_json(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    huge = {"train.optimizer": "adamw", "train.lr": 1e30, "train.grad_clip": 1e30, "sample.every": 0}
    training = ["train", "--data", "text.txt", "--tokenizer", "bytes", "--run", "run", *settings(40, **huge)]
    trained = typed(tmp_path, *training, "--json")
    assert trained.returncode == 2
    assert b"Traceback" not in trained.stderr
    lines = [strict(line) for line in trained.stdout.decode().splitlines()]
    assert any(line.get("not_finite") for line in lines)
    assert (lines[-1]["event"], lines[-1]["reason"]) == ("stopped", "diverged")
    assert [strict(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()][-1] == lines[-1]
    for args in (
        ["runs", ".", "--json"],
        ["inspect", "run", "--json"],
        ["eval", "run", "--data", "text.txt", "--json"],
        ["predict", "run", "--prompt", "a", "--json"],
    ):
        done = typed(tmp_path, *args)
        assert done.returncode in (0, 2), args
        assert b"Traceback" not in done.stderr
        if text := done.stdout.decode():
            strict(text)
