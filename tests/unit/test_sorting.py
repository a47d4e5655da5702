"""The sorting task: its examples, how they become windows, and the network without an end-of-text token they train."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import nudge as package
from nudge import events
from nudge.cli import main
from nudge.config import SORTING, DataConfig, ModelConfig
from nudge.convert.formats import huggingface
from nudge.data import sorting
from nudge.data import tokenizer as tokenizers
from nudge.data.batches import SKIPPED, Batches, val_windows
from nudge.data.prepare import prepare
from nudge.data.shards import Dataset, Tokens, open_dataset
from nudge.data.tokenizer import CharTokenizer
from nudge.errors import ConfigError, DataError
from nudge.eval.loss import count_solved, evaluate, score
from nudge.infer.engine import LanguageModel, load
from nudge.model.gpt import GPT, init_weights
from nudge.train.run import resume

LETTERS = CharTokenizer("ABC", has_eot=False)
SIZES = ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=11, vocab_size=3)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return sorting.prepare(DataConfig(paths=(SORTING,), tokenizer="chars"), tmp_path / "tokens")


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def network(seed: int = 0) -> GPT:
    made = GPT(SIZES)
    init_weights(made, seed)
    return made


def texts(tokens: Tokens) -> list[str]:
    return [LETTERS.decode(tokens.read(start, 12).tolist()) for start in range(0, len(tokens), 12)]


def test_every_question_once_with_its_answer():
    examples = sorting.examples()
    assert len({example[:6] for example in examples}) == len(examples) == 3**6
    assert all(example[6:] == "".join(sorted(example[:6])) for example in examples)
    assert {"CBABBCABBBCC", "AAAAAAAAAAAA"} <= set(examples)


def test_a_tenth_is_held_out_by_a_fixed_rule(dataset: Dataset):
    train, val = texts(dataset.train), texts(dataset.val)
    assert len(train) == 656
    assert len(val) == 73
    assert sorted(train + val) == sorted(sorting.examples())
    assert val[0] == "BACCABAABBCC"
    # Bytes of the examples, their order and their split: old runs resume with these.
    assert dataset.fingerprint == "c9dee54209121448fe54fea36183cbf189e53ca33ce432d88068d9bb0f32d489"


def test_preparing_again_finds_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NUDGE_CACHE", str(tmp_path))
    config = package.recipe("llm_viz").data
    made = [prepared(config) for _ in range(2)]
    assert made[0].dir == made[1].dir
    assert made[0].fingerprint == made[1].fingerprint
    other = prepared(dataclasses.replace(config, val_share=0.5))
    assert other.dir != made[0].dir
    assert len(other.val) // 12 == 364
    made[0].verify()


def prepared(config: DataConfig) -> Dataset:
    preparing = prepare(config)
    with pytest.raises(StopIteration) as done:
        next(preparing)
    dataset: Dataset = done.value.value
    return dataset


def test_a_batch_is_whole_examples_and_an_epoch_all_of_them(dataset: Dataset):
    batches = Batches(dataset.train, block_size=11, n_sequences=8, seed=3, vocab_size=3)
    assert batches.n_windows == 656
    for epoch in range(2):
        seen = []
        for step in range(epoch * 82, (epoch + 1) * 82):
            x, y = batches(step)
            assert x.shape == y.shape == (8, 11)
            assert (y[:, :5] == SKIPPED).all()  # nobody can know the rest of a question
            assert (y[:, 5:-1] == x[:, 6:]).all()
            seen += [LETTERS.decode([*row, last]) for row, last in zip(x.tolist(), y[:, -1].tolist(), strict=True)]
        assert sorted(seen) == sorted(texts(dataset.train))


def test_batches_depend_on_step_and_seed_alone(dataset: Dataset):
    one, two, other = (
        Batches(dataset.train, block_size=11, n_sequences=8, seed=seed, vocab_size=3) for seed in (3, 3, 4)
    )
    assert all((one(step)[0] == two(step)[0]).all() for step in reversed(range(100)))
    assert one.starts(0) != other.starts(0)


@pytest.mark.parametrize(("limit", "n_windows"), [(None, 73), (1, 1), (110, 10), (10**6, 73)])
def test_validation_windows_are_examples(dataset: Dataset, limit: int | None, n_windows: int):
    windows = list(val_windows(dataset.val, 11, limit, vocab_size=3))
    assert len(windows) == n_windows
    for x, y in windows:
        question = LETTERS.decode(x[:6].tolist())
        assert y[:5].tolist() == [SKIPPED] * 5
        assert LETTERS.decode(y[5:].tolist()) == "".join(sorted(question))


@pytest.mark.parametrize("block_size", [10, 12, 64])
def test_a_context_of_another_length_is_refused(dataset: Dataset, block_size: int):
    with pytest.raises(ConfigError) as error:
        Batches(dataset.train, block_size=block_size, n_sequences=8, seed=0, vocab_size=3)
    assert error.value.code == "config.record_length"
    assert error.value.values["n_tokens"] == 12
    assert "model.block_size=11" in error.value.hint


def test_records_are_written_down_and_checked(dataset: Dataset):
    path = dataset.dir / "manifest.json"
    written = json.loads(path.read_text())
    assert written["records"] == {"n_tokens": 12, "n_given": 6}
    for wrong in ({"n_tokens": 7, "n_given": 6}, {"n_tokens": 12, "n_given": 12}, {"n_tokens": 12}, 12):
        path.write_text(json.dumps({**written, "records": wrong}))
        with pytest.raises(DataError) as error:
            open_dataset(dataset.dir)
        assert error.value.code == "data.bad_manifest"
    del written["records"]  # a manifest of documents has no such line, and the same tokens are then other data
    path.write_text(json.dumps(written))
    without = open_dataset(dataset.dir)
    assert without.manifest.records is None
    assert without.fingerprint != dataset.fingerprint


def test_skipped_targets_count_for_nothing(dataset: Dataset):
    windows = list(val_windows(dataset.val, 11))
    got = score(network().loss, windows, n_bytes=LETTERS.n_bytes, device=torch.device("cpu"), at_once=50)
    assert got.tokens == 73 * 6
    assert got.loss == pytest.approx(got.bits_per_byte * np.log(2))
    x, y = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*windows, strict=True))
    of_answers = -network()(x)[:, 5:].log_softmax(-1).gather(-1, y[:, 5:, None])
    assert got.loss == pytest.approx(of_answers.mean().item(), rel=1e-5)


def test_solved_is_what_greedy_writing_gets_right(dataset: Dataset):
    """On a network that is right now and then."""
    trained = network()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=3e-3)
    batches = Batches(dataset.train, block_size=11, n_sequences=64, seed=0, vocab_size=3)
    for step in range(40):
        trained.loss(*map(torch.from_numpy, batches(step))).backward()
        optimizer.step()
        optimizer.zero_grad()
    got = count_solved(trained, dataset.val)
    model = LanguageModel(trained, LETTERS)
    right = [model.generate(text[:6], temperature=0) == text[6:] for text in texts(dataset.val)]
    assert (got.right, got.total) == (sum(right), 73)
    assert 0 < got.right < 73


def test_a_tokenizer_without_an_end_of_text_token(tmp_path: Path):
    assert LETTERS.vocab_size == 3
    assert not LETTERS.has_eot
    LETTERS.save(tmp_path / "tokenizer.json")
    loaded = tokenizers.load(tmp_path / "tokenizer.json")
    assert loaded.sha256 == LETTERS.sha256 != CharTokenizer("ABC").sha256
    assert loaded.encode("CAB") == [2, 0, 1]
    assert not loaded.has_eot
    (tmp_path / "a.txt").write_text("ABC" * 100)
    with pytest.raises(package.NudgeError) as error:
        list(prepare(DataConfig(paths=(str(tmp_path / "a.txt"),), tokenizer=str(tmp_path / "tokenizer.json"))))
    assert error.value.code == "tokenizer.no_opening"


def test_the_text_ends_where_an_example_ends():
    model = LanguageModel(network(), LETTERS)
    for n in range(1, 12):
        assert model.prompt_ids("B" * n) == [1] * n
        stream = model.stream("B" * n)
        assert len("".join(stream)) == 12 - n
        assert not stream.slid
    assert len(model.generate("CBABBC", max_tokens=2)) == 2
    assert [len(text) for text in model.generate_batch(["CBABBC", "A"])] == [6, 11]


def test_other_programs_are_told_that_there_is_no_such_token(tmp_path: Path):
    huggingface.write(tmp_path / "hf", SIZES, network().state_dict(), LETTERS)
    described = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert described["eos_token_id"] is described["bos_token_id"] is None
    config, _ = huggingface.read(tmp_path / "hf")
    assert huggingface.read_tokenizer(tmp_path / "hf", config).sha256 == LETTERS.sha256


def test_nothing_to_start_from():
    model = LanguageModel(network(), LETTERS)
    with pytest.raises(ConfigError, match="no token that starts a document"):
        model.generate("")
    with pytest.raises(ConfigError, match="context of this model holds 11"):
        model.generate("A" * 12)
    with pytest.raises(DataError) as error:
        evaluate(model, [__file__])
    assert error.value.code == "data.no_start_token"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--recipe", "tiny", "--data", SORTING], "A, B, C; got bpe-4096"),
        (["--recipe", "llm_viz", "--tokenizer", "bytes"], "A, B, C; got bytes"),
        (["--recipe", "llm_viz", "--data", SORTING, "book.txt"], f"alone: --data {SORTING}"),
        (["--recipe", "tiny", "--data", SORTING, "--tokenizer", "chars"], "--set model.block_size=11"),
    ],
)
def test_wrong_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str], words: str
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["train", *args])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_text_of_ones_own_is_an_ordinary_run(tmp_path: Path):
    book = tmp_path / "book.txt"
    book.write_text("It was the best of times, it was the worst of times.\n" * 100)
    config = package.recipe("llm_viz", data={"paths": [str(book)]}, train={"steps": 2}, machine={"threads": 1})
    for _ in package.run(config, tmp_path / "run"):
        pass
    model = load(tmp_path / "run")
    assert model.tokenizer.has_eot
    assert model.network.config.vocab_size == model.tokenizer.vocab_size == 18
    assert len(model.generate("It", max_tokens=30)) <= 30


@pytest.mark.slow
def test_it_learns_to_sort(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The recipe as it is, stopped half-way and resumed; then all 729 questions, greedy."""
    run, told = tmp_path / "run", []
    config = package.recipe("llm_viz", machine={"threads": 1})
    for event in package.run(config, run):
        told.append(event)
        if isinstance(event, events.Step) and event.step == 90:
            break
    told += list(resume(run))
    assert isinstance(told[-1], events.Stopped)
    assert told[-1].reason == "finished"
    samples = [event for event in told if isinstance(event, events.Sample)]
    assert [event.step for event in samples] == list(range(0, 201, 20))
    assert {event.prompt for event in samples} == {"BACCAB"}
    assert samples[0].text != samples[-1].text == "AABBCC"

    model = load(run)
    assert sum(parameter.numel() for parameter in model.network.parameters()) == 85_584
    examples = sorting.examples()
    answers = model.generate_batch([example[:6] for example in examples], temperature=0)
    right = [example[6:] == answer for example, answer in zip(examples, answers, strict=True)]
    assert sum(right[:73]) >= 0.99 * 73  # held out
    assert sum(right) >= 0.99 * 729

    with pytest.raises(SystemExit):
        main(["eval", str(run)])
    assert f"{sum(right[:73])} of 73 held-out examples" in capsys.readouterr().out
