"""`nudge sample`, `import` and `export` on the command line."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nudge.cli import cli
from nudge.config import Config, ModelConfig
from nudge.data import tokenizer as tokenizers
from nudge.errors import NudgeError
from nudge.infer import engine
from nudge.model.gpt import GPT, init_weights
from nudge.runs import checkpoint as checkpoints
from nudge.runs.checkpoint import Checkpoint
from nudge.runs.folder import RunFolder

BYTES = tokenizers.get("bytes")
CONFIG = Config(model=ModelConfig(n_layer=1, n_head=1, n_embd=16, block_size=32, vocab_size=BYTES.vocab_size))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = RunFolder(tmp_path / "runs" / "first")
    network = GPT(CONFIG.model)
    init_weights(network, seed=0)
    checkpoints.save(
        folder, Checkpoint(step=7, config=CONFIG, model=network.state_dict(), tokenizer_sha256=BYTES.sha256)
    )
    BYTES.save(folder.tokenizer)
    monkeypatch.chdir(tmp_path)
    return folder.path


def nudge(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, arguments, input=stdin, catch_exceptions=False)


def nudge_process(*arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "nudge", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_the_prompt_and_what_follows(run: Path) -> None:
    text = engine.load(run).generate("def ", max_tokens=20, seed=3)
    result = nudge("sample", "--prompt", "def ", "--max-tokens", "20", "--seed", "3")
    assert result.stdout == f"def {text}\n"
    assert result.stderr == ""


def test_samples_come_from_one_seed_after_the_other(run: Path) -> None:
    result = nudge("sample", str(run), "--max-tokens", "9", "--seed", "3", "--num", "2", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    model = engine.load(run)
    assert [line["text"] for line in lines] == [model.generate(max_tokens=9, seed=seed) for seed in (3, 4)]
    assert lines[0] == {
        "source": str(run / "checkpoints" / "step_00000007.pt"),
        "step": 7,
        "verified": True,
        "seed": 3,
        "prompt": "",
        "text": lines[0]["text"],
        "tokens": 9,
        "ended": "length",
        "slid": False,
    }


@pytest.mark.parametrize(
    ("data", "prompt"),
    [("한글\n".encode(), "한글"), (b"a\r\n", "a"), (b"a\n\n", "a\n"), (b"", ""), (b"\xff", "\ufffd")],
)
def test_a_prompt_from_standard_input(run: Path, data: bytes, prompt: str) -> None:
    result = nudge("sample", "--prompt", "-", "--max-tokens", "3", "--json", stdin=data)
    assert json.loads(result.stdout)["prompt"] == prompt


def test_it_says_once_that_the_window_slid(run: Path) -> None:
    result = nudge("sample", "--max-tokens", "60", "--num", "2", "--temperature", "5")
    assert result.stderr == "the context of 32 tokens was full: the oldest were forgotten on the way\n"
    assert result.stdout.count("\n---\n") == 1


def test_it_says_what_was_not_verified(run: Path) -> None:
    (run / "checkpoints" / "index.jsonl").unlink()
    assert "step_00000007.pt is not verified" in nudge("sample", "--max-tokens", "1").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top-p", "2"], "top_p must be above 0 and at most 1, got 2.0"),
        (["--temperature", "nan"], "temperature must be"),
        (["--prompt", "a" * 33], "the prompt has 33 tokens, the context of this model holds 32"),
        (["runs/second"], "no such run or checkpoint: runs/second"),
    ],
)
def test_bad_input_is_one_clear_error(run: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(NudgeError, match=message):
        nudge("sample", *arguments)


def test_export_and_import_give_the_same_text(run: Path, tmp_path: Path) -> None:
    exported = nudge("export", "runs/first", "--to", "hf", "--out", "exported", "--json")
    assert json.loads(exported.stdout)["step"] == 7
    imported = nudge("import", "exported", "--out", "runs/imported", "--json")
    assert json.loads(imported.stdout)["n_embd"] == 16
    arguments = ("--prompt", "ab", "--max-tokens", "20")
    assert nudge("sample", "runs/imported", *arguments).stdout == nudge("sample", "runs/first", *arguments).stdout


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_control_c_ends_it_without_a_traceback(run: Path) -> None:
    with nudge_process("sample", "--max-tokens", "1000000", "--temperature", "1", "--num", "1000") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(5)  # it writes
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.stderr.read().strip() == b""
        assert process.wait(timeout=20) == 130


@pytest.mark.slow
def test_a_reader_that_has_enough_is_no_error(run: Path) -> None:
    with nudge_process("sample", "--max-tokens", "1000000", "--num", "1000") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(5)
        process.stdout.close()  # as `| head -c 5` does
        assert process.stderr.read() == b""
        process.wait(timeout=20)
