"""Token files of nanoGPT and llm.c: written here as those programs write them, and read where they lie."""

import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.networks import random_network
from tests.preparing import finish
from tests.refusals import refused

from nudge.config import (
    SORTING,
    Config,
    DataConfig,
    EvalConfig,
    MachineConfig,
    ModelConfig,
    SampleConfig,
    SaveConfig,
    TrainConfig,
)
from nudge.data.batches import Batches, val_windows
from nudge.data.foreign import meta_pkl, token_files
from nudge.data.prepare import find_text, prepare
from nudge.data.shards import Dataset, open_dataset
from nudge.data.tokenizer import ByteTokenizer, CharTokenizer
from nudge.errors import DataError, NudgeError, TokenizerError
from nudge.eval.loss import Score, evaluate
from nudge.events import Step
from nudge.infer.engine import LanguageModel
from nudge.train.run import resume, run
from nudge.util import json_reader

EOT = ByteTokenizer().eot
TEXTS = [f"document {number}: " + "some words " * (number % 5) for number in range(60)]


def raw(path: Path, tokens: list[int], dtype: npt.DTypeLike = np.uint16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.array(tokens, dtype=dtype).tofile(path)
    return path


def headed(path: Path, tokens: list[int], *, magic: int = 20240520, number: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = np.zeros(256, dtype=np.int32)
    header[:3] = magic, number, len(tokens)
    path.write_bytes(header.tobytes() + np.array(tokens, np.uint32 if magic == 20240801 else np.uint16).tobytes())
    return path


def starting(texts: list[str]) -> list[int]:
    """As llm.c writes documents."""
    return [token for text in texts for token in (EOT, *text.encode())]


def ending(texts: list[str]) -> list[int]:
    """As nanoGPT writes documents."""
    return [token for text in texts for token in (*text.encode(), EOT)]


def opened(*paths: Path | str, tokenizer: str = "bytes", out: Path | None = None, val_share: float = 0.1) -> Dataset:
    config = DataConfig(paths=tuple(map(str, paths)), tokenizer=tokenizer, val_share=val_share)
    events, dataset = finish(prepare(config, out=out))
    assert all(event.what == "checking" for event in events)
    return dataset


def documents(dataset: Dataset, split: str) -> list[bytes]:
    tokens = getattr(dataset, split)
    ends = tokens.ends.tolist()
    parts = [tokens.read(start, end - start) for start, end in zip([0, *ends], ends, strict=False)]
    return [dataset.tokenizer.decode_bytes(part) for part in parts]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def nanogpt(tmp_path: Path) -> Path:
    """A folder as nanoGPT's prepare.py leaves it, text and all."""
    folder = tmp_path / "openwebtext"
    raw(folder / "train.bin", ending(TEXTS[:50]))
    raw(folder / "val.bin", ending(TEXTS[50:]))
    (folder / "readme.md").write_text("not what is learned")
    return folder


@pytest.fixture
def llmc(tmp_path: Path) -> Path:
    """Shards as llm.c's fineweb.py writes them: a document may go on in the next one."""
    folder = tmp_path / "fineweb10B"
    tokens = starting(TEXTS[10:])
    headed(folder / "fineweb_val_000000.bin", starting(TEXTS[:10]))
    headed(folder / "fineweb_train_000001.bin", tokens[:777])
    headed(folder / "fineweb_train_000002.bin", tokens[777:])
    return folder


def test_nanogpt_is_read_where_it_lies(nanogpt: Path, cache: Path):
    before = {path: path.read_bytes() for path in nanogpt.iterdir()}
    dataset = opened(nanogpt)
    assert documents(dataset, "train") == [text.encode() for text in TEXTS[:50]]
    assert documents(dataset, "val") == [text.encode() for text in TEXTS[50:]]
    assert dataset.manifest.train.text_bytes == sum(map(len, TEXTS[:50]))
    assert dataset.manifest.train.text_tokens == sum(map(len, TEXTS[:50]))
    assert dataset.manifest.source.note == "tokens of nanoGPT, read where they lie"
    assert {path: path.read_bytes() for path in nanogpt.iterdir()} == before
    assert not list(cache.rglob("*.bin"))


def test_llmc_is_read_where_it_lies(llmc: Path, cache: Path):
    dataset = opened(llmc)
    assert documents(dataset, "train") == [text.encode() for text in TEXTS[10:]]
    assert documents(dataset, "val") == [text.encode() for text in TEXTS[:10]]
    assert dataset.manifest.train.text_tokens == sum(map(len, TEXTS[10:]))
    assert dataset.manifest.train.shards[0].n_tokens == 777
    dataset.verify()
    assert not list(cache.rglob("*.bin"))


def test_links_keep_their_names(nanogpt: Path, tmp_path: Path):
    """A download folder of the hub links train.bin to a file that is named by its hash."""
    for name in ("train", "val"):
        (nanogpt / f"{name}.bin").rename(tmp_path / f"blob-{name}")
        (nanogpt / f"{name}.bin").symlink_to(tmp_path / f"blob-{name}")
    assert documents(opened(nanogpt), "val") == [text.encode() for text in TEXTS[50:]]


def test_a_split_that_begins_within_a_document_counts_only_what_ends(tmp_path: Path):
    headed(tmp_path / "x_train_1.bin", starting(TEXTS)[5:])
    headed(tmp_path / "x_val_0.bin", starting(TEXTS)[:5])
    dataset = opened(tmp_path)
    assert dataset.manifest.train.n_documents == len(TEXTS) - 1
    assert dataset.manifest.train.text_tokens == len(dataset.train) - (len(TEXTS) - 1)


def test_four_bytes_a_token(tmp_path: Path):
    for split, texts in (("train", TEXTS[:50]), ("val", TEXTS[50:])):
        headed(tmp_path / f"x_{split}_1.bin", starting(texts), magic=20240801, number=7)
    dataset = opened(tmp_path)
    assert documents(dataset, "train") == [text.encode() for text in TEXTS[:50]]
    assert documents(dataset, "val") == [text.encode() for text in TEXTS[50:]]
    with pytest.raises(TokenizerError) as raised:
        opened(tmp_path, tokenizer="bpe-4096")
    assert raised.value.code == "tokenizer.not_named"


def test_the_same_tokens_have_the_same_fingerprint_wherever_they_lie(llmc: Path, tmp_path: Path):
    first = opened(llmc)
    llmc.rename(tmp_path / "moved")
    assert opened(tmp_path / "moved").fingerprint == first.fingerprint
    globbed = opened(tmp_path / "moved" / "*_train_*.bin", tmp_path / "moved" / "*_val_*.bin")
    assert globbed.fingerprint == first.fingerprint


@pytest.mark.parametrize(("join", "write", "name"), [(ending, raw, "train.bin"), (starting, headed, "x_train_1.bin")])
def test_without_validation_files_the_end_of_train_is_held_out(
    tmp_path: Path, join: Callable[[list[str]], list[int]], write: Callable[..., Path], name: str
):
    write(tmp_path / name, join(TEXTS))
    dataset = opened(tmp_path, val_share=0.25)
    train, val = documents(dataset, "train"), documents(dataset, "val")
    assert train + val == [text.encode() for text in TEXTS]  # no document is cut
    assert 0.15 < len(dataset.val) / (len(dataset.train) + len(dataset.val)) <= 0.25
    assert "no val file: the last 25% are held out" in (dataset.manifest.source.note or "")


def test_what_is_held_out_may_begin_in_any_file(tmp_path: Path):
    for number in range(4):
        headed(tmp_path / f"x_train_{number}.bin", starting(TEXTS[15 * number : 15 * number + 15]))
    dataset = opened(tmp_path, val_share=0.6)
    assert documents(dataset, "train") + documents(dataset, "val") == [text.encode() for text in TEXTS]


def test_batches_are_a_pure_function_of_the_step(llmc: Path):
    batches = [Batches(opened(llmc).train, block_size=16, n_sequences=4, seed=1, vocab_size=257)(3) for _ in range(2)]
    np.testing.assert_array_equal(batches[0], batches[1])
    whole = starting(TEXTS[10:])
    windows = {tuple((whole * 2)[start : start + 16]) for start in range(len(whole))}
    assert all(tuple(window) in windows for window in batches[0][0].tolist())


def test_a_second_time_nothing_is_read(nanogpt: Path, monkeypatch: pytest.MonkeyPatch):
    first = opened(nanogpt)
    monkeypatch.setattr(token_files, "_check", None)
    assert opened(nanogpt).dir == first.dir


def test_a_file_that_has_changed_is_checked_again(nanogpt: Path):
    first = opened(nanogpt)
    raw(nanogpt / "train.bin", ending(TEXTS[:49]))
    with pytest.raises(DataError) as raised:
        open_dataset(first.dir)
    assert raised.value.code == "data.changed"
    assert raised.value.values["path"] == nanogpt / "train.bin"
    assert f"nudge data prepare {nanogpt}" in raised.value.hint
    assert len(documents(opened(nanogpt), "train")) == 49
    assert len(documents(open_dataset(first.dir), "train")) == 49


def test_a_file_that_is_gone_is_named(nanogpt: Path):
    first = opened(nanogpt)
    (nanogpt / "val.bin").unlink()
    with pytest.raises(DataError) as raised:
        open_dataset(first.dir)
    assert raised.value.code == "data.unreadable"
    assert raised.value.values["path"] == nanogpt / "val.bin"


def test_characters_are_those_of_meta_pkl(tmp_path: Path):
    text = "to be or not to be " * 20
    characters = sorted(set(text))
    raw(tmp_path / "train.bin", [characters.index(character) for character in text])
    raw(tmp_path / "val.bin", [characters.index(character) for character in text[:40]])
    meta = {
        "vocab_size": len(characters),
        "itos": dict(enumerate(characters)),
        "stoi": {character: number for number, character in enumerate(characters)},
    }
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta))
    dataset = opened(tmp_path, tokenizer="gpt2")
    assert isinstance(dataset.tokenizer, CharTokenizer)
    assert dataset.tokenizer.vocab_size == len(characters)
    assert dataset.tokenizer.decode(dataset.train.read(0, 5)) == "to be"
    assert dataset.manifest.train.n_documents == 0
    assert dataset.manifest.train.text_bytes == len(text)


