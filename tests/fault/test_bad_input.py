"""Wrong input, on purpose: one clear line, what to type instead, exit code 2, and nothing lost."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nudge.cli import main
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
    """What a person sees after a mistake."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *args: str) -> str:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main(list(args))
        printed = self.capsys.readouterr()
        assert exit_info.value.code == 2, printed.out + printed.err
        assert "Traceback" not in printed.err
        lines = printed.err.strip().splitlines()
        said = [line for line in lines if line.startswith(("error: ", " hint: "))]
        assert said[0].startswith("error: "), printed.err
        assert len(said) == 2, f"an error and a hint, got {lines}"
        return "\n".join(said)


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Failure:
    return Failure(capsys)


def run_ok(*args: str) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(list(args))
    assert not exit_info.value.code


@pytest.fixture
def trained(here: Path) -> Path:
    run_ok("train", "--data", "text.txt", "--tokenizer", "bytes", "--run", "run", "--steps", "4", *SMALL, "--json",
           "--set=save.every=2")  # fmt: skip
    return here / "run"


def train(*args: str) -> list[str]:
    return ["train", "--data", "text.txt", "--tokenizer", "bytes", "--run", "run", "--steps", "2", *SMALL, *args]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--recipe", "tinny"], ["unknown recipe 'tinny'", "'tiny'"]),
        (["--set", "train.lrr=1"], ["unknown setting 'train.lrr'", "'train.lr'"]),
        (["--set", "lr=1"], ["unknown setting 'lr'", "'train.lr'"]),
        (["--set", "train.lr"], ["section.key=value"]),
        (["--set", "train.lr=-1"], ["train.lr must be 0 or a positive number, got -1"]),
        (["--set", "train.lr=nan"], ["train.lr", "got nan"]),
        (["--set", "train.lr=fast"], ["'train.lr' must be a number, got 'fast'"]),
        (["--set", "model.n_head=3"], ["n_embd 16 is not divisible by model.n_head 3"]),
        (["--set", "train.batch_tokens=100"], ["not a multiple of model.block_size", "train.batch_tokens=96"]),
        (["--set", "sample.top_p=2"], ["top_p must be above 0 and at most 1, got 2"]),
        (["--set", "train.optimizer=adam"], ["'train.optimizer' cannot be 'adam'", "'adamw'"]),
        (["--set", "machine.device=cuda:7"], ["no device 'cuda:7' here"]),
        (["--set", "sample.prompt=" + "long " * 50], ["sample.prompt is longer than the context of 16 tokens"]),
        (["--minutes", "1", "--tokens", "10M"], ["only one of --steps, --tokens and --minutes"]),
        (["--tokens", "many"], ["'many' is not a count", "--help"]),
        (["--config", "missing.toml"], ["cannot read the config file missing.toml"]),
        (["--init", "nowhere"], ["--init brings its own tokenizer"]),
    ],
)
def test_settings(here: Path, fails: Failure, args: list[str], words: list[str]) -> None:
    said = fails(*train(), *args)
    for word in words:
        assert word in said
    assert not (here / "run").exists()


def test_config_files(here: Path, fails: Failure) -> None:
    (here / "broken.toml").write_text("[train\nlr = 1")
    assert "not valid TOML" in fails(*train("--config", "broken.toml"))
    (here / "unknown.toml").write_text("[trian]\nlr = 1")
    said = fails(*train("--config", "unknown.toml"))
    assert "unknown setting 'trian'" in said
    assert "'train" in said


def test_data(here: Path, fails: Failure) -> None:
    def told(path: str) -> str:
        return fails("train", "--data", path, "--tokenizer", "bytes", "--run", "run", *SMALL)

    assert "missing.txt" in told("missing.txt")
    (here / "empty.txt").write_text("")
    assert "empty" in told("empty.txt")
    (here / "binary.txt").write_bytes(bytes(range(256)) * 50)
    assert "binary" in told("binary.txt")
    (here / "short.txt").write_text("too short")
    assert "one window needs 17" in told("short.txt")
    (here / "lines.jsonl").write_text('{"txet": "hello"}\n')
    said = told("lines.jsonl")
    assert "lines.jsonl" in said
    assert "text" in said
    assert not (here / "run").exists()


def test_data_without_its_option(fails: Failure, here: Path) -> None:
    assert "--data text.txt" in fails("train", "text.txt")


def test_a_folder_that_holds_a_run(trained: Path, fails: Failure) -> None:
    said = fails(*train())
    assert "already holds a run" in said
    assert "nudge resume" in said


