"""Wrong input on purpose: one clear line, what to type instead, exit code 2, and nothing lost."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nudge import cli
from nudge.data import tokenizer as tokenizers
from nudge.errors import NudgeError
from nudge.runs import checkpoint
from nudge.runs.folder import RunFolder

SMALL = [
    f"--set={setting}"
    for setting in (
        "model.n_layer=1",
        "model.n_head=2",
        "model.n_embd=16",
        "model.block_size=16",
        "train.batch_tokens=64",
        "machine.dtype=float32",
        "machine.threads=1",
        "sample.max_tokens=4",
        "eval.tokens=64",
    )
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 200)
    return tmp_path


class Failure:
    """Run a command that must fail: exit code 2, and an error with a hint on standard error."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys = capsys
        self.errors: list[NudgeError] = []
        command = cli.cli.main

        def main(*args: Any, **settings: Any) -> Any:
            try:
                return command(*args, **settings)
            except NudgeError as error:
                self.errors.append(error)
                raise

        monkeypatch.setattr(cli.cli, "main", main)

    def __call__(self, *args: str) -> NudgeError:
        """Return the error of the command."""
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            cli.main(list(args))
        printed = self.capsys.readouterr()
        assert exit_info.value.code == 2, printed.out + printed.err
        assert "Traceback" not in printed.err
        error = self.errors.pop()
        assert not self.errors
        assert f"error: {error.message}\n hint: {error.hint}\n" in printed.err
        assert error.hint
        return error


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Failure:
    return Failure(capsys, monkeypatch)


def run_ok(*args: str) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(list(args))
    assert not exit_info.value.code


@pytest.fixture
def run(here: Path, runs: Path) -> Path:
    """A copy of the run that the whole session shares: 60 updates, checkpoints at 0, 20, 40 and 60."""
    return runs / "small"


def train(*args: str) -> list[str]:
    return ["train", "--data", "text.txt", "--tokenizer", "bytes", "--run", "run", "--steps", "2", *SMALL, *args]


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["--recipe", "tinny"], "'tinny'", "'tiny'"),
        (["--set", "train.lrr=1"], "'train.lrr'", "'train.lr'"),
        (["--set", "lr=1"], "'lr'", "'train.lr'"),
        (["--set", "train.lr"], "train.lr", "train.lr"),
        (["--set", "train.lr=-1"], "train.lr must be 0 or a positive number, got -1", ""),
        (["--set", "train.lr=nan"], "got nan", ""),
        (["--set", "train.lr=fast"], "'train.lr' must be a number, got 'fast'", ""),
        (["--set", "model.n_head=3"], "n_embd 16 is not divisible by model.n_head 3", ""),
        (["--set", "train.batch_tokens=100"], "model.block_size", "train.batch_tokens=96"),
        (["--set", "sample.top_p=2"], "top_p must be above 0 and at most 1, got 2", ""),
        (["--set", "train.optimizer=adam"], "'adam'", "'adamw'"),
        (["--set", "machine.device=cuda:7"], "'cuda:7'", "machine.device=cpu"),
        (["--set", "sample.prompt=" + "long " * 50], "context of 16 tokens", ""),
        (["--config", "missing.toml"], "missing.toml", ""),
    ],
)
def test_settings(here: Path, fails: Failure, args: list[str], message: str, hint: str) -> None:
    error = fails(*train(), *args)
    assert message in error.message
    assert hint in error.hint
    assert not (here / "run").exists()


def test_options_that_exclude_each_other(here: Path, fails: Failure) -> None:
    for limits in (("--minutes", "1", "--tokens", "10M"), ("--steps", "2", "--minutes", "1")):
        error = fails("train", "--data", "text.txt", *limits)
        assert (error.code, error.values) == (
            "config.exclusive_options",
            {"options": "--steps, --tokens, --minutes"},
        )
    assert fails(*train("--init", "nowhere")).code == "config.tokenizer_with_init"


def test_a_count_that_is_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(train("--tokens", "many"))
    error, hint = capsys.readouterr().err.splitlines()
    assert exit_info.value.code == 2
    assert "'many'" in error
    assert "--help" in hint


def test_config_files(here: Path, fails: Failure) -> None:
    (here / "broken.toml").write_text("[train\nlr = 1")
    error = fails(*train("--config", "broken.toml"))
    assert "broken.toml" in error.message
    assert "TOML" in error.message
    (here / "unknown.toml").write_text("[trian]\nlr = 1")
    error = fails(*train("--config", "unknown.toml"))
    assert "'trian'" in error.message
    assert "'train" in error.hint


def test_data(here: Path, fails: Failure) -> None:
    def message(path: str) -> str:
        return fails("train", "--data", path, "--tokenizer", "bytes", "--run", "run", *SMALL).message

    assert "missing.txt" in message("missing.txt")
    (here / "empty.txt").write_text("")
    assert "empty" in message("empty.txt")
    (here / "binary.txt").write_bytes(bytes(range(256)) * 50)
    assert "binary" in message("binary.txt")
    (here / "short.txt").write_text("too short")
    assert "17" in message("short.txt")  # tokens of one window
    (here / "lines.jsonl").write_text('{"txet": "hello"}\n')
    words = message("lines.jsonl")
    assert "lines.jsonl" in words
    assert "'text'" in words
    assert not (here / "run").exists()


def test_data_without_its_option(fails: Failure, here: Path) -> None:
    error = fails("train", "text.txt")
    assert error.code == "config.text_without_data"
    assert "--data text.txt" in error.hint