class Dangerous:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (pickle.dumps(Dangerous()), "tokenizer.unsafe_meta"),
        (pickle.dumps({"itos": {0: "a"}, "stoi": {"a": 0}})[:-9], "tokenizer.not_meta"),
        (pickle.dumps({"tokenizer": "gpt2"}), "tokenizer.not_meta"),
        (pickle.dumps({"itos": {0: "ab"}, "stoi": {"ab": 0}}), "tokenizer.not_characters"),
        (pickle.dumps({"itos": {0: "a"}, "stoi": {"a": 1}}), "tokenizer.not_characters"),
        (pickle.dumps({"itos": {0: "b", 1: "a"}, "stoi": {"b": 0, "a": 1}}), "tokenizer.unsorted_characters"),
    ],
)
def test_a_meta_pkl_that_is_no_good_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, code: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "meta.pkl").write_bytes(content)
    with pytest.raises(TokenizerError) as raised:
        meta_pkl.read(tmp_path / "meta.pkl")
    assert raised.value.code == code
    assert not (tmp_path / "harmed").exists()


def damaged(change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = headed(folder / "x_train_1.bin", starting(TEXTS))
        path.write_bytes(change(path.read_bytes()))
        return path

    return write


@pytest.mark.parametrize(
    ("write", "code", "values"),
    [
        (damaged(lambda data: data[:-3]), "data.cut_tokens", {}),
        (damaged(lambda data: data + b"\0"), "data.cut_tokens", {}),
        (damaged(lambda data: b""), "data.no_tokens", {}),
        (damaged(lambda data: data[:3]), "data.not_tokens", {}),
        (damaged(lambda data: data[:7]), "data.cut_tokens", {"n_bytes": 7}),
        (damaged(lambda data: data[:500]), "data.cut_tokens", {"n_bytes": 500}),
        (
            lambda folder: headed(folder / "x_train_1.bin", [1], magic=20240326),
            "data.not_tokens",
            {"magic": 20240326, "known": "20240520 or 20240801"},
        ),
        (
            lambda folder: headed(folder / "x_train_1.bin", [1], number=2),
            "data.token_version",
            {"version": 2, "known": 1},
        ),
        (lambda folder: headed(folder / "x_train_1.bin", []), "data.no_tokens", {}),
        (
            lambda folder: headed(folder / "x_train_1.bin", [65, 400, 65]),
            "data.other_vocabulary",
            {"token": 400, "tokenizer": "bytes", "last": 256},
        ),
        (lambda folder: headed(folder / "x_train_1.bin", [65]), "data.nothing_to_split", {}),
        (lambda folder: headed(folder / "x_val_1.bin", [65]), "data.no_training", {}),
        (lambda folder: raw(folder / "train.bin", [65, 66, 300]), "data.other_vocabulary", {"token": 300}),
        (lambda folder: raw(folder / "train.bin", [1, 2, 3], np.uint8), "data.cut_tokens", {"n_bytes": 3}),
        (lambda folder: raw(folder / "train.bin", []), "data.no_tokens", {}),
    ],
)
def test_what_is_damaged_is_one_line(
    tmp_path: Path, write: Callable[[Path], Path], code: str, values: dict[str, object]
):
    path = write(tmp_path / "data")
    with pytest.raises(DataError) as raised:
        opened(path.parent)
    assert raised.value.code == code
    assert values.items() <= raised.value.values.items()
    assert str(path) in raised.value.message
    assert "\n" not in raised.value.message
    assert raised.value.hint


def test_what_does_not_belong_together_is_refused(tmp_path: Path, nanogpt: Path, llmc: Path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError) as raised:
        opened(nanogpt, tmp_path / "a.txt")
    assert raised.value.code == "data.tokens_and_text"
    with pytest.raises(DataError) as raised:
        opened(nanogpt, llmc)
    assert raised.value.code == "data.two_formats"


def test_a_prepared_folder_that_was_not_finished_is_not_taken_for_tokens(tmp_path: Path):
    headed(tmp_path / "train_000000.bin", [1, 2, 3])
    assert token_files.find([str(tmp_path)]) == []


def test_there_is_no_text_to_find_where_tokens_lie(nanogpt: Path, tmp_path: Path):
    opened(nanogpt, out=tmp_path / "noted")
    for paths in ([str(nanogpt)], [str(tmp_path / "noted")], ["hf:owner/name"], [SORTING]):
        assert find_text(paths) == []
    assert [file.path.name for file in find_text([str(nanogpt / "readme.md"), "hf:owner/name"])] == ["readme.md"]


def test_out_holds_what_was_noted(nanogpt: Path, tmp_path: Path):
    dataset = opened(nanogpt, out=tmp_path / "noted")
    assert open_dataset(tmp_path / "noted").fingerprint == dataset.fingerprint
    with pytest.raises(NudgeError) as raised:
        opened(nanogpt, out=tmp_path / "noted", tokenizer="gpt2")
    assert raised.value.code == "data.other_tokens"


@pytest.mark.slow
def test_a_run_learns_from_them_and_goes_on(nanogpt: Path, tmp_path: Path):
    config = Config(
        model=ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=8),
        data=DataConfig(paths=(str(nanogpt),), tokenizer="bytes"),
        train=TrainConfig(steps=4, batch_tokens=32, micro_batch=2),
        sample=SampleConfig(every=0),
        eval=EvalConfig(every=0, tokens=64),
        save=SaveConfig(every=2),
        machine=MachineConfig(device="cpu", dtype="float32", threads=1, update="eager"),
    )
    whole = [event.loss for event in run(config, tmp_path / "whole") if isinstance(event, Step)]
    losses = []
    for event in run(config, tmp_path / "run"):
        if isinstance(event, Step):
            losses.append(event.loss)
        if len(losses) == 2:
            break
    os.utime(nanogpt / "train.bin", ns=(1, 1))  # touched, not changed
    losses += [event.loss for event in resume(tmp_path / "run") if isinstance(event, Step)]
    assert losses == whole
    source = json_reader.read(tmp_path / "run" / "run.json", dict)["data"]["source"]
    assert source["note"] == "tokens of nanoGPT, read where they lie"
    raw(nanogpt / "train.bin", ending(TEXTS[:40]))
    with pytest.raises(DataError, match="is not the one this run began with"):
        list(resume(tmp_path / "run", steps=6))


