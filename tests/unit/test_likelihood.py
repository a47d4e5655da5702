"""Tokens of a context and its continuation, and the scores that are made of likelihoods."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.networks import random_network
from tests.refusals import refused

from nudge.config import ModelConfig
from nudge.data import tokenizer as tokenizers
from nudge.errors import CheckpointError
from nudge.eval import likelihood
from nudge.eval.likelihood import Likelihood, Score
from nudge.eval.tasks import TASKS, Example
from nudge.infer.engine import LanguageModel

TEXT = "the old bridge over the river, the old mill by the river: the miller is old. " * 4
BYTES = tokenizers.get("bytes")
PAIRS = tokenizers.train_bpe([TEXT], 300)


def example(*pairs: tuple[str, str], right: int = 0, lengths: Sequence[int] = ()) -> Example:
    lengths = lengths or [len(continuation) - 1 for _, continuation in pairs]
    return Example(pairs=pairs, right=right, lengths=tuple(lengths), where="file, line 1")


def model(block_size: int = 16, tokenizer: tokenizers.Tokenizer = BYTES) -> LanguageModel:
    config = ModelConfig(n_layer=1, n_head=2, n_embd=8, block_size=block_size, vocab_size=tokenizer.vocab_size)
    return LanguageModel(random_network(config, spread=4.0), tokenizer)


def test_a_continuation_is_what_the_whole_has_more_than_the_context():
    context, continuation = likelihood.encode(PAIRS, "the old bridge", " over the river")
    assert context == PAIRS.encode("the old bridge")
    assert context + continuation == PAIRS.encode("the old bridge over the river")
    assert PAIRS.decode(continuation) == " over the river"


def test_spaces_that_end_a_context_go_to_the_continuation():
    assert likelihood.encode(PAIRS, "the old ", "mill") == likelihood.encode(PAIRS, "the old", " mill")
    assert likelihood.encode(BYTES, "a \n", "b") == (BYTES.encode("a"), BYTES.encode(" \nb"))


def test_no_context_is_the_token_that_starts_a_document():
    assert likelihood.encode(BYTES, "", " b") == ([BYTES.eot], BYTES.encode(" b"))
    assert likelihood.encode(BYTES, "  ", "b") == ([BYTES.eot], BYTES.encode("  b"))


def test_a_context_that_is_too_long_loses_its_beginning():
    fits, cut = likelihood.continuations(model(), [example(("0123456789abc", " 12 "), ("0123456789abcdef", " 12"))])
    assert (BYTES.decode(fits.ids), fits.n_scored, fits.n_cut) == (
        "0123456789abc 12 ",
        4,
        0,
    )  # 17: the last is not read
    assert (BYTES.decode(cut.ids), cut.n_scored, cut.n_cut) == ("23456789abcdef 12", 3, 2)


def test_an_answer_must_fit():
    (whole,) = likelihood.continuations(model(), [example(("context", " 23456789abcdef0"))])
    assert (BYTES.decode(whole.ids), whole.n_scored) == ("t 23456789abcdef0", 16)
    with refused("data.answer_too_long", place="file, line 1", n=17, window=16):
        likelihood.continuations(model(), [example(("context", " 23456789abcdef01"))])


def test_an_answer_must_have_a_token():
    with refused("data.answer_without_token", place="file, line 1", answer=""):
        likelihood.continuations(model(), [example(("context", ""))])


def test_a_network_without_documents_cannot_do_it():
    letters = tokenizers.CharTokenizer("ABC", has_eot=False)
    with refused("data.no_start_token"):
        likelihood.continuations(model(tokenizer=letters), [example(("A", "B"))])


def test_likelihoods_do_not_depend_on_what_is_read_together():
    asked = model(24)
    texts = [("a river", " is wide"), ("a", " b"), ("", " c"), ("the old mill by the river", " turns"), ("x y", " z")]
    rows = likelihood.continuations(asked, [example(pair) for pair in texts])
    alone = [dict(likelihood.log_likelihoods(asked.network, [row]))[0] for row in rows]
    for at_once in (1, 30, 2048):
        together = dict(likelihood.log_likelihoods(asked.network, rows, at_once=at_once))
        assert sorted(together) == list(range(len(rows)))
        for i, row in enumerate(rows):
            assert together[i].logprob == pytest.approx(alone[i].logprob, abs=1e-5)
            assert (together[i].greedy, together[i].n_tokens) == (alone[i].greedy, row.n_scored)


@torch.inference_mode()
def test_greedy_is_what_the_network_itself_would_write():
    asked = model(24)
    ids = [BYTES.eot]
    for _ in range(5):
        ids.append(int(asked.network(torch.tensor([ids]))[0, -1].argmax()))
    other = [*ids[:-1], (ids[-1] + 1) % 256]
    rows = [likelihood.Continuation(ids=tuple(row), n_scored=5, n_cut=0) for row in (ids, other)]
    found = dict(likelihood.log_likelihoods(asked.network, rows))
    assert (found[0].greedy, found[1].greedy) == (True, False)
    assert found[0].logprob > found[1].logprob


def test_a_network_that_diverged_has_no_score():
    """Of answers that are all not numbers, the first would be taken for the likeliest."""
    asked = model()
    with torch.no_grad():
        asked.network.ln_f.weight.fill_(math.nan)
    rows = likelihood.continuations(asked, [example(("a", " b"), ("a", " c"))])
    with pytest.raises(CheckpointError, match="scores are not numbers"):
        dict(likelihood.log_likelihoods(asked.network, rows))


def of(*logprobs: float, greedy: bool = False, n_tokens: int = 1) -> list[Likelihood]:
    return [Likelihood(logprob=logprob, greedy=greedy, n_tokens=n_tokens) for logprob in logprobs]


def scores(task: str, examples: list[Example], answers: list[Likelihood], vocab_size: int = 10) -> dict[str, Score]:
    found = reversed(list(enumerate(answers)))  # in any order
    return likelihood.scores(TASKS[task], examples, found, vocab_size=vocab_size)


def test_accuracy_and_its_error():
    two, three = (("", " a"),) * 2, (("", " a"),) * 3
    examples = [
        example(*two, right=1, lengths=[10, 4]),  # likelier by length: -1.0 and -1.5 each
        example(*three, right=0, lengths=[3, 3, 3]),
        example(*two, right=0, lengths=[1, 1]),
        example(*two, right=1, lengths=[1, 0]),  # an answer without a character is not likely
    ]
    found = scores("piqa", examples, of(-10, -6, -1, -1, -7, -3, -2, -5, -4))
    assert found["acc"].value == 3 / 4  # of two that are equally likely, the first counts
    assert found["acc_norm"].value == 1 / 4
    assert found["acc"].stderr == pytest.approx(statistics.stdev([1, 1, 0, 1]) / 2)
    assert found["acc"].guess == found["acc_norm"].guess == pytest.approx((3 / 2 + 1 / 3) / 4)


def test_one_example_has_no_error():
    one = example(("", " a"), ("", " b"))
    assert scores("winogrande", [one], of(-1, -2)) == {"acc": Score(value=1, stderr=None, guess=0.5)}
    assert scores("lambada", [example(("", " a"))], of(-1))["perplexity"].stderr is None


def test_lambada():
    examples = [example(("", " a"))] * 3
    answers = [*of(-1, greedy=True), *of(-2, n_tokens=2), *of(-6)]
    found = scores("lambada", examples, answers)
    assert found["acc"].value == pytest.approx(1 / 3)
    assert found["acc"].guess == pytest.approx((0.1 + 0.01 + 0.1) / 3)
    assert found["perplexity"].value == pytest.approx(math.exp(3))
    assert found["perplexity"].guess == pytest.approx(10 ** (4 / 3))


def test_the_error_of_a_perplexity_is_that_of_drawing_again():
    draw = np.random.default_rng(3)
    logprobs = -draw.gamma(2.0, 2.0, size=60)
    found = scores("lambada", [example(("", " a"))] * 60, of(*logprobs.tolist()))
    drawn = np.exp(-draw.choice(logprobs, size=(100_000, 60)).mean(axis=1))
    assert found["perplexity"].stderr == pytest.approx(drawn.std(ddof=1), rel=0.02)
    assert scores("lambada", [example(("", " a"))] * 3, of(-2, -2, -2))["perplexity"].stderr == pytest.approx(
        0, abs=1e-6
    )


def test_a_perplexity_beyond_all_numbers_is_infinite():
    found = scores("lambada", [example(("", " a"))] * 2, of(-900, -1000))
    assert found["perplexity"].value == math.inf


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from nudge import recipes
    from nudge.train.run import run as train

    folder = tmp_path_factory.mktemp("task")
    (folder / "text.txt").write_text(TEXT * 20)
    small = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 32}
    config = recipes.recipe(
        "tiny",
        model=small,
        data={"paths": [str(folder / "text.txt")], "tokenizer": "bytes"},
        train={"steps": 1, "batch_tokens": 64},
        machine={"device": "cpu"},
    )
    list(train(config, folder / "run"))
    lines = [{"goal": f"cross river {i}", "sol1": "swim over.", "sol2": "take it home.", "label": 0} for i in range(4)]
    (folder / "piqa.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "run"


@pytest.mark.slow
def test_the_command_prints_scores(run: Path, nudge):
    file = str(run.parent / "piqa.jsonl")
    told = nudge("eval", str(run), "--task", "piqa", "--file", file)
    assert told.returncode == 0, told.stderr
    title, cut, head, acc, acc_norm = told.stdout.splitlines()
    assert title == "piqa: 4 examples, none shown before a question"
    assert cut.startswith("8 of 8 answers lost the beginning of their context")
    assert head.split() == ["standard", "error", "a", "blind", "guess"]
    assert acc.split()[0] == "acc"
    assert acc_norm.split()[-1] == "50.00%"
    assert "reading 8 answers" in told.stderr

    found = json.loads(nudge("eval", str(run), "--task", "piqa", "--file", file, "--limit", "2", "--json").stdout)
    assert (found["task"], found["examples"], found["answers"], found["answers_cut"]) == ("piqa", 2, 4, 4)
    assert set(found["scores"]["acc_norm"]) == {"value", "stderr", "guess", "published"}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--task", "piqa"], "add --file"),
        (["--file", "piqa.jsonl"], "--file has no effect without --task"),
        (["--limit", "3"], "--limit has no effect without --task"),
        (["--task", "piqa", "--file", "x", "--data", "y"], "--data cannot be used with --task piqa"),
        (["--task", "piqa", "--file", "nowhere.jsonl"], "cannot read nowhere.jsonl"),
        (
            ["--task", "lambada", "--file", "piqa.jsonl"],
            "'text' is missing",
        ),
        (["--task", "copa", "--file", "x"], "'copa' is not one of"),
    ],
)
def test_the_command_says_what_is_wrong(run: Path, nudge, args: list[str], words: str):
    told = nudge("eval", str(run), *args, cwd=run.parent)
    assert told.returncode == 2
    assert words in told.stderr
    assert "Traceback" not in told.stderr


def test_published_scores_stand_beside_a_network_of_that_size():
    from nudge import recipes
    from nudge.cli.eval import _published

    small = recipes.recipe("gpt2_small").model
    recipe, found = _published(small, TASKS["hellaswag"])
    assert (recipe, found) == ("gpt2_small", {"acc_norm": pytest.approx(0.2955)})
    assert _published(small, TASKS["lambada"])[1].keys() == {"acc", "perplexity"}
    assert _published(small, TASKS["piqa"])[1] == {}
    rotary = recipes.recipe("gpt2_small", model={"rotary": True}).model
    assert _published(rotary, TASKS["hellaswag"]) == ("", {})
