"""Text through the library `datasets`: from folders of this machine, as the hub is not reached in tests."""

import json
import sys
from pathlib import Path

import pytest
from tests.preparing import finish

from nudge.config import DataConfig
from nudge.data.foreign import hub
from nudge.data.prepare import prepare
from nudge.errors import DataError, MachineError

TEXTS = [f"문서 {number}: " + "낱말 " * (number % 7) for number in range(200)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder as the hub has them: parquet files of two splits."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    pytest.importorskip("datasets", reason="the library datasets is not installed")
    import pyarrow

    folder = tmp_path / "corpus"
    (folder / "data").mkdir(parents=True)
    for split, texts in (("train", TEXTS), ("test", TEXTS[:3])):
        table = pyarrow.table({"text": texts, "upper": [text.upper() for text in texts], "n": range(len(texts))})
        parquet.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def fetched(spec: str, *, field: str = "text", n_bytes: int = 10**6) -> list[str]:
    _, (paths, _) = finish(hub.fetch([spec], field, n_bytes))
    return [json.loads(line)[field] for line in Path(paths[0]).read_text().splitlines()]


def test_documents_come_in_their_order(corpus: Path):
    assert fetched("hf:corpus") == fetched(f"hf:{corpus}") == TEXTS
    assert fetched("hf:corpus@test") == TEXTS[:3]
    assert fetched("hf:corpus:default@train", field="upper") == [text.upper() for text in TEXTS]


def test_a_null_is_no_document(tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    pytest.importorskip("datasets", reason="the library datasets is not installed")
    import pyarrow

    (tmp_path / "nulls").mkdir()
    parquet.write_table(pyarrow.table({"text": ["a", None, "", "b"]}), tmp_path / "nulls" / "train.parquet")
    assert fetched("hf:nulls") == ["a", "b"]


def test_only_so_much_is_taken(corpus: Path):
    texts = fetched("hf:corpus", n_bytes=1000)
    assert texts == TEXTS[: len(texts)]
    n_bytes = sum(len(text.encode()) for text in texts)
    assert n_bytes <= 1000 < n_bytes + len(TEXTS[len(texts)].encode())
    with pytest.raises(DataError) as raised:
        fetched("hf:corpus", n_bytes=3)
    assert raised.value.code == "data.no_hub_text"


def test_what_the_library_saved_itself_is_read(corpus: Path):
    import datasets

    table = datasets.Dataset.from_dict({"text": TEXTS})
    table.save_to_disk("saved")
    datasets.DatasetDict({"train": table, "test": table.select(range(2))}).save_to_disk("both")
    assert fetched("hf:saved") == TEXTS
    assert fetched("hf:both@test") == TEXTS[:2]


def test_what_is_here_is_not_fetched_again(corpus: Path, monkeypatch: pytest.MonkeyPatch):
    fetched("hf:corpus")
    with monkeypatch.context() as patch:
        patch.setattr(hub, "_load", None)
        assert fetched("hf:corpus") == TEXTS
    (corpus / "data" / "train-00000-of-00001.parquet").write_bytes(
        (corpus / "data" / "test-00000-of-00001.parquet").read_bytes()
    )
    assert fetched("hf:corpus") == TEXTS[:3]


def test_it_is_prepared_like_any_text(corpus: Path):
    config = DataConfig(paths=("hf:corpus",), tokenizer="bytes", hub_bytes=2000)
    events, dataset = finish(prepare(config))
    assert list(dict.fromkeys(event.what for event in events)) == ["downloading", "reading", "tokens"]
    assert dataset.manifest.source.paths == ("hf:corpus",)
    assert "hf:corpus at revision " in (dataset.manifest.source.note or "")
    assert 1900 < dataset.manifest.train.text_bytes + dataset.manifest.val.text_bytes <= 2000
    assert finish(prepare(config))[1].fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ("spec", "field", "code", "words"),
    [
        ("hf:corpus", "txt", "data.no_field", ["hf:corpus", "'txt'", "text, upper, n"]),
        ("hf:corpus", "n", "data.not_text", ["hf:corpus, row 1", "'n'", "int"]),
        ("hf:corpus:other", "text", "data.unreadable_dataset", ["hf:corpus:other", "'other' not found"]),
        ("hf:corpus@dev", "text", "data.unreadable_dataset", ["hf:corpus@dev", "split"]),
        ("hf:", "text", "data.bad_hub_path", ["hf: "]),
        ("hf:~nosuchperson/set", "text", "data.no_home", ["~nosuchperson"]),
        ("hf:a:b:c", "text", "data.bad_hub_path", ["hf:a:b:c"]),
    ],
)
def test_what_cannot_be_read_is_one_line(corpus: Path, cache: Path, spec: str, field: str, code: str, words: list[str]):
    with pytest.raises(DataError) as raised:
        fetched(spec, field=field)
    assert raised.value.code == code
    assert all(word in raised.value.message for word in words)
    assert "\n" not in raised.value.message
    assert raised.value.hint
    assert not list(cache.rglob("*.jsonl"))


def test_without_a_network_it_says_what_to_type_instead(cache: Path):
    pytest.importorskip("datasets", reason="the library datasets is not installed")
    with pytest.raises(MachineError) as raised:
        fetched("hf:HuggingFaceFW/fineweb-edu:sample-10BT")
    assert raised.value.code == "machine.hub_failed"
    assert raised.value.values["path"] == "hf:HuggingFaceFW/fineweb-edu:sample-10BT"
    assert "--data FILE.parquet" in raised.value.hint


def test_what_was_fetched_needs_no_network(corpus: Path, cache: Path):
    with pytest.raises(MachineError):
        fetched("hf:owner/name")
    stem = hub._stem("owner/name", None, "train", "text", 10**6)
    (cache / "hub" / f"{stem}-0123abcd.jsonl").write_text('{"text": "kept"}\n')
    assert fetched("hf:owner/name") == ["kept"]


def test_without_the_library_it_says_what_to_install(corpus: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MachineError) as raised:
        fetched("hf:corpus")
    assert raised.value.code == "machine.no_library"
    assert raised.value.values["library"] == "datasets"
    assert raised.value.hint.endswith('pip install -e ".[hub]"')