def measuring() -> LanguageModel:
    sizes = ModelConfig(n_layer=1, n_head=1, n_embd=16, block_size=32, vocab_size=257)
    return LanguageModel(random_network(sizes, spread=4.0), ByteTokenizer())


def test_eval_measures_the_validation_tokens(nanogpt: Path, llmc: Path, tmp_path: Path) -> None:
    """By the same windows as training does, wherever the tokens lie."""
    model = measuring()
    for folder, val in ((nanogpt, nanogpt / "val.bin"), (llmc, next(llmc.glob("*_val_*")))):
        dataset = opened(folder)
        windows = list(val_windows(dataset.val, 32))
        with torch.no_grad():
            loss = sum(
                float(model.network.loss(*map(torch.from_numpy, (x[None], y[None])))) * len(x) for x, y in windows
            )
        n_tokens = len(dataset.val) - 1
        for named in (folder, val, dataset.dir):
            got = evaluate(model, [named])
            assert got.tokens == n_tokens
            assert got.loss == pytest.approx(loss / n_tokens, rel=1e-5), named
    train = evaluate(model, [nanogpt / "train.bin"])  # no validation file among them: all that is named
    assert train.tokens == (nanogpt / "train.bin").stat().st_size // 2 - 1


def test_eval_refuses_tokens_of_another_vocabulary(nanogpt: Path, tmp_path: Path) -> None:
    model = measuring()
    raw(tmp_path / "high" / "val.bin", [1, 2, 300])
    with refused("data.token_too_high", path=tmp_path / "high" / "val.bin", token=300, last=256):
        evaluate(model, [tmp_path / "high"])
    meta_pkl.write(nanogpt / "meta.pkl", CharTokenizer("ab"))
    with refused("data.not_the_models_tokenizer", got="chars", expected="bytes", expected_size=257):
        evaluate(model, [nanogpt])
    other = opened(SORTING, tokenizer="chars")
    with refused("data.not_the_models_tokenizer", path=other.dir, got="chars", expected="bytes", expected_size=257):
        evaluate(model, [other.dir])
    raw(tmp_path / "short" / "val.bin", [1])
    with refused("data.nothing_to_predict"):
        evaluate(model, [tmp_path / "short"])


