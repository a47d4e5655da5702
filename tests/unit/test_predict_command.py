"""`nudge predict` and `nudge once` on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from nudge.cli import cli
from nudge.cli.predict import percent
from nudge.cli.prompts import read_context
from nudge.config import Config, ModelConfig
from nudge.data import tokenizer as tokenizers
from nudge.data.tokenizer import CharTokenizer, Tokenizer
from nudge.errors import ConfigError, NudgeError
from nudge.infer import engine
from nudge.infer.engine import LanguageModel
from nudge.look import nudge_once, predict
from nudge.model.gpt import GPT, init_weights
from nudge.runs import checkpoint as checkpoints
from nudge.runs.checkpoint import Checkpoint, RunFolder

BYTES = tokenizers.get("bytes")


def save(folder: RunFolder, tokenizer: Tokenizer, vocab_size: int) -> Path:
    config = Config(model=ModelConfig(n_layer=1, n_head=1, n_embd=16, block_size=32, vocab_size=vocab_size))
    network = GPT(config.model)
    init_weights(network, seed=0)
    torch.nn.init.normal_(network.wte.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    state = network.state_dict()
    checkpoints.save(folder, Checkpoint(step=7, config=config, model=state, tokenizer_sha256=tokenizer.sha256))
    tokenizer.save(folder.tokenizer)
    return folder.path


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return save(RunFolder(tmp_path / "runs" / "first"), BYTES, BYTES.vocab_size)


@pytest.fixture
def model(run: Path) -> LanguageModel:
    return engine.load(run)


def nudge(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def strict_json(text: str) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    value: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return value


def test_predict_as_json(run: Path, model: LanguageModel) -> None:
    arguments = ("--prompt", "한", "--top", "3", "--token", " ", "--temperature", "0.5", "--top-k", "2", "--json")
    result = nudge("predict", *arguments)
    value = strict_json(result.stdout)
    context = [256, *"한".encode()]
    expected = predict(model.network, BYTES, context, temperature=0.5, top_k=2)
    assert (value["source"], value["step"], value["vocab_size"]) == (str(model.path), 7, 257)
    assert value["context"] == context
    assert [row["token"] for row in value["top"]] == [c.token for c in expected.top(3)]
    assert [row["probability"] for row in value["top"]] == [c.probability for c in expected.top(3)]
    assert [row["drawn_with"] for row in value["top"]] == [expected.sampled[c.token].item() for c in expected.top(3)]
    assert value["rest"] == {"tokens": 254, "probability": expected.rest(3)}
    assert value["entropy"] == expected.entropy
    space = {"token": 32, "text": "·", "rank": expected.rank(32), "probability": expected.probability(32)}
    assert value["tokens"] == [{**space, "drawn_with": expected.sampled[32].item()}]


def test_predict_as_a_table(run: Path, model: LanguageModel) -> None:
    result = nudge("predict", "--ids", "256, 237 149", "--top", "4", "--token", "0")
    expected = predict(model.network, BYTES, [256, 237, 149])
    lines = result.stdout.splitlines()
    assert lines[0] == "after  <|endoftext|> <ED> <95>"
    first = expected.top(1)[0]
    assert lines[2].split()[0] == "1"
    assert str(first.token) in lines[2].split()
    assert percent(first.probability) in lines[2].split()
    assert "█" * 28 in lines[2]
    row = next(line.split() for line in lines if "␀" in line)
    assert row[:3] == [str(expected.rank(0)), "␀", "0"]
    assert f"the rest of the vocabulary: 253 tokens, {percent(expected.rest(4))}" in lines
    assert lines[-1].startswith(f"entropy {expected.entropy:.3f} nats: like choosing evenly among ")


def test_what_is_never_drawn(run: Path) -> None:
    table = nudge("predict", "--prompt", "a", "--top", "3", "--top-k", "1").stdout
    assert "drawn with" in table
    assert table.count("100.00%") == 1
    assert table.count("never") == 2


def test_once_as_json(run: Path, model: LanguageModel) -> None:
    result = nudge("once", "--prompt", "ab", "--target", "c", "--lr", "0.01", "--control", "x", "--json")
    value = strict_json(result.stdout)
    expected = nudge_once(model.network, [256, 97, 98], 99, 0.01, controls=[[256, 120]])
    assert value["target"] == {"token": 99, "text": "c"}
    assert (value["optimizer"], value["lr"]) == ("sgd", 0.01)
    assert value["probability"] == {"before": expected.probability_before, "after": expected.probability_after}
    assert value["rank"] == {"before": expected.rank_before, "after": expected.rank_after}
    assert value["loss_change"] == {"predicted": expected.predicted_loss_change, "actual": expected.loss_change}
    assert value["relative_change"]["wte.weight"] == expected.relative_change["wte.weight"]
    assert value["relative_change"]["ln_f.bias"] is None  # it was all zero: infinitely much
    assert value["drift"] == [{"context": [256, 120], "kl": expected.drift[0].kl}]
    assert len(value["moved"]) == 10


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_once_says_what_changed_and_writes_nothing(run: Path, optimizer: str) -> None:
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    text = nudge("once", "--prompt", "ab", "--target", "c", "--optimizer", optimizer).stdout
    for words in (
        "target  c  id 99",
        "probability",
        "What moved most",
        "blocks.0.",
        "elsewhere",
        "the model is as it was",
    ):
        assert words in text
    assert "The slope predicts a change of the loss by -0.2877 nats" in text
    assert text.count("<|endoftext|>") == 4  # the example and three other prompts
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


def test_too_high_a_rate_is_said(run: Path) -> None:
    assert "try a smaller learning rate" in nudge("once", "--prompt", "ab", "--target", "c", "--lr", "30").stdout
    assert "try a smaller learning rate" not in nudge("once", "--prompt", "ab", "--target", "c").stdout


def test_a_number_is_an_id_and_it_says_so(run: Path) -> None:
    result = nudge("once", "--prompt", "a", "--target", "7", "--json")
    assert json.loads(result.stdout)["target"] == {"token": 7, "text": "␇"}
    assert result.stderr == "7 is read as an id; the token with the text '7' has the id 55\n"
    assert nudge("once", "--prompt", "a", "--target", "99", "--json").stderr == ""


def test_control_prompts_are_what_the_vocabulary_can_write(tmp_path: Path) -> None:
    tokenizer = tokenizers.chars(["cba "])
    save(RunFolder(tmp_path / "runs" / "letters"), tokenizer, tokenizer.vocab_size)
    result = nudge("once", str(tmp_path / "runs" / "letters"), "--prompt", "ab", "--target", "c", "--json")
    assert [drift["context"] for drift in json.loads(result.stdout)["drift"]] == [[4], [4, 1]]


def test_a_network_that_knows_no_document() -> None:
    """Three letters, and no token that starts a document."""
    network = GPT(ModelConfig(n_layer=1, n_head=1, n_embd=16, block_size=8, vocab_size=4))
    assert read_context(LanguageModel(network, tokenizers.chars(["ABC"])), "CAB", None) == (3, 2, 0, 1)
    model = LanguageModel(network, CharTokenizer("ABC", has_eot=False))
    assert read_context(model, "CAB", None) == (2, 0, 1)
    with pytest.raises(ConfigError) as refused:
        read_context(model, "", None)
    assert "prompt" in refused.value.message + refused.value.hint


@pytest.mark.parametrize(
    ("arguments", "code", "values"),
    [
        (["predict", "--prompt", "a" * 33], "context_too_long", {"got": 33, "most": 32}),
        (["predict", "--ids", "1,b"], "not_a_token_id", {"word": "b"}),
        (["predict", "--ids", "٣"], "not_a_token_id", {"word": "٣"}),
        (["predict", "--ids", "9" * 5000], "not_a_token_id", {}),
        (["predict", "--ids", "1", "--prompt", "a"], "exclusive_options", {"options": "--prompt, --ids"}),
        (["predict", "--ids", "257"], "unknown_token", {"token": 257, "vocab_size": 257}),
        (["predict", "--token", "300"], "unknown_token", {"token": 300}),
        (
            ["predict", "--token", "ab"],
            "several_tokens",
            {"text": "ab", "n": 2, "tokens": "97 (a), 98 (b)", "first": 97},
        ),
        (["predict", "--top-p", "2"], "out_of_range", {"value": 2.0}),
        (["once", "--target", ""], "no_token_in_text", {}),
        (["once", "--target", "a", "--lr", "-1"], "bad_learning_rate", {"got": -1.0}),
        (["once", "--target", "a", "--lr", "nan"], "bad_learning_rate", {}),
        (["once", "--target", "a", "--control", "b" * 40], "context_too_long", {"got": 40}),
    ],
)
def test_bad_input_is_one_clear_error(run: Path, arguments: list[str], code: str, values: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as refused:
        nudge(*arguments)
    assert refused.value.code == f"config.{code}"
    assert refused.value.values.items() >= values.items()
    assert refused.value.hint


def test_a_source_that_is_not_there(run: Path) -> None:
    with pytest.raises(NudgeError) as refused:
        nudge("predict", "runs/second")
    assert "runs/second" in refused.value.message
    assert refused.value.hint


def test_percent() -> None:
    assert [percent(p) for p in (0, 1, 0.123456, 0.0001, 0.00001, 3e-30)] == [
        "0.00%", "100.00%", "12.35%", "0.01%", "1e-03%", "3e-28%",
    ]  # fmt: skip
