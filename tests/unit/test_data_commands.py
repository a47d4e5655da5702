import array
import json
import pickle
from pathlib import Path

import pytest

from nudge.cli import main

Run = object


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUDGE_CACHE", str(tmp_path / "cache"))
    lines = [json.dumps({"text": f"document {number} says hello", "n": number}) for number in range(50)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    return tmp_path


def ran(*args: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(args)
    assert not ended.value.code


def test_prepare_and_info(here: Path, capsys: pytest.CaptureFixture[str]):
    ran("data", "prepare", "a.jsonl", "--tokenizer", "bytes", "--out", "tokens")
    printed = capsys.readouterr()
    assert "50" not in printed.err
    assert printed.err.splitlines() == ["reading the text", "making tokens"]  # plain lines without a terminal
    ran("data", "info", "tokens")
    assert capsys.readouterr().out == printed.out
    assert "bytes, 257 symbols" in printed.out
    ran("data", "info", "tokens", "--verify")
    assert "every byte is as it was written" in capsys.readouterr().out


def test_info_checks_the_tokens_of_another_program(here: Path, capsys: pytest.CaptureFixture[str]):
    Path("chars").mkdir()
    Path("chars", "meta.pkl").write_bytes(pickle.dumps({"itos": {0: "a", 1: "b"}, "stoi": {"a": 0, "b": 1}}))
    for name in ("train.bin", "val.bin"):
        Path("chars", name).write_bytes(array.array("H", [0, 1, 1, 0, 1]).tobytes())
    ran("data", "info", "chars", "--verify")
    printed = capsys.readouterr()
    assert printed.err.splitlines() == ["checking the tokens"]
    assert "training     5 tokens, 0.00 MB of text, 1.00 bytes per token" in printed.out
    assert "tokens of nanoGPT, read where they lie" in printed.out
    assert "every byte is as it was written" in printed.out


def test_json(here: Path, capsys: pytest.CaptureFixture[str]):
    ran("data", "prepare", "a.jsonl", "--tokenizer", "chars", "--json")
    prepared = json.loads(capsys.readouterr().out)
    assert Path(prepared["dir"]).parent == here / "cache" / "datasets"
    assert prepared["train"]["n_documents"] + prepared["val"]["n_documents"] == 50
    ran("data", "info", prepared["dir"], "--json")
    assert json.loads(capsys.readouterr().out) == prepared


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["data", "prepare", "b.jsonl"], "b.jsonl"),
        (["data", "prepare", "a.jsonl", "--field", "txt"], "'txt'"),
        (["data", "prepare", "a.jsonl", "--tokenizer", "gpt3"], "'gpt3'"),
        (["data", "info", "."], "manifest.json"),
        (["tokenizer", "train", "a.jsonl", "--vocab-size", "100", "--out", "t.json"], "257"),
        (["tokenizer", "encode", "--tokenizer", "chars"], "chars"),
    ],
)
def test_mistakes_are_one_line_and_a_hint(
    here: Path, args: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit, match="2"):
        main(args)
    *_, error, hint = capsys.readouterr().err.splitlines()
    assert message in error
    assert hint.startswith(" hint: ")


def test_train_encode_decode(here: Path, nudge, capsys: pytest.CaptureFixture[str]):
    ran("tokenizer", "train", "a.jsonl", "--vocab-size", "280", "--out", "own/tokenizer.json", "--json")
    assert json.loads(capsys.readouterr().out)["vocab_size"] == 280
    data = b"document 7 \xff\x00\r\n<|endoftext|>" + bytes(range(256))
    encoded = nudge("tokenizer", "encode", "--tokenizer", "own/tokenizer.json", input=data, text=False)
    assert encoded.returncode == 0, encoded.stderr
    ids = [int(word) for word in encoded.stdout.split()]
    assert 279 not in ids
    decoded = nudge("tokenizer", "decode", "--tokenizer", "own/tokenizer.json", input=encoded.stdout, text=False)
    assert decoded.stdout == data


def test_a_vocabulary_that_the_text_cannot_fill_says_so(here: Path, capsys: pytest.CaptureFixture[str]):
    ran("tokenizer", "train", "a.jsonl", "--vocab-size", "100000", "--out", "tokenizer.json")
    assert "the text gives no more" in capsys.readouterr().out


@pytest.mark.parametrize(("ids", "message"), [("1 two", "'two'"), ("1 -2", "'-2'"), ("999", "999")])
def test_decode_refuses_what_is_no_id(nudge, ids: str, message: str):
    done = nudge("tokenizer", "decode", "--tokenizer", "bytes", input=ids)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[0]
