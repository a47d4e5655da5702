import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nudge.data import tokenizer as tokenizers
from nudge.data.manifest import Manifest, Source, SplitManifest, read_manifest
from nudge.data.shards import Dataset, Tokens, ends_name, open_dataset, token_dtype, write_shard
from nudge.errors import DataError, TokenizerError


def fill(folder: Path, sizes: dict[str, list[int]], vocab_size: int = 257) -> Path:
    """A prepared folder with shards of the given numbers of tokens, which count up."""
    folder.mkdir()
    tokenizer = tokenizers.get("bytes")
    tokenizer.save(folder / "tokenizer.json")
    splits = {}
    for name, counts in sizes.items():
        first, shards = 0, []
        for number, count in enumerate(counts):
            tokens = (np.arange(first, first + count) % 250).astype(token_dtype(vocab_size))
            ends = np.array([count // 2, count], dtype=np.uint64)
            shards.append(write_shard(folder, f"{name}_{number:06d}.bin", tokens, ends, text_bytes=count))
            first += count
        splits[name] = SplitManifest.from_shards(shards)
    Manifest(
        format="nudge shards 1",
        key="key",
        tokenizer="bytes",
        tokenizer_sha256=tokenizer.sha256,
        vocab_size=vocab_size,
        val_share=0.1,
        source=Source(paths=("a.txt",), n_files=1, n_bytes=1, sha256="", suffixes=(".txt",)),
        versions={},
        **splits,
    ).save(folder / "manifest.json")
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return open_dataset(fill(tmp_path / "tokens", {"train": [100, 37, 250], "val": [40]}))


def test_tokens_read_as_one_circle_over_their_shards(dataset: Dataset):
    expected = np.arange(387) % 250
    assert len(dataset.train) == 387
    for start, count in [(0, 387), (95, 10), (99, 1), (100, 38), (380, 20), (386, 800), (387, 5), (-1, 3), (5, 0)]:
        read = dataset.train.read(start, count)
        assert read.dtype == np.uint16
        assert read.tolist() == [expected[(start + at) % 387] for at in range(count)]


def test_ends_count_from_the_start_of_the_split(dataset: Dataset):
    assert dataset.train.ends.tolist() == [50, 100, 118, 137, 262, 387]
    assert dataset.train.n_documents == 6
    assert dataset.manifest.train.text_tokens == 381


def test_the_file_is_as_llm_c_writes_it(dataset: Dataset):
    data = (dataset.dir / "train_000000.bin").read_bytes()
    header = np.frombuffer(data[:1024], dtype="<i4")
    assert header[:3].tolist() == [20240520, 1, 100]
    assert not header[3:].any()
    assert np.frombuffer(data[1024:], dtype="<u2").tolist() == list(range(100))


def test_large_vocabularies_take_four_bytes(tmp_path: Path):
    assert token_dtype(65_536) == np.uint16
    folder = fill(tmp_path / "tokens", {"train": [100], "val": [40]}, vocab_size=65_537)
    data = (folder / "train_000000.bin").read_bytes()
    assert np.frombuffer(data[:12], dtype="<i4").tolist() == [20240801, 7, 100]
    assert len(data) == 1024 + 4 * 100
    assert open_dataset(folder).train.read(3, 2).tolist() == [3, 4]


def test_fingerprint_follows_the_tokens_and_not_the_place(tmp_path: Path, dataset: Dataset):
    same = open_dataset(fill(tmp_path / "elsewhere", {"train": [100, 37, 250], "val": [40]}))
    other = open_dataset(fill(tmp_path / "other", {"train": [100, 37, 250], "val": [41]}))
    assert same.fingerprint == dataset.fingerprint != other.fingerprint


def test_the_manifest_comes_back(dataset: Dataset):
    assert read_manifest(dataset.dir) == dataset.manifest
    assert not dataset.is_python


def test_an_untouched_dataset_verifies(dataset: Dataset):
    dataset.verify()


@pytest.mark.parametrize("name", ["train_000001.bin", "train_000002.ends.npy"])
def test_verify_finds_a_flipped_bit(dataset: Dataset, name: str):
    path = dataset.dir / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 4
    path.write_bytes(data)
    damaged = open_dataset(dataset.dir)  # sizes and headers are as they should be
    with pytest.raises(DataError) as raised:
        damaged.verify()
    assert raised.value.code == "data.damaged"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0\0")


def rewrite_header(path: Path, at: int, value: int) -> None:
    data = bytearray(path.read_bytes())
    data[4 * at : 4 * at + 4] = np.int32(value).tobytes()
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "code", "values"),
    [
        (cut, "data.shard_size", {"n_bytes": 1096, "expected_bytes": 1098}),
        (lengthen, "data.shard_size", {"n_bytes": 1100, "expected_bytes": 1098}),
        (lambda path: path.write_bytes(b""), "data.not_shard", {"bits": 16}),
        (lambda path: path.write_bytes(b"short"), "data.not_shard", {"bits": 16}),
        (lambda path: rewrite_header(path, 0, 20240801), "data.not_shard", {"bits": 16}),
        (lambda path: rewrite_header(path, 1, 2), "data.not_shard", {"bits": 16}),
        (lambda path: rewrite_header(path, 2, 38), "data.shard_size", {"n_tokens": 38, "expected_tokens": 37}),
        (Path.unlink, "data.unreadable_shard", {}),
    ],
)
def test_a_damaged_shard_is_refused(
    dataset: Dataset, damage: Callable[[Path], None], code: str, values: dict[str, int]
):
    damage(dataset.dir / "train_000001.bin")
    with pytest.raises(DataError) as raised:
        open_dataset(dataset.dir)
    assert raised.value.code == code
    assert raised.value.values["path"] == dataset.dir / "train_000001.bin"
    assert values.items() <= raised.value.values.items()
    assert "prepare the text again" in raised.value.hint


