"""`nudge eval` of a text: how far it is, and a part of it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import nudge
from nudge.cli import cli, progress
from nudge.eval.loss import Reading, evaluate


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "some text.txt"
    path.write_text("The little dog ran to the edge of the water.\n" * 300, encoding="utf-8")
    return path


def measure(trained: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["eval", str(trained / "small"), *arguments], catch_exceptions=False)


def test_a_part_is_measured_exactly_and_said(trained: Path, text: Path):
    found = json.loads(measure(trained, "--data", str(text), "--tokens", "0.1K", "--json").stdout)
    assert (found["tokens"], found["stopped"]) == (100, True)
    assert (
        "tokens         100, the first of the text (--tokens)"
        in measure(trained, "--data", str(text), "--tokens", "100").stdout.splitlines()
    )


def test_more_tokens_than_there_are_is_all_of_the_text(trained: Path, text: Path):
    part, whole = (
        json.loads(measure(trained, "--data", str(text), "--json", *more).stdout) for more in (["--tokens", "1B"], [])
    )
    assert part == whole
    assert not whole["stopped"]
    assert whole["tokens"] > 100


def test_a_part_of_the_validation_split(trained: Path):
    found = json.loads(measure(trained, "--tokens", "70", "--json").stdout)
    assert found["tokens"] == 70


@pytest.mark.parametrize("tokens", ["0", "-3", "many"])
def test_no_tokens_are_refused(trained: Path, tokens: str):
    refused = measure(trained, "--tokens", tokens)
    assert refused.exit_code == 2
    assert "--tokens" in refused.stderr


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", None])
def test_the_total_is_what_is_read(trained: Path, text: Path, suffix: str | None):
    """A text file's bytes, a validation split's tokens; lines of JSON hold more than text, so nothing is claimed."""
    path = text.with_suffix(suffix) if suffix else None
    if suffix == ".jsonl":
        path.write_text(json.dumps({"text": text.read_text()}), encoding="utf-8")
    readings: list[Reading] = []
    done = 0

    def watched(reading: Reading):
        nonlocal done
        readings.append(reading)
        for window in reading.windows:
            done += reading.size_of(window)
            yield window

    score = evaluate(nudge.load(trained / "small"), [path] if path else None, watched=watched)
    (reading,) = readings
    if suffix == ".jsonl":
        assert reading.total is None
    else:
        assert reading.total == done == (text.stat().st_size if suffix else score.tokens)


def test_without_a_terminal_progress_is_lines_on_standard_error(trained, text, monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    printed = measure(trained, "--data", str(text), "--json")
    assert len(printed.stdout.splitlines()) == 1
    shares = [line.rpartition(" ")[2] for line in printed.stderr.splitlines() if line.endswith("%")]
    assert shares[-1] == "100%"
    assert shares == sorted(shares, key=lambda share: int(share[:-1]))
    monkeypatch.setattr(progress, "LINE_EVERY_S", 1e9)
    assert "%" not in measure(trained, "--data", str(text), "--json").stderr
