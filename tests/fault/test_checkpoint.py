"""Checkpoints under everything that happens to files: cut, flipped, foreign, hostile, a full disk, a second process."""

import dataclasses
import json
import os
import random
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from nudge.config import Config, ModelConfig, SaveConfig
from nudge.errors import CheckpointError, RunError
from nudge.model.gpt import GPT, init_weights
from nudge.runs import checkpoint as checkpoints
from nudge.runs.checkpoint import Checkpoint
from nudge.runs.folder import RunFolder

CONFIG = Config(model=ModelConfig(n_layer=1, n_head=1, n_embd=8, block_size=8, vocab_size=11))


def checkpoint(step: int) -> Checkpoint:
    network = GPT(CONFIG.model)
    init_weights(network, seed=step)
    return Checkpoint(
        step=step,
        config=CONFIG,
        model=network.state_dict(),
        optimizer={name: {"exp_avg": torch.full_like(tensor, step)} for name, tensor in network.state_dict().items()},
        train_s=1.5 * step,
        rng=torch.get_rng_state(),
        data_fingerprint="data",
        tokenizer_sha256="tokenizer",
    )


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` cut short, or with one bit the other way round."""
    if rng.random() < 0.5:
        return data[: rng.randrange(len(data))]
    return flipped(data, rng.randrange(len(data)), rng.randrange(8))


def read_or_refused(path: Path) -> Checkpoint | CheckpointError:
    try:
        return checkpoints.read(path)
    except CheckpointError as error:
        return error


def in_another_process(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_what_is_saved_is_what_is_read(run: RunFolder) -> None:
    before = checkpoint(420)
    saved = checkpoints.save(run, before)
    after = checkpoints.read(run.checkpoints / saved["file"])
    assert after.verified
    assert after.notes == ()
    for name in ("step", "config", "skipped_in_a_row", "train_s", "data_fingerprint", "tokenizer_sha256"):
        assert getattr(after, name) == getattr(before, name), name
    assert all(torch.equal(after.model[name], tensor) for name, tensor in before.model.items())
    assert before.optimizer is not None
    assert after.optimizer is not None
    assert all(torch.equal(after.optimizer[name]["exp_avg"], s["exp_avg"]) for name, s in before.optimizer.items())
    assert before.rng is not None
    assert torch.equal(before.rng, after.rng)
    assert saved["n_bytes"] == (run.checkpoints / saved["file"]).stat().st_size


def test_a_save_removes_what_saves_that_were_cut_off_left_behind(run: RunFolder) -> None:
    run.checkpoints.mkdir(parents=True)
    for pid in (999_999_999, os.getppid()):  # of nobody; and of a process, but of another machine than the save's
        (run.checkpoints / f".step_00000003.pt.{pid}.part").touch()
    saved = checkpoints.save(run, checkpoint(1))
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["index.jsonl", saved["file"]]


def test_each_of_1000_truncations_and_bit_flips_is_detected(run: RunFolder) -> None:
    checkpoints.save(run, checkpoint(1))
    path = run.checkpoints / checkpoints.save(run, checkpoint(2))["file"]
    whole, rng = path.read_bytes(), random.Random(0)
    for number in range(1000):
        path.write_bytes(damaged(whole, rng))
        with pytest.raises(CheckpointError, match=r"step_00000002\.pt"):
            checkpoints.read(path)
        if number % 10 == 0:  # reading the one before takes its time
            found = checkpoints.read_newest(run)
            assert found.step == 1
            assert found.verified
            assert len(found.notes) == 1
            assert "step_00000002.pt skipped" in found.notes[0]


def test_damage_without_a_recorded_hash_never_ends_in_anything_but_a_clear_error(run: RunFolder) -> None:
    before = checkpoint(1)
    path = run.checkpoints / checkpoints.save(run, before)["file"]
    run.index.unlink()
    whole, rng, n_read = path.read_bytes(), random.Random(1), 0
    for _ in range(300):
        content = damaged(whole, rng)
        path.write_bytes(content)
        found = read_or_refused(path)
        if isinstance(found, CheckpointError):
            assert re.match(r"step_00000001\.pt .+$", found.message)
            continue
        n_read += 1  # a flipped bit of a weight, which nobody could notice, or of what is between the tensors
        assert len(content) == len(whole), "it was cut short"
        assert not found.verified
        same = [name for name, tensor in found.model.items() if torch.equal(tensor, before.model[name])]
        assert len(same) >= len(before.model) - 1
    assert n_read > 50


def test_a_damaged_index_never_makes_a_checkpoint_look_verified_nor_crashes(run: RunFolder) -> None:
    checkpoints.save(run, checkpoint(1))
    path = run.checkpoints / checkpoints.save(run, checkpoint(2))["file"]
    index, whole, rng = run.index.read_bytes(), path.read_bytes(), random.Random(2)
    path.write_bytes(flipped(whole, whole.index(checkpoint(2).model["wte.weight"].numpy().tobytes()), 3))
    outcomes: set[bool | str] = set()
    for _ in range(200):
        run.index.write_bytes(damaged(index, rng))
        found = read_or_refused(path)
        outcomes.add(found.message if isinstance(found, CheckpointError) else found.verified)
    # Where no line of the index names it any more, there is nothing to compare it with.
    assert outcomes == {False, "step_00000002.pt is damaged: its SHA-256 differs from the recorded one"}


def test_no_checkpoint_is_whole_any_more(run: RunFolder) -> None:
    for step in (1, 2):
        path = run.checkpoints / checkpoints.save(run, checkpoint(step))["file"]
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"step_00000002\.pt skipped.*step_00000001\.pt skipped"):
        checkpoints.read_newest(run)


def test_a_file_on_its_own_is_read_but_not_verified(run: RunFolder, tmp_path: Path) -> None:
    path = run.checkpoints / checkpoints.save(run, checkpoint(3))["file"]
    copy = tmp_path / "elsewhere" / "model.pt"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    found = checkpoints.find(copy)
    assert found.step == 3
    assert not found.verified


def test_a_file_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt"
    torch.save({"model_state_dict": {"w": torch.zeros(2)}}, path)
    with pytest.raises(CheckpointError, match="not a whole nudge checkpoint"):
        checkpoints.read(path)
    path.write_text("not even a zip archive")
    with pytest.raises(CheckpointError, match=r"foreign\.pt"):
        checkpoints.read(path)


def test_a_checkpoint_of_a_later_version(tmp_path: Path) -> None:
    path = tmp_path / "later.pt"
    torch.save({"format": checkpoints.FORMAT, "version": 99}, path)
    with pytest.raises(CheckpointError, match="version 99"):
        checkpoints.read(path)


def test_a_checkpoint_with_parts_missing(tmp_path: Path) -> None:
    path = tmp_path / "parts.pt"
    torch.save({"format": checkpoints.FORMAT, "version": checkpoints.VERSION, "step": 1}, path)
    with pytest.raises(CheckpointError, match="incomplete"):
        checkpoints.read(path)


class Bomb:
    """A pickle of this runs `touch` on the reader's machine."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.target}'",)


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path: Path) -> None:
    path, target = tmp_path / "bomb.pt", tmp_path / "it ran"
    torch.save({"format": checkpoints.FORMAT, "version": checkpoints.VERSION, "model": Bomb(target)}, path)
    with pytest.raises(CheckpointError, match="refused") as caught:
        checkpoints.read(path)
    assert caught.value.hint
    assert not target.exists()


FULL_DISK = """
    import resource, sys
    from pathlib import Path
    import torch
    from nudge.runs import checkpoint as checkpoints
    from nudge.errors import MachineError
    from nudge.runs.folder import RunFolder

    run = RunFolder(Path(sys.argv[1]))
    later = checkpoints.read_newest(run)
    later = type(later)(step=2, config=later.config, model=later.model, optimizer=later.optimizer)
    # No file of this process grows beyond the limit: to a program this is what a full disk is.
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    try:
        checkpoints.save(run, later)
    except MachineError as error:
        print(error.message, error.hint, sep="\\n")
"""


@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes are POSIX")
@pytest.mark.parametrize("limit_bytes", [0, 1000, 12_000, 19_000])
def test_a_full_disk_in_the_middle_of_a_save(run: RunFolder, limit_bytes: int) -> None:
    before = checkpoints.save(run, checkpoint(1))
    assert before["n_bytes"] > limit_bytes
    ended = in_another_process(FULL_DISK, run.path, limit_bytes)
    assert ended.returncode == 0, ended.stderr
    message, hint = ended.stdout.splitlines()
    assert "could not save step_00000002.pt: File too large" in message
    assert f"nudge resume {run.path}" in hint
    found = checkpoints.read_newest(run)
    assert (found.step, found.verified, found.notes) == (1, True, ())
    assert [path.name for path in sorted(run.checkpoints.iterdir())] == ["index.jsonl", "step_00000001.pt"]
    checkpoints.save(run, checkpoint(2))
    assert checkpoints.read_newest(run).step == 2


NO_PERMISSION = """
    import os, sys
    from pathlib import Path
    import torch
    from nudge.runs import checkpoint as checkpoints
    from nudge.config import Config
    from nudge.errors import NudgeError
    from nudge.runs.folder import RunFolder

    torch.save({}, Path(sys.argv[1]) / "warm.pt")  # what torch imports on first use must be there before the change
    if os.geteuid() == 0:
        os.setuid(65534)  # permissions do not bind root
    run = RunFolder(Path(sys.argv[1]) / "run")
    try:
        if sys.argv[2] == "save":
            checkpoints.save(run, checkpoints.Checkpoint(step=2, config=Config(), model={"w": torch.zeros(2)}))
        else:
            with run.lock():
                pass
    except NudgeError as error:
        print(type(error).__name__, error.message)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
@pytest.mark.parametrize("what", ["save", "lock"])
def test_a_folder_without_write_permission(run: RunFolder, what: str) -> None:
    checkpoints.save(run, checkpoint(1))
    for folder in (run.path, run.checkpoints):
        folder.chmod(0o555)
    try:
        ended = in_another_process(NO_PERMISSION, run.path.parent, what)
    finally:
        for folder in (run.path, run.checkpoints):
            folder.chmod(0o755)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("MachineError")
    assert "ermission denied" in ended.stdout
    assert checkpoints.read_newest(run).step == 1


HOLD = """
    import sys
    from pathlib import Path
    from nudge.runs.folder import RunFolder

    with RunFolder(Path(sys.argv[1])).lock():
        print("held", flush=True)
        sys.stdin.read()
"""


def test_a_folder_in_use_by_another_process(run: RunFolder) -> None:
    run.path.mkdir()
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="in use by another nudge process"), run.lock():
            pass
        other.kill()  # kill -9: nobody tidies up, and still the lock is gone
    with run.lock():
        pass


def test_ckpt_is_a_relative_link_to_the_newest(run: RunFolder, tmp_path: Path) -> None:
    for step in (1, 2):
        path = run.checkpoints / checkpoints.save(run, checkpoint(step))["file"]
        assert run.ckpt.resolve() == path
    assert run.ckpt.readlink() == Path("checkpoints/step_00000002.pt")
    run.path.rename(tmp_path / "moved")
    found = checkpoints.find(tmp_path / "moved" / "ckpt.pt")
    assert (found.step, found.verified) == (2, True)


def test_ckpt_as_a_plain_file_is_verified_by_the_run_s_index(run: RunFolder) -> None:
    """As a copy without links makes it, or a disk that has none."""
    path = run.checkpoints / checkpoints.save(run, checkpoint(1))["file"]
    run.ckpt.unlink()
    shutil.copy(path, run.ckpt)
    assert checkpoints.read(run.ckpt).verified
    run.ckpt.write_bytes(flipped(path.read_bytes(), 5000, 0))
    with pytest.raises(CheckpointError, match=r"ckpt\.pt is damaged"):
        checkpoints.read(run.ckpt)


def test_a_step_that_is_saved_twice(run: RunFolder) -> None:
    checkpoints.save(run, checkpoint(5))
    again = dataclasses.replace(checkpoint(5), train_s=99.0)
    checkpoints.save(run, again)
    found = checkpoints.read_newest(run)
    assert (found.step, found.train_s, found.verified) == (5, 99.0, True)
    assert [json.loads(line)["step"] for line in run.index.read_text().splitlines()] == [5, 5]


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (SaveConfig(keep_last=1), [40]),
        (SaveConfig(keep_last=2), [35, 40]),
        (SaveConfig(keep_last=99), list(range(0, 45, 5))),
        (SaveConfig(keep_last=2, keep_every=20), [0, 20, 35, 40]),
    ],
)
def test_prune_keeps_the_last_and_every_nth(run: RunFolder, keep: SaveConfig, left: list[int]) -> None:
    for step in range(0, 45, 5):
        checkpoints.save(run, checkpoint(step))
    checkpoints.prune(run, keep)
    names = [path.name for path in sorted(run.checkpoints.glob("*.pt"))]
    assert names == [f"step_{step:08d}.pt" for step in left]
    assert checkpoints.read(run.ckpt).step == 40
    assert checkpoints.read_newest(run).verified


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    for source in (tmp_path / "nothing", tmp_path):
        with pytest.raises(CheckpointError, match=str(tmp_path)) as caught:
            checkpoints.find(source)
        assert "nudge runs" in caught.value.hint
    with pytest.raises(CheckpointError, match="no run under") as caught:
        checkpoints.find(None, runs=tmp_path / "runs")
    assert "nudge train" in caught.value.hint


def test_without_a_source_the_run_that_was_written_to_last(tmp_path: Path) -> None:
    for age, name in enumerate(("newest", "older", "oldest")):
        run = RunFolder(tmp_path / name)
        checkpoints.save(run, checkpoint(age + 1))
        os.utime(run.index, (1e9 - age, 1e9 - age))
    checkpoints.save(RunFolder(tmp_path / ".half.part"), checkpoint(9))  # what an import that was killed leaves behind
    assert checkpoints.find(None, runs=tmp_path).step == 1


def test_the_tokenizer_beside_a_checkpoint(run: RunFolder) -> None:
    saved = checkpoints.save(run, checkpoint(1))
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        checkpoints.tokenizer_path(checkpoints.read(run.checkpoints / saved["file"]))
    run.tokenizer.write_text("{}")
    assert checkpoints.tokenizer_path(checkpoints.read(run.checkpoints / saved["file"])) == run.tokenizer
    assert checkpoints.tokenizer_path(checkpoints.read(run.ckpt)) == run.tokenizer