def test_eval_knows_the_vocabulary_beside_every_file(nanogpt: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n".join(TEXTS))
    config = DataConfig(paths=(str(tmp_path / "text.txt"),), tokenizer="bpe-300")
    _, prepared = finish(prepare(config, out=tmp_path / "prepared"))
    with pytest.raises(DataError, match="another tokenizer than this model's: bpe-300"):
        evaluate(measuring(), [prepared.dir / "val_000000.bin"])
    with pytest.raises(DataError) as raised:
        evaluate(measuring(), [prepared.dir / "val_000000.bin", nanogpt / "val.bin"])
    assert raised.value.code == "data.two_vocabularies"
    with pytest.raises(DataError, match="is a prepared folder, and not all that was named"):
        evaluate(measuring(), [prepared.dir, tmp_path / "text.txt"])


def test_eval_cuts_records_only_as_long_as_they_are(tmp_path: Path) -> None:
    letters = CharTokenizer("ABC", has_eot=False)
    prepared = opened(SORTING, tokenizer="chars")
    sizes = ModelConfig(n_layer=1, n_head=1, n_embd=8, block_size=8, vocab_size=3)
    with pytest.raises(NudgeError) as raised:
        evaluate(LanguageModel(random_network(sizes, spread=1.0), letters), [prepared.dir])
    assert raised.value.code == "config.record_length"


def test_eval_of_nothing_is_no_perfect_score(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match="empty"):
        evaluate(measuring(), [tmp_path / "empty.txt"])
    with pytest.raises(DataError) as raised:
        evaluate(measuring(), ["a" * 300])
    assert raised.value.code == "data.bad_path"


def test_a_loss_beyond_all_numbers(tmp_path: Path) -> None:
    assert Score(loss=1700.0, bits_per_byte=1.0, tokens=1).perplexity == math.inf
    assert math.isnan(Score(loss=math.nan, bits_per_byte=1.0, tokens=1).perplexity)


def test_text_for_nanogpts_characters(tmp_path: Path) -> None:
    """The end of a line opens each document, as no token of theirs starts one."""
    (tmp_path / "text.jsonl").write_text('{"text": "ab\\nba"}\n{"text": "b"}\n' * 20)
    CharTokenizer("\nab", has_eot=False).save(tmp_path / "tokenizer.json")
    tokenizer = str(tmp_path / "tokenizer.json")
    config = DataConfig(paths=(str(tmp_path / "text.jsonl"),), tokenizer=tokenizer, val_share=0.25)
    _, dataset = finish(prepare(config))
    assert {*documents(dataset, "train"), *documents(dataset, "val")} == {b"\nab\nba", b"\nb"}
    assert dataset.train.n_documents + dataset.val.n_documents == 40
