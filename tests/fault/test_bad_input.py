"""Wrong input on purpose: one clear line, what to type instead, exit code 2, and nothing lost."""

import json
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from nudge import cli
from nudge.data import tokenizer as tokenizers
from nudge.errors import NudgeError
from nudge.runs import checkpoint
from nudge.runs.folder import RunFolder
from nudge.util.terminal_text import one_line

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
        assert f"error: {one_line(error.message)}\n hint: {one_line(error.hint)}\n" in printed.err
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
    ("setting", "code", "words"),
    [
        ("train.lrr=1", "config.unknown_setting", "'train.lr'"),
        ("lr=1", "config.unknown_setting", "'train.lr'"),
        ("train.lr", "config.no_assignment", "--set"),
        ("train.lr=-1", "config.out_of_range", "got -1"),
        ("train.lr=nan", "config.out_of_range", "got nan"),
        ("train.lr=fast", "config.wrong_type", "'fast'"),
        ("model.n_head=3", "config.heads_do_not_divide", "n_embd 16"),
        ("train.batch_tokens=100", "config.partial_window", "train.batch_tokens=96"),
        ("sample.top_p=2", "config.out_of_range", "got 2"),
        ("train.optimizer=adam", "config.unknown_choice", "'adamw'"),
        ("machine.device=cuda:7", "machine.no_device", "'cuda:7'"),
        ("sample.prompt=" + "long " * 50, "config.sample_prompt_too_long", "16 tokens"),
        ("train.micro_batch=67108864", "machine.memory", "GB of memory"),
    ],
)
def test_settings(here: Path, fails: Failure, setting: str, code: str, words: str) -> None:
    huge = ["--set=train.batch_tokens=1073741824"] if code == "machine.memory" else []
    error = fails(*train("--set", setting, *huge))
    assert error.code == code
    assert words in f"{error.message}; {error.hint}"
    assert not (here / "run").exists()


def test_recipes_and_config_files(here: Path, fails: Failure) -> None:
    error = fails(*train("--recipe", "tinny"))
    assert error.code == "config.unknown_recipe"
    assert "'tiny'" in error.hint
    assert fails(*train("--config", "missing.toml")).code == "config.unreadable_file"
    (here / "broken.toml").write_text("[train\nlr = 1")
    assert fails(*train("--config", "broken.toml")).code == "config.not_toml"
    (here / "unknown.toml").write_text("[trian]\nlr = 1")
    error = fails(*train("--config", "unknown.toml"))
    assert (error.code, error.values["key"]) == ("config.unknown_setting", "trian")
    assert "'train" in error.hint


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


def test_data(here: Path, fails: Failure) -> None:
    def error(path: str) -> NudgeError:
        return fails("train", "--data", path, "--tokenizer", "bytes", "--run", "run", *SMALL)

    assert error("missing.txt").code == "data.missing"
    (here / "empty.txt").write_text("")
    assert error("empty.txt").code == "data.no_text"
    (here / "binary.txt").write_bytes(bytes(range(256)) * 50)
    assert error("binary.txt").code == "data.binary"
    (here / "short.txt").write_text("too short")
    too_short = error("short.txt")
    assert (too_short.code, too_short.values["window"]) == ("data.too_short", 17)
    (here / "lines.jsonl").write_text('{"txet": "hello"}\n')
    no_field = error("lines.jsonl")
    assert (no_field.code, no_field.values["field"]) == ("data.no_field", "text")
    assert "lines.jsonl" in no_field.message
    assert not (here / "run").exists()


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + "/y", "x/" * 3000], ids=["long", "inside", "deep"])
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("sample NAME", "checkpoint.not_found"),
        ("eval NAME", "checkpoint.not_found"),
        ("predict NAME", "checkpoint.not_found"),
        ("export NAME --to hf --out out", "checkpoint.not_found"),
        ("train --data text.txt --init NAME", "checkpoint.not_found"),
        ("inspect NAME", "checkpoint.not_found"),
        ("inspect NAME.safetensors", "checkpoint.not_found"),
        ("inspect NAME --json", "checkpoint.not_found"),
        ("resume NAME", "run.no_run"),
        ("tokenizer decode --tokenizer NAME.json", "tokenizer.unreadable"),
        ("data prepare text.txt --tokenizer NAME.json", "tokenizer.unreadable"),
    ],
)
def test_a_name_that_the_system_refuses(here: Path, fails: Failure, command: str, code: str, name: str) -> None:
    error = fails(*command.replace("NAME", name).split(" "))
    assert error.code == code
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("init=a\0b", "checkpoint.not_found"),
        ("data.paths=a\0b", "data.missing"),
        ("data.tokenizer=a\0b.json", "tokenizer.unreadable"),
    ],
)
def test_a_zero_byte_in_a_setting(here: Path, fails: Failure, setting: str, code: str) -> None:
    """No option takes such a path (tests/rules/test_terminal.py), a file of settings may hold it."""
    data = () if "paths" in setting else ("--data", "text.txt")
    assert fails("train", *data, "--set", setting).code == code