def test_damaged_checkpoints_fall_back(trained: Path, fails: Failure, capsys: pytest.CaptureFixture[str]) -> None:
    newest = trained / "checkpoints" / "step_00000004.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert "SHA-256" in fails("sample", str(newest))
    run_ok("sample", str(trained), "--max-tokens", "3")
    assert "step_00000004.pt skipped" in capsys.readouterr().err
    run_ok("resume", str(trained), "--json")
    assert checkpoint.newest(RunFolder(trained)).step == 4
    for path in (trained / "checkpoints").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:1000])
    assert "damaged" in fails("resume", str(trained))


def test_a_pickle_that_wants_to_run_code(here: Path, fails: Failure) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(here / 'pwned')!r}, 'w')",))

    (here / "evil.pt").write_bytes(pickle.dumps(Attack()))
    assert "evil.pt is not a checkpoint" in fails("sample", "evil.pt")
    torch.save({"format": Attack()}, here / "evil2.pt")
    assert "could run code" in fails("sample", "evil2.pt")
    assert not (here / "pwned").exists()


def test_foreign_files(here: Path, fails: Failure) -> None:
    torch.save({"weights": torch.zeros(3)}, here / "foreign.pt")
    assert "not a nudge checkpoint" in fails("sample", "foreign.pt")
    (here / "notes.pt").write_text("no checkpoint at all")
    assert "notes.pt" in fails("sample", "notes.pt")


def test_a_tokenizer_that_does_not_fit(trained: Path, here: Path, fails: Failure) -> None:
    run_ok("train", "--data", "text.txt", "--tokenizer", "chars", "--run", "other", "--steps", "1", *SMALL, "--json")
    (trained / "tokenizer.json").write_bytes((here / "other" / "tokenizer.json").read_bytes())
    assert "tokenizer.json is not the one" in fails("sample", str(trained))


def test_prepared_with_another_tokenizer(trained: Path, here: Path, fails: Failure) -> None:
    run_ok("data", "prepare", "text.txt", "--tokenizer", "chars", "--out", "prepared")
    said = fails("train", "--data", "prepared", "--init", str(trained), "--run", "tuned", *SMALL)
    assert "another tokenizer" in said


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--top-p", "2"], "top_p must be above 0 and at most 1"),
        (["--temperature", "-1"], "temperature"),
        (["--temperature", "nan"], "temperature"),
        (["--top-k", "0"], "top_k"),
        (["--prompt", "a prompt that is longer than sixteen bytes"], "the context of this model holds 16"),
    ],
)
def test_sampling(trained: Path, fails: Failure, args: list[str], words: str) -> None:
    assert words in fails("sample", str(trained), *args)


def test_nothing_there(here: Path, fails: Failure) -> None:
    assert "no run under runs" in fails("sample")
    assert "no run under runs" in fails("resume")
    assert "no run under runs" in fails("eval")
    assert "holds no run" in fails("resume", "nowhere")
    assert "no such run or checkpoint" in fails("eval", "nowhere")


def test_resume(trained: Path, fails: Failure) -> None:
    assert "more than --steps 2" in fails("resume", str(trained), "--steps", "2")
    assert "both" in fails("resume", str(trained), "--steps", "9", "--minutes", "1")


def test_text_that_changed_and_tokens_that_are_gone(trained: Path, here: Path, fails: Failure) -> None:
    import json
    import shutil

    shutil.rmtree(json.loads((trained / "run.json").read_text())["data"]["dir"])
    with (here / "text.txt").open("a") as file:
        file.write("one more line")
    assert "not what this run began with" in fails("resume", str(trained), "--steps", "9")


def test_tokens_that_are_gone_are_made_again(trained: Path) -> None:
    import json
    import shutil

    shutil.rmtree(json.loads((trained / "run.json").read_text())["data"]["dir"])
    run_ok("resume", str(trained), "--steps", "6", "--json")
    assert checkpoint.newest(RunFolder(trained)).step == 6


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
if os.getuid() == 0:
    os.setuid(65534)
try:
    runs._make_folder(RunFolder(Path({str(locked)!r}) / "run"))
except errors.MachineError as error:
    print(error.message)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "cannot make the folder" in result.stdout, result.stderr


def test_a_learning_rate_that_diverges(here: Path, fails: Failure) -> None:
    said = fails(*train("--steps=20", "--set=train.lr=1e30", "--set=train.warmup_steps=0"))
    assert "smaller learning rate" in said
    stopped = checkpoint.newest(RunFolder(here / "run"))
    assert stopped.skipped_in_a_row == 5
    assert all(torch.isfinite(tensor).all() for tensor in stopped.model.values())


def test_a_model_that_does_not_fit(here: Path, fails: Failure) -> None:
    said = fails(*train("--set=model.n_embd=65536", "--set=model.n_layer=96"))
    assert "GB of memory" in said