def test_a_folder_that_holds_a_run(run: Path, fails: Failure) -> None:
    error = fails(*train("--run", str(run)))
    assert str(run) in error.message
    assert "nudge resume" in error.hint


def test_damaged_checkpoints_fall_back(run: Path, fails: Failure, capsys: pytest.CaptureFixture[str]) -> None:
    newest = run / "checkpoints" / "step_00000060.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert "SHA-256" in fails("sample", str(newest)).message
    run_ok("sample", str(run), "--max-tokens", "3")
    assert "step_00000060.pt passed over" in capsys.readouterr().err
    run_ok("resume", str(run), "--json")
    assert checkpoint.newest(RunFolder(run)).step == 60
    for path in (run / "checkpoints").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:1000])
    assert "damaged" in fails("resume", str(run)).message


def test_a_pickle_that_wants_to_run_code(here: Path, fails: Failure) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(here / 'pwned')!r}, 'w')",))

    (here / "evil.pt").write_bytes(pickle.dumps(Attack()))
    assert "evil.pt" in fails("sample", "evil.pt").message
    torch.save({"format": Attack()}, here / "evil2.pt")
    assert "evil2.pt" in fails("sample", "evil2.pt").message
    assert not (here / "pwned").exists()


def test_foreign_files(here: Path, fails: Failure) -> None:
    torch.save({"weights": torch.zeros(3)}, here / "foreign.pt")
    assert "foreign.pt" in fails("sample", "foreign.pt").message
    (here / "notes.pt").write_text("no checkpoint at all")
    assert "notes.pt" in fails("sample", "notes.pt").message


def test_a_tokenizer_that_does_not_fit(run: Path, fails: Failure) -> None:
    tokenizers.chars(["abc"]).save(run / "tokenizer.json")
    assert "tokenizer.json" in fails("sample", str(run)).message


def test_prepared_with_another_tokenizer(run: Path, fails: Failure) -> None:
    run_ok("data", "prepare", "text.txt", "--tokenizer", "chars", "--out", "prepared")
    assert "prepared" in fails("train", "--data", "prepared", "--init", str(run), "--run", "tuned", *SMALL).message


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--top-p", "2"], "top_p must be above 0 and at most 1"),
        (["--temperature", "-1"], "temperature"),
        (["--temperature", "nan"], "temperature"),
        (["--top-k", "0"], "top_k"),
        (["--prompt", "a prompt that is longer than the context " * 9], "32"),
    ],
)
def test_sampling(run: Path, fails: Failure, args: list[str], words: str) -> None:
    assert words in fails("sample", str(run), *args).message


def test_nothing_there(here: Path, fails: Failure) -> None:
    for command in ("sample", "resume", "eval"):
        assert "runs" in fails(command).message
    assert "nowhere" in fails("resume", "nowhere").message
    assert "nowhere" in fails("eval", "nowhere").message


def test_resume(run: Path, fails: Failure) -> None:
    assert "--steps 2" in fails("resume", str(run), "--steps", "2").message
    error = fails("resume", str(run), "--steps", "90", "--minutes", "1")
    assert (error.code, error.values) == ("config.exclusive_options", {"options": "--steps, --minutes"})


def lose_tokens(run: Path, monkeypatch: pytest.MonkeyPatch, **data: object) -> None:
    """Let a run look for its tokens where they are not, as after the cache was emptied. `data`: settings to change."""
    monkeypatch.setenv("NUDGE_CACHE", str(run.parent / "cache"))
    values = json.loads((run / "run.json").read_text())
    values["data"]["dir"] = str(run.parent / "cache" / "gone")
    values["config"]["data"] |= data
    (run / "run.json").write_text(json.dumps(values))


def test_text_that_changed_and_tokens_that_are_gone(run: Path, fails: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_tokens(run, monkeypatch, paths=["text.txt"])
    assert "not what this run began with" in fails("resume", str(run), "--steps", "90").message


def test_tokens_that_are_gone_are_made_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_tokens(run, monkeypatch)
    run_ok("resume", str(run), "--steps", "61", "--json")
    assert checkpoint.newest(RunFolder(run)).step == 61


def test_no_write_permission(here: Path) -> None:
    """As another user, because the tests may run as root, whom no permission binds."""
    locked = here / "locked"
    locked.mkdir(mode=0o555)
    script = f"""
import os
from pathlib import Path
from nudge import errors
from nudge.runs.folder import RunFolder
from nudge.train import run as runs
errors.catalog()  # the other user may not be able to read it
if os.getuid() == 0:
    os.setuid(65534)
try:
    runs._make_folder(RunFolder(Path({str(locked)!r}) / "run"))
except errors.MachineError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert str(locked / "run") in result.stdout, result.stderr


def test_a_learning_rate_that_diverges(here: Path, fails: Failure) -> None:
    error = fails(*train("--steps=20", "--set=train.lr=1e30", "--set=train.warmup_steps=0"))
    assert error.code == "run.diverged"
    assert "smaller learning rate" in error.hint
    stopped = checkpoint.newest(RunFolder(here / "run"))
    assert stopped.skipped_in_a_row == 5
    assert all(torch.isfinite(tensor).all() for tensor in stopped.model.values())


def test_a_model_that_does_not_fit(here: Path, fails: Failure) -> None:
    assert "GB of memory" in fails(*train("--set=model.n_embd=65536", "--set=model.n_layer=96")).message