def test_a_run_with_a_name_that_the_system_refuses(here: Path, fails: Failure) -> None:
    assert (
        fails("train", "--data", "text.txt", "--tokenizer", "bytes", "--run", "x" * 300, *SMALL).code
        == "machine.no_folder"
    )
    run_ok("runs", "x" * 300)


def test_data_without_its_option(fails: Failure, here: Path) -> None:
    error = fails("train", "text.txt")
    assert error.code == "config.text_without_data"
    assert "--data text.txt" in error.hint


@pytest.mark.parametrize("data", [(), ("--data", "text.txt")])
def test_a_second_setting_without_its_option(fails: Failure, here: Path, data: tuple[str, ...]) -> None:
    error = fails("train", *data, "--set", "train.lr=1e-3", "train.steps=5")
    assert (error.code, error.values["setting"]) == ("config.setting_without_set", "train.steps=5")
    Path("seed=1").write_text("a file can have such a name")
    assert fails("train", "seed=1").code == "config.text_without_data"


def test_a_folder_that_holds_a_run(run: Path, fails: Failure) -> None:
    error = fails(*train("--run", str(run)))
    assert error.code == "run.folder_taken"
    assert f"nudge resume {run}" in error.hint


def test_damaged_checkpoints_fall_back(run: Path, fails: Failure, capsys: pytest.CaptureFixture[str]) -> None:
    newest = run / "checkpoints" / "step_00000060.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert "SHA-256" in fails("sample", str(newest)).message
    run_ok("sample", str(run), "--max-tokens", "3")
    assert "step_00000060.pt skipped" in capsys.readouterr().err
    run_ok("resume", str(run), "--json")
    assert checkpoint.read_newest(RunFolder(run)).step == 60
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
    assert fails("sample", str(run)).code == "checkpoint.foreign_tokenizer"


def test_prepared_with_another_tokenizer(run: Path, fails: Failure) -> None:
    run_ok("data", "prepare", "text.txt", "--tokenizer", "chars", "--out", "prepared")
    error = fails("train", "--data", "prepared", "--init", str(run), "--run", "tuned", *SMALL)
    assert error.code == "checkpoint.other_tokenizer"


@pytest.mark.parametrize(
    ("option", "value", "setting"),
    [
        ("--top-p", "2", "top_p"),
        ("--temperature", "-1", "temperature"),
        ("--temperature", "nan", "temperature"),
        ("--top-k", "0", "top_k"),
    ],
)
def test_sampling(run: Path, fails: Failure, option: str, value: str, setting: str) -> None:
    error = fails("sample", str(run), option, value)
    assert error.code == "config.out_of_range"
    assert setting in error.values["key"]


def test_a_long_prompt(run: Path, fails: Failure) -> None:
    error = fails("sample", str(run), "--prompt", "a prompt that is longer than the context " * 9)
    assert (error.code, error.values["block_size"]) == ("config.prompt_too_long", 32)


def test_nothing_there(here: Path, fails: Failure) -> None:
    for command in ("sample", "resume", "eval"):
        assert "runs" in fails(command).message
    assert fails("resume", "nowhere").code == "run.no_run"
    assert "nowhere" in fails("eval", "nowhere").message


def test_resume(run: Path, fails: Failure) -> None:
    assert fails("resume", str(run), "--steps", "2").code == "config.fewer_steps_than_done"
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
    assert fails("resume", str(run), "--steps", "90").code == "data.text_changed"


def test_tokens_that_are_gone_are_made_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_tokens(run, monkeypatch)
    run_ok("resume", str(run), "--steps", "61", "--json")
    assert checkpoint.read_newest(RunFolder(run)).step == 61


def test_no_write_permission() -> None:
    """As another user, because the tests may run as root, whom no permission binds."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are for their user only
        Path(folder).chmod(0o755)
        locked = Path(folder, "locked")
        locked.mkdir(mode=0o555)
        script = f"""
import os
from pathlib import Path
from nudge import errors
from nudge.config import Config
from nudge.runs.folder import RunFolder
from nudge.train import run as runs
errors.catalog()  # the other user may not be able to read it
if os.getuid() == 0:
    os.setuid(65534)
try:
    runs._make_folder(RunFolder(Path({str(locked)!r}) / "run"), Config())
except errors.MachineError as error:
    print(error.code)
"""
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert result.stdout == "machine.no_folder\n", result.stderr


def test_a_learning_rate_that_diverges(here: Path, fails: Failure) -> None:
    error = fails(*train("--steps=20", "--set=train.lr=1e30", "--set=train.warmup_steps=0"))
    assert error.code == "run.diverged"
    assert "smaller learning rate" in error.hint
    stopped = checkpoint.read_newest(RunFolder(here / "run"))
    assert stopped.skipped_in_a_row == 5
    assert all(torch.isfinite(tensor).all() for tensor in stopped.model.values())