def change(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_manifest_of_a_later_version_may_say_more(dataset: Dataset):
    change(dataset.dir, extra=1)
    assert open_dataset(dataset.dir).manifest == dataset.manifest


def test_a_damaged_manifest_is_refused(dataset: Dataset):
    path = dataset.dir / "manifest.json"
    counts = dataclasses.asdict(dataset.manifest.val)
    for changes in (
        {"format": "other"},
        {"val": {**counts, "n_tokens": 41}},
        {"val": {**counts, "shards": [{**counts["shards"][0], "n_tokens": "40"}]}},
        {"val": {**counts, "shards": []}},
        {"val": None},
    ):
        before = path.read_text()
        change(dataset.dir, **changes)
        with pytest.raises(DataError) as raised:
            open_dataset(dataset.dir)
        assert raised.value.code == "data.bad_manifest"
        path.write_text(before)
    path.write_text(path.read_text()[:100])
    with pytest.raises(DataError) as raised:
        open_dataset(dataset.dir)
    assert raised.value.code == "data.bad_manifest"


ELSEWHERE = [
    *(
        "/etc/passwd",
        "../val_000000.bin",
        "a/val_000000.bin",
        "..",
        ".",
        "",
        ".hidden",
        "a\\b.bin",
        "..\\val_000000.bin",
    ),
    *(
        "C:val_000000.bin",
        "C:\\val_000000.bin",
        "\\\\host\\share\\x",
        "val.bin:stream",
        "val\n.bin",
        "val\0.bin",
        7,
        None,
        ["a"],
    ),
]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_manifest_that_names_a_file_elsewhere_is_refused(dataset: Dataset, name: object):
    counts = json.loads((dataset.dir / "manifest.json").read_text())["val"]
    (dataset.dir.parent / "val_000000.bin").write_bytes((dataset.dir / "val_000000.bin").read_bytes())
    change(dataset.dir, val={**counts, "shards": [{**counts["shards"][0], "file": name}]})
    with pytest.raises(DataError) as raised:
        open_dataset(dataset.dir)
    assert raised.value.code == "data.bad_manifest"


def test_another_tokenizer_is_refused(dataset: Dataset):
    tokenizers.chars(["abc"]).save(dataset.dir / "tokenizer.json")
    with pytest.raises(DataError) as raised:
        open_dataset(dataset.dir)
    assert raised.value.code == "data.other_tokenizer"
    (dataset.dir / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError) as missing:
        open_dataset(dataset.dir)
    assert missing.value.code == "tokenizer.unreadable"
    assert missing.value.values["path"] == dataset.dir / "tokenizer.json"


def test_what_is_not_prepared_is_refused(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError) as raised:
            open_dataset(folder)
        assert raised.value.code == "data.not_prepared"
        assert raised.value.values["folder"] == folder
        assert "nudge data prepare" in raised.value.hint


def test_the_index_lies_beside_its_shard(dataset: Dataset):
    assert ends_name("train_000000.bin") == "train_000000.ends.npy"
    assert isinstance(dataset.train, Tokens)
    assert (dataset.dir / "train_000000.ends.npy").exists()
