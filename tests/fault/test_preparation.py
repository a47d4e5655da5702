"""Preparations that are killed, interrupted, doubled or damaged."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nudge.config import DataConfig
from nudge.data import encoding, resume_log
from nudge.data.batches import Batches
from nudge.data.prepare import prepare
from nudge.data.shards import Dataset, open_dataset
from nudge.errors import DataError

CHUNK_CHARS, SHARD_TOKENS = 500, 2000

# A preparation of many small shards that can be watched and killed: each group takes a moment.
SLOW = f"""
import sys, time
from nudge.config import DataConfig
from nudge.data import encoding
from nudge.data.prepare import prepare
from pathlib import Path

encoding.CHUNK_CHARS, encoding.SHARD_TOKENS = {CHUNK_CHARS}, {SHARD_TOKENS}
at_once = encoding.encode_group

def slowly(group, tokenizer):
    time.sleep(float(sys.argv[3]))
    return at_once(group, tokenizer)

encoding.encode_group = slowly
config = DataConfig(paths=(sys.argv[1],), tokenizer="bpe-300")
for event in prepare(config, out=Path(sys.argv[2]), threads=2):
    print(event.what, flush=True)
"""


@pytest.fixture
def text(tmp_path: Path) -> Path:
    draw = random.Random(0)
    path = tmp_path / "text.jsonl"
    with path.open("w") as file:
        for number in range(1500):
            words = " ".join(draw.choices(["alpha", "beta", "gamma", "delta", "épsilon"], k=draw.randint(1, 30)))
            file.write(json.dumps({"text": f"{number} {words}"}) + "\n")
    return path


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "CHUNK_CHARS", CHUNK_CHARS)
    monkeypatch.setattr(encoding, "SHARD_TOKENS", SHARD_TOKENS)


@pytest.fixture
def start(text: Path) -> Iterator[object]:
    started: list[subprocess.Popen[str]] = []

    def run(folder: Path, seconds_a_group: float) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", SLOW, str(text), str(folder), str(seconds_a_group)]
        started.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def make(text: Path, out: Path) -> Dataset:
    list(prepare(DataConfig(paths=(str(text),), tokenizer="bpe-300"), out=out, threads=2))
    return open_dataset(out)


def log_text(folder: Path) -> str:
    path = folder / resume_log.NAME
    return path.read_text() if path.exists() else ""


def wait_for_shards(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while log_text(folder).count('"split": "train"') < count:
        assert time.monotonic() < deadline, "no shards came"
        time.sleep(0.01)


@pytest.mark.parametrize("n_shards", [1, 4])
def test_killed_and_continued_is_as_if_nothing_had_happened(tmp_path: Path, text: Path, start, n_shards: int):
    expected = make(text, tmp_path / "whole")
    process = start(tmp_path / "tokens", 0.05)
    wait_for_shards(tmp_path / "tokens", n_shards)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(DataError) as unfinished:
        open_dataset(tmp_path / "tokens")
    assert unfinished.value.code == "data.not_prepared"
    (tmp_path / "tokens" / ".train_000009.bin.1.part").write_bytes(b"half a shard")
    first = tmp_path / "tokens" / "train_000000.bin"
    written = first.stat().st_mtime_ns

    dataset = make(text, tmp_path / "tokens")
    assert dataset.fingerprint == expected.fingerprint
    assert dataset.manifest.train == expected.manifest.train
    assert first.stat().st_mtime_ns == written, "a finished shard is not made again"
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {path.name for path in (tmp_path / "tokens").iterdir()} == names
    dataset.verify()


def test_a_shard_that_was_damaged_in_between_is_made_again(tmp_path: Path, text: Path, start):
    process = start(tmp_path / "tokens", 0.05)
    wait_for_shards(tmp_path / "tokens", 3)
    process.kill()
    process.wait()
    shard = tmp_path / "tokens" / "train_000001.bin"
    shard.write_bytes(shard.read_bytes()[:-10])
    assert make(text, tmp_path / "tokens").fingerprint == make(text, tmp_path / "whole").fingerprint


def test_what_was_begun_for_other_text_is_forgotten(tmp_path: Path, text: Path, start):
    process = start(tmp_path / "tokens", 0.05)
    wait_for_shards(tmp_path / "tokens", 3)
    process.kill()
    process.wait()
    lines = text.read_text().splitlines(keepends=True)
    text.write_text("".join(lines[100:150]))
    assert make(text, tmp_path / "tokens").fingerprint == make(text, tmp_path / "whole").fingerprint
    bins = {path.name for path in (tmp_path / "tokens").glob("*.bin")}
    assert bins == {path.name for path in (tmp_path / "whole").glob("*.bin")}


def test_control_c_ends_at_once(tmp_path: Path, start):
    process = start(tmp_path / "tokens", 0.2)
    wait_for_shards(tmp_path / "tokens", 1)
    interrupted = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert time.monotonic() - interrupted < 5
    assert "KeyboardInterrupt" in stderr


@pytest.mark.parametrize("busy_s", [0.2, 2.0])
def test_control_c_while_a_vocabulary_is_learned(tmp_path: Path, busy_s: float):
    """The thread that learns is inside a library: an orderly exit under it aborts with a message from glibc."""
    text = tmp_path / "words.txt"  # no two alike, so that learning them takes far longer than this test waits
    text.write_text("\n".join(random.Random(0).randbytes(10).hex() for _ in range(800_000)))
    command = [sys.executable, "-m", "nudge", "data", "prepare", str(text), "--tokenizer", "bpe-30000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while process.stderr.readline() != "learning a vocabulary\n":
            assert process.poll() is None
        time.sleep(busy_s)
        interrupted = time.monotonic()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert time.monotonic() - interrupted < 8
    assert (process.returncode, stdout, stderr) == (130, "", "\n")  # click ends the line on which ^C stands


def test_two_at_once_make_one_dataset(tmp_path: Path, text: Path, start):
    both = [start(tmp_path / "tokens", 0.01) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    worked = ["tokens" in output for output, _ in outputs]
    assert sorted(worked) == [False, True], "the second waits and takes what the first has made"
    assert open_dataset(tmp_path / "tokens").fingerprint == make(text, tmp_path / "whole").fingerprint


def test_ids_out_of_range_are_found_when_they_are_read(tmp_path: Path, text: Path):
    dataset = make(text, tmp_path / "tokens")
    shard = tmp_path / "tokens" / "train_000000.bin"
    data = bytearray(shard.read_bytes())
    data[-1] = 0xFF
    shard.write_bytes(data)
    batches = Batches(dataset.train, block_size=16, n_sequences=8, seed=0, vocab_size=dataset.tokenizer.vocab_size)
    with pytest.raises(DataError) as out_of_range:
        [batches(step) for step in range(batches.n_windows // 8 + 1)]
    assert out_of_range.value.code == "data.unknown_token"
    with pytest.raises(DataError) as damaged:
        open_dataset(tmp_path / "tokens").verify()
    assert damaged.value.code == "data.damaged"
