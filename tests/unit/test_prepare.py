import gzip
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.preparing import finish

from nudge.config import DataConfig
from nudge.data import corpus, encoding, prepare, vocabulary
from nudge.data import tokenizer as tokenizers
from nudge.data.chunking import chunks
from nudge.data.shards import Dataset
from nudge.errors import DataError, MachineError, NudgeError, TokenizerError

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "runs", "into", "forests"]


def write_json_lines(path: Path, n_documents: int, seed: int = 0, suffix: str = "") -> list[str]:
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 40))) + suffix for _ in range(n_documents)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return texts


def make(*paths: Path, tokenizer: str = "bytes", **settings: object) -> Dataset:
    config = DataConfig(paths=tuple(map(str, paths)), tokenizer=tokenizer)
    return finish(prepare.prepare(config, **settings))[1]  # type: ignore[arg-type]


def documents(dataset: Dataset, split: str) -> list[str]:
    tokens = getattr(dataset, split)
    starts = [0, *tokens.ends.tolist()[:-1]]
    parts = [tokens.read(start, end - start) for start, end in zip(starts, tokens.ends.tolist(), strict=True)]
    assert all(part[0] == dataset.tokenizer.eot for part in parts)
    return [dataset.tokenizer.decode_bytes(part).decode("utf-8", "surrogateescape") for part in parts]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many groups and shards from little text."""
    monkeypatch.setattr(encoding, "CHUNK_CHARS", 1000)
    monkeypatch.setattr(encoding, "SHARD_TOKENS", 5000)


@pytest.mark.parametrize("tokenizer", ["bytes", "chars", "bpe-300"])
def test_every_document_arrives_once_in_order(tmp_path: Path, small_parts: None, tokenizer: str):
    texts = write_json_lines(tmp_path / "a.jsonl", 1500, suffix=" é😀")
    dataset = make(tmp_path / "a.jsonl", tokenizer=tokenizer)
    train, val = documents(dataset, "train"), documents(dataset, "val")
    in_val = set(val)
    assert train == [text for text in texts if text not in in_val]
    assert val == [text for text in texts if text in in_val]
    assert 100 < len(val) < 200
    manifest = dataset.manifest
    assert manifest.train.n_documents == len(train)
    assert manifest.train.text_tokens == len(dataset.train) - len(train)
    assert manifest.train.text_bytes == sum(len(text.encode()) for text in train)
    dataset.verify()


def test_a_single_document_is_cut(tmp_path: Path):
    (tmp_path / "a.txt").write_text("0123456789" * 100)
    dataset = make(tmp_path / "a.txt")
    assert documents(dataset, "train") == ["0123456789" * 90]
    assert documents(dataset, "val") == ["0123456789" * 10]


def test_tiny_shakespeare_has_the_published_counts(shared_data: Path):
    dataset = make(shared_data / "tinyshakespeare.txt", tokenizer=str(shared_data / "gpt2.tiktoken"))
    assert (dataset.manifest.train.text_tokens, dataset.manifest.val.text_tokens) == (301_966, 36_059)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_nothing(tmp_path: Path, small_parts: None, threads: int):
    write_json_lines(tmp_path / "a.jsonl", 1200)
    alone = make(tmp_path / "a.jsonl", out=tmp_path / "alone", threads=1)
    dataset = make(tmp_path / "a.jsonl", out=tmp_path / "out", threads=threads)
    assert len(dataset.manifest.train.shards) > 5
    assert dataset.fingerprint == alone.fingerprint


def test_a_long_document_is_encoded_in_pieces_that_leave_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_parts: None
):
    monkeypatch.setattr("nudge.data.chunking.CHUNK_CHARS", 300)
    monkeypatch.setattr("nudge.data.chunking.LONGEST_CHUNK", 400)
    monkeypatch.setattr(encoding, "LONGEST_CHUNK", 400)
    texts = [f"{number} " + " ".join(WORDS) * 40 for number in range(12)] + ["short", "It's\n\n\n   12345 !!!\n" * 200]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    dataset = make(tmp_path / "a.jsonl", tokenizer="bpe-300", threads=2)
    assert sorted(documents(dataset, "train") + documents(dataset, "val")) == sorted(texts)
    for split in (dataset.train, dataset.val):
        whole = dataset.tokenizer._encoding  # type: ignore[attr-defined]
        expected = [[dataset.tokenizer.eot, *whole.encode_ordinary(text)] for text in documents(dataset, split.name)]
        assert split.read(0, len(split)).tolist() == [token for ids in expected for token in ids]


@pytest.mark.slow
@pytest.mark.parametrize(("n_files", "packed"), [(1, False), (3, True), (1200, False)])
def test_a_file_that_is_not_held_gives_the_same_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_files: int, packed: bool
):
    draw = random.Random(n_files)
    for number in range(n_files):
        n_words = 3000 if number < 3 else 3
        data = (f"{number} " + "".join(draw.choice(WORDS) + draw.choice(" \n") for _ in range(n_words))).encode()
        path = tmp_path / "texts" / f"{number:04}.txt{'.gz' if packed else ''}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(data) if packed else data)
    whole = make(tmp_path / "texts", tokenizer="bpe-300", out=tmp_path / "whole")
    monkeypatch.setattr(corpus, "LONG_BYTES", 5000)
    monkeypatch.setattr(corpus, "_CHUNK_BYTES", 777)
    monkeypatch.setattr("nudge.data.chunking.CHUNK_CHARS", 300)
    monkeypatch.setattr("nudge.data.chunking.LONGEST_CHUNK", 400)
    in_pieces = make(tmp_path / "texts", tokenizer=str(whole.dir), out=tmp_path / "pieces")
    assert [shard.sha256 for shard in in_pieces.manifest.train.shards] == [
        shard.sha256 for shard in whole.manifest.train.shards
    ]
    assert in_pieces.fingerprint == whole.fingerprint
    learned = make(tmp_path / "texts", tokenizer="chars", out=tmp_path / "chars")
    assert documents(learned, "val") == documents(whole, "val")


@pytest.mark.slow
def test_one_word_of_many_megabytes_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nudge.data.chunking.LONGEST_WORD", 1 << 20)
    (tmp_path / "a.txt").write_text("word " + "ab" * 800_000)
    assert max(map(len, chunks((tmp_path / "a.txt").read_text()))) == 1 << 20
    dataset = make(tmp_path / "a.txt")
    both = documents(dataset, "train")[0] + documents(dataset, "val")[0]
    assert both == (tmp_path / "a.txt").read_text()


def test_two_books_and_a_note_have_a_tenth_for_validation(tmp_path: Path):
    for name, n_words in (("a.txt", 5000), ("b.txt", 7000), ("note.txt", 4)):
        (tmp_path / name).write_text(" ".join(random.Random(name).choices(WORDS, k=n_words)))
    val = make(*sorted(tmp_path.glob("*.txt"))).manifest.val
    text_bytes = sum(path.stat().st_size for path in tmp_path.glob("*.txt"))
    assert 0.09 < val.text_bytes / text_bytes < 0.11
    assert val.n_documents >= 2


@pytest.mark.slow
def test_a_book_among_many_notes_is_cut_in_a_second_round(tmp_path: Path, small_parts: None):
    texts = write_json_lines(tmp_path / "a.jsonl", 1500)
    (tmp_path / "b.txt").write_text(book := " ".join(random.Random(0).choices(WORDS, k=50_000)))
    dataset = make(tmp_path / "a.jsonl", tmp_path / "b.txt", tokenizer="bpe-300")
    manifest = dataset.manifest
    assert 0.09 < manifest.val.text_bytes / (manifest.val.text_bytes + manifest.train.text_bytes) < 0.11
    assert manifest.cut_above
    assert max(map(len, texts)) < manifest.cut_above < len(book)
    assert not manifest.notes
    both = documents(dataset, "train") + documents(dataset, "val")
    assert sorted(text for text in both if len(text) < 1000) == sorted(texts)
    assert "".join(text for text in both if len(text) > 1000) == book
    dataset.verify()


def test_an_ordinary_split_is_recorded_as_by_the_first_version(tmp_path: Path):
    write_json_lines(tmp_path / "a.jsonl", 50)
    (tmp_path / "b.txt").write_text("one document " * 100)
    for name in ("a.jsonl", "b.txt"):
        assert "cut_above" not in json.loads((make(tmp_path / name).dir / "manifest.json").read_text())


def test_a_share_that_is_far_off_is_noted(tmp_path: Path):
    write_json_lines(tmp_path / "a.jsonl", 50)
    made = finish(prepare.prepare(DataConfig(paths=(str(tmp_path / "a.jsonl"),), tokenizer="bytes", val_share=0.5)))[1]
    assert not made.manifest.notes
    manifest = json.loads((made.dir / "manifest.json").read_text())
    (made.dir / "manifest.json").write_text(json.dumps(manifest | {"val_share": 0.1}))
    (note,) = make(made.dir).manifest.notes
    assert "10%" in note


def test_bytes_that_are_not_utf8_are_noted_with_their_file(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 \xff" * 100)
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "caf\xe9 de la gare"}\n' * 3)
    (tmp_path / "c.txt").write_text("café " * 100)
    (note,) = make(tmp_path / "a.txt", tmp_path / "b.jsonl", tmp_path / "c.txt").manifest.notes
    assert "203 bytes" in note
    assert str(tmp_path / "a.txt") in note
    assert "1 more" in note
    assert not make(tmp_path / "c.txt").manifest.notes


def test_bytes_that_are_not_utf8_survive(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 \xff" * 100)
    dataset = make(tmp_path / "a.txt", tokenizer="bpe-300")
    both = documents(dataset, "train")[0] + documents(dataset, "val")[0]
    assert both.encode("utf-8", "surrogateescape") == b"caf\xe9 \xff" * 100


def test_text_that_spells_the_special_token_stays_text(tmp_path: Path):
    texts = [f"{number} {tokenizers.EOT} {tokenizers.EOT}" for number in range(100)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    dataset = make(tmp_path / "a.jsonl", tokenizer="bpe-300")
    assert sorted(documents(dataset, "train") + documents(dataset, "val")) == sorted(texts)


def test_what_is_prepared_is_found_again(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    write_json_lines(tmp_path / "a.jsonl", 50)
    first = make(tmp_path / "a.jsonl", tokenizer="bpe-300")
    assert first.dir.parent == cache / "datasets"
    (tmp_path / "a.jsonl").rename(tmp_path / "moved.jsonl")
    monkeypatch.setattr(prepare, "encode_documents", None)
    again = make(tmp_path / "moved.jsonl", tokenizer="bpe-300")
    assert again.dir == first.dir
    assert again.fingerprint == first.fingerprint


def test_other_text_tokenizer_or_field_is_another_dataset(tmp_path: Path):
    write_json_lines(tmp_path / "a.jsonl", 50)
    write_json_lines(tmp_path / "b.jsonl", 50, seed=1)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    made = [
        make(tmp_path / "a.jsonl"),
        make(tmp_path / "b.jsonl"),
        make(tmp_path / "a.jsonl", tokenizer="chars"),
        make(tmp_path / "a.jsonl", tmp_path / "b.jsonl"),
        finish(prepare.prepare(DataConfig(paths=(str(tmp_path / "a.jsonl"),), tokenizer="bytes", val_share=0.5)))[1],
    ]
    assert len({dataset.dir for dataset in made}) == len({dataset.fingerprint for dataset in made}) == len(made)
    assert make(tmp_path / "a.jsonl.gz").fingerprint == made[0].fingerprint  # the same text, the same tokens


def test_a_prepared_folder_is_opened_as_it_is(tmp_path: Path):
    write_json_lines(tmp_path / "a.jsonl", 50)
    made = make(tmp_path / "a.jsonl", out=tmp_path / "tokens")
    events, opened = finish(prepare.prepare(DataConfig(paths=(str(tmp_path / "tokens"),), tokenizer="gpt2")))
    assert not events
    assert opened.fingerprint == made.fingerprint
    assert make(tmp_path / "a.jsonl", out=tmp_path / "tokens").fingerprint == made.fingerprint


def test_a_folder_with_other_tokens_is_not_overwritten(tmp_path: Path):
    write_json_lines(tmp_path / "a.jsonl", 50)
    made = make(tmp_path / "a.jsonl", out=tmp_path / "tokens")
    with pytest.raises(DataError) as raised:
        make(tmp_path / "a.jsonl", tokenizer="chars", out=tmp_path / "tokens")
    assert raised.value.code == "data.other_tokens"
    made.verify()


def test_progress_goes_from_reading_to_tokens(tmp_path: Path, small_parts: None):
    write_json_lines(tmp_path / "a.jsonl", 1500)
    config = DataConfig(paths=(str(tmp_path / "a.jsonl"),), tokenizer="bpe-300")
    events, _ = finish(prepare.prepare(config))
    assert list(dict.fromkeys(event.what for event in events)) == ["reading", "vocabulary", "tokens"]
    tokens = [event for event in events if event.what == "tokens"]
    assert [event.done for event in tokens] == sorted(event.done for event in tokens)
    assert tokens[-1].done == tokens[-1].total == (tmp_path / "a.jsonl").stat().st_size


def test_byte_pairs_are_learned_from_training_text_alone(tmp_path: Path):
    (tmp_path / "a.txt").write_text("ab " * 900 + "zq " * 100)
    dataset = make(tmp_path / "a.txt", tokenizer="bpe-260")
    learned = [dataset.tokenizer.token_bytes(token) for token in range(256, dataset.tokenizer.vocab_size)]
    assert b" ab" in learned
    assert not [token for token in learned if token and b"z" in token]


def test_learning_reads_a_fixed_amount_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[str] = []

    def train(texts: Iterator[str], vocab_size: int) -> tokenizers.Tokenizer:
        seen.extend(texts)
        return tokenizers.get("bytes")

    texts = write_json_lines(tmp_path / "a.jsonl", 1000)
    monkeypatch.setattr(tokenizers, "train_bpe", train)
    monkeypatch.setattr(vocabulary, "TRAINING_BYTES", (tmp_path / "a.jsonl").stat().st_size // 10)
    make(tmp_path / "a.jsonl", tokenizer="bpe-300")
    assert 60 < len(seen) < 140
    places = [texts.index(text) for text in seen]
    assert np.histogram(places, bins=4, range=(0, 1000))[0].min() > 10


@pytest.mark.parametrize("tokenizer", ["bytes", "chars", "bpe-300"])
def test_an_error_in_the_middle_of_the_text_arrives_whole(tmp_path: Path, small_parts: None, tokenizer: str):
    write_json_lines(tmp_path / "a.jsonl", 1500)
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write("not json\n")
    with pytest.raises(DataError) as raised:
        make(tmp_path / "a.jsonl", tokenizer=tokenizer)
    assert raised.value.code == "data.not_json"
    assert raised.value.values["line"] == 1501


def test_an_error_in_a_thread_arrives_whole(tmp_path: Path, small_parts: None):
    tokenizers.chars(["".join(WORDS) + " "]).save(tmp_path / "tokenizer.json")
    write_json_lines(tmp_path / "a.jsonl", 1500)
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"text": "Ünknown"}\n')
    before = set(threading.enumerate())
    with pytest.raises(TokenizerError) as raised:
        make(tmp_path / "a.jsonl", tokenizer=str(tmp_path / "tokenizer.json"), threads=2)
    assert raised.value.values["character"] == "Ü"
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    ("content", "code"),
    [("", "data.no_text"), ("x", "data.nothing_to_split")],
)
def test_too_little_text_is_refused(tmp_path: Path, content: str, code: str):
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(DataError) as raised:
        make(tmp_path / "a.txt")
    assert raised.value.code == code


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    write_json_lines(tmp_path / "a.jsonl", 5)
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError) as raised:
        make(tmp_path / "a.jsonl", out=tmp_path / "file" / "tokens")
    assert raised.value.code == "machine.unwritable"
    assert raised.value.values["folder"] == tmp_path / "file" / "tokens"
    assert "NUDGE_CACHE" in raised.value.hint


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    write_json_lines(tmp_path / "a.jsonl", 5)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MachineError) as raised:
        make(tmp_path / "a.jsonl", out=tmp_path / "tokens")
    assert raised.value.code == "machine.unwritable"
    assert raised.value.values["error"] == "No space left on device"


def test_wrong_tokenizers_are_refused_before_the_text_is_touched(tmp_path: Path, cache: Path):
    write_json_lines(tmp_path / "a.jsonl", 5)
    for spec in ("gtp2", "nowhere/tokenizer.json", "bpe-100"):
        with pytest.raises(NudgeError):
            make(tmp_path / "a.jsonl", tokenizer=spec)
    assert not list(cache.glob("datasets/*/*.bin"))


def test_a_script_may_prepare_at_its_top_level(tmp_path: Path):
    """No process is started that would run the user's script a second time."""
    write_json_lines(tmp_path / "a.jsonl", 1500)
    (tmp_path / "script.py").write_text(
        "from nudge.config import DataConfig\n"
        "from nudge.data.prepare import prepare\n"
        "print('once')\n"
        "for event in prepare(DataConfig(paths=('a.jsonl',), tokenizer='bytes'), threads=2):\n"
        "    pass\n"
        "print(event.what)\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["once", "tokens"]


def test_copies_of_a_few_short_documents_are_not_cut(tmp_path: Path) -> None:
    """No document is long, so that cutting cannot bring validation near its share: the documents stay whole."""
    (tmp_path / "text.jsonl").write_text('{"text": "one more line"}\n{"text": "b"}\n' * 500)
    _, dataset = finish(prepare.prepare(DataConfig(paths=(str(tmp_path / "text.jsonl"),), tokenizer="bytes")))
    assert dataset.manifest.cut_above is None
    assert (dataset.train.n_documents, dataset.val.n_documents) == (500, 500)
