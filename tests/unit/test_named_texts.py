"""Texts with a name: from a server of this machine in place of the real addresses, which tests do not reach."""

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.preparing import finish
from tests.processes import FORKS, typed
from tests.refusals import refused
from tests.waiting import LONG_S, wait_until
from tests.web import Answer, Site, closed_port, ranged, serving, slowly, whole

from nudge.cli import main
from nudge.config import DataConfig
from nudge.data import named_texts
from nudge.data.corpus import documents
from nudge.data.foreign import named
from nudge.data.prepare import find_text, prepare
from nudge.data.shards import Dataset
from nudge.util import locks

PLAYS = "".join(f"SPEAKER {number}:\nTo be or not to be, {number}.\n\n" for number in range(3000)).encode()
REVIEWS = [f'{number}번째 영화, "정말" 재미있어요 \\n' for number in range(200)] + [""]
TABLE = "id\tdocument\tlabel\n" + "".join(f"{at}\t{review}\t{at % 2}\n" for at, review in enumerate(REVIEWS))


def entry(name: str, *, language: str, **source: object) -> str:
    fields = "".join(f"{field} = {json.dumps(value)}\n" for field, value in source.items())
    title = f'{{ en = "Some {name}", ko = "{name}" }}'
    return f'[{name}]\ntitle = {title}\nlanguage = "{language}"\nlicense = "CC0-1.0"\n{fields}'


def write_table(path: Path, plays: str, reviews: str) -> Path:
    """Write a table of a plain text, a table whose digest is git's, and a data set in a local folder."""
    blob = hashlib.sha1(b"blob %d\0" % len(TABLE.encode()) + TABLE.encode()).hexdigest()
    of_reviews = {"n_bytes": len(TABLE.encode()), "digest": f"git:{blob}", "column": "document"}
    of_plays = {"n_bytes": len(PLAYS), "digest": f"sha256:{hashlib.sha256(PLAYS).hexdigest()}"}
    entries = [
        entry("plays", language="en", url=plays, **of_plays),
        entry("stories", language="en", hub="hf:corpus"),
        entry("reviews", language="ko", url=reviews, **of_reviews),
    ]
    path.write_text("\n".join(entries), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("NUDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(named_texts, "TABLE", write_table(tmp_path / "none.toml", *2 * [nowhere()]))
    return tmp_path


def nowhere() -> str:
    return f"http://127.0.0.1:{closed_port()}/text.txt"


@pytest.fixture
def site(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Both files at one address: give it `answers`."""
    with serving(whole(PLAYS)) as site:
        monkeypatch.setattr(named_texts, "TABLE", write_table(here / "table.toml", site.url, site.url))
        yield site


def prepared(*paths: str, **settings: object) -> Dataset:
    return finish(prepare(DataConfig(paths=paths, tokenizer="bytes", **settings)))[1]  # type: ignore[arg-type]


def text_bytes(dataset: Dataset) -> int:
    return dataset.manifest.train.text_bytes + dataset.manifest.val.text_bytes


def cached(here: Path) -> list[str]:
    return sorted(re.sub("-[0-9a-f]{12}", "", path.name) for path in (here / "cache" / "texts").glob("[!.]*"))


REAL = named_texts.table()


def test_each_text_can_be_found_and_checked():
    assert {"shakespeare", "nsmc", "tinystories", "fineweb-edu", "fineweb2-ko"} <= REAL.keys()
    for name, text in REAL.items():
        assert text.title.keys() == {"en", "ko"}, name
        assert text.language in ("en", "ko")
        assert text.license
        if text.hub:
            assert re.fullmatch(r"hf:[\w-]+/[\w-]+(:[\w-]+)?", text.hub)
            assert (text.url, text.n_bytes, text.digest, text.column) == ("", 0, "", "")
        else:
            assert text.url.startswith("https://")
            assert text.n_bytes > 0
            assert re.fullmatch("sha256:[0-9a-f]{64}|git:[0-9a-f]{40}", text.digest)


def test_shakespeare_is_the_text_that_is_known(shared_data: Path):
    copy = (shared_data / "tinyshakespeare.txt").read_bytes()
    assert REAL["shakespeare"].n_bytes == len(copy)
    assert REAL["shakespeare"].digest == f"sha256:{hashlib.sha256(copy).hexdigest()}"


def test_the_page_of_the_docs_has_each_text_and_its_license():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    section = page.partition("## Texts to start from")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \| (.*) \| (.*) \|$", section, re.M)
    assert {name: license for name, _, _, license in rows} == {name: text.license for name, text in REAL.items()}
    assert all(text.hub in source for (_, source, *_), text in zip(rows, REAL.values(), strict=True))


def test_a_text_is_downloaded_once(here: Path, site: Site):
    events, dataset = finish(prepare(DataConfig(paths=("plays",), tokenizer="bytes")))
    assert list(dict.fromkeys(event.what for event in events)) == ["downloading", "reading", "tokens"]
    downloading = [event for event in events if event.what == "downloading"]
    assert (downloading[-1].done, downloading[-1].total) == 2 * (len(PLAYS),)
    assert text_bytes(dataset) == len(PLAYS)
    assert dataset.manifest.source.paths == ("plays",)
    assert dataset.manifest.source.sha256 == hashlib.sha256(hashlib.sha256(PLAYS).digest()).hexdigest()
    assert dataset.manifest.notes == ("plays: Some plays, CC0-1.0",)
    assert prepared("plays").fingerprint == dataset.fingerprint
    assert len(site.requests) == 1
    assert cached(here) == ["plays.txt"]


def test_a_name_is_the_same_text_as_its_file(here: Path, site: Site):
    Path("mine.txt").write_bytes(PLAYS)
    assert prepared("mine.txt").fingerprint == prepared("plays").fingerprint


def test_a_copy_that_was_damaged_is_downloaded_again(here: Path, site: Site):
    site.answers = [whole(PLAYS, sent=65536, ETag='"a"'), ranged(PLAYS, '"a"')]
    first = prepared("plays").fingerprint
    (copy,) = (here / "cache" / "texts").glob("plays-*.txt")
    copy.write_bytes(PLAYS[:-1] + b"?")
    assert prepared("plays").fingerprint == first
    assert len(site.requests) == 3
    assert copy.read_bytes() == PLAYS


def test_of_a_table_only_its_column_is_text(here: Path, site: Site):
    site.answers = [whole(TABLE.encode())]
    dataset = prepared("reviews")
    documents = dataset.manifest.train.n_documents + dataset.manifest.val.n_documents
    assert documents == len(REVIEWS) - 1  # the empty one is none
    assert text_bytes(dataset) == sum(len(review.encode()) for review in REVIEWS)
    (lines,) = (here / "cache" / "texts").glob("*.jsonl")
    assert [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()] == [
        {"text": review} for review in REVIEWS
    ]
    assert prepared("reviews", field="review").fingerprint == dataset.fingerprint
    assert len(site.requests) == 1


def test_names_and_files_together(here: Path, site: Site):
    Path("own.jsonl").write_text('{"review": "mine"}\n', encoding="utf-8")
    site.answers = [whole(TABLE.encode()), whole(PLAYS)]
    dataset = prepared("reviews", "own.jsonl", "plays", field="review")
    assert text_bytes(dataset) == sum(len(review.encode()) for review in [*REVIEWS, "mine"]) + len(PLAYS)
    assert dataset.manifest.source.paths == ("reviews", "own.jsonl", "plays")


def test_a_data_set_of_the_hub_is_read_as_far_as_asked(here: Path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    pytest.importorskip("datasets", reason="the library datasets is not installed")
    import pyarrow

    Path("corpus").mkdir()
    table = pyarrow.table({"text": [f"story {number}" for number in range(100)]})
    parquet.write_table(table, "corpus/train.parquet")
    dataset = prepared("stories", hub_bytes=500)
    assert 490 < text_bytes(dataset) <= 500
    (note,) = dataset.manifest.notes
    assert note.startswith("stories: Some stories, CC0-1.0; hf:corpus at revision ")


def test_a_file_of_that_name_wins(here: Path, capsys: pytest.CaptureFixture[str]):
    Path("plays").write_text("my own play\n" * 500, encoding="utf-8")
    assert text_bytes(prepared("plays")) == 12 * 500
    run("data", "prepare", "plays", "--tokenizer", "bytes")
    printed = capsys.readouterr()
    assert "plays is read from here; the text of that name" in printed.err
    assert "6,000" not in printed.err
    Path("plays").rename("play")
    Path("plays").mkdir()
    Path("play").rename("plays/play.txt")
    assert text_bytes(prepared("plays")) == 12 * 500
    Path("shakespeare").mkdir()
    trained = typed(Path.cwd(), "train", "--data", "shakespeare")
    said = trained.stderr.decode().splitlines()
    assert said[0].startswith("shakespeare is read from here")
    assert said[1] == "error: shakespeare holds no text"


def test_without_a_network_it_is_one_line(here: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["data", "prepare", "plays"])
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert [line[:7] for line in said] == ["error: ", " hint: "]
    assert "no connection" in said[0]
    assert "--data FILE" in said[1]
    assert cached(here) == []


def test_a_folder_that_cannot_be_written_is_one_line(here: Path, monkeypatch: pytest.MonkeyPatch):
    (here / "file").write_text("")
    monkeypatch.setenv("NUDGE_CACHE", str(here / "file"))
    with refused("machine.unwritable", folder=here / "file" / "texts"):
        prepared("plays")


@pytest.mark.parametrize("answer", [whole(PLAYS[::-1]), whole(PLAYS + b"a")])
def test_another_text_is_not_kept(here: Path, site: Site, answer: Answer):
    site.answers = [answer]
    with refused("data.wrong_download", url=site.url):
        prepared("plays")
    assert cached(here) == []


def test_a_name_that_is_nearly_right(here: Path):
    Path("notes.md").touch()
    with refused("data.missing", path="play", closest="did you mean 'plays'?"):
        prepared("play")
    with refused("data.missing", closest="one of: notes.md, plays, reviews, stories"):
        prepared("quite other")
    with refused("data.missing", closest="check the path"):
        prepared("nowhere/play")


def test_only_a_preparation_fetches_it(here: Path):
    assert find_text(["plays"]) == []
    Path("own.txt").write_text("mine", encoding="utf-8")
    assert [file.path.name for file in find_text(["plays", "own.txt"])] == ["own.txt"]
    with refused("data.hub_path", path="plays"):
        list(documents(["plays"]))


def run(*args: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(args)
    assert not ended.value.code


def test_the_list(here: Path, site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    run("data", "list")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["name", "lang", "size", "license", "here", "text"]
    assert rows[1] == ["plays", "en", *f"{len(PLAYS) / 1e3:.0f} kB CC0-1.0 no Some plays".split()]
    assert rows[2][:5] == ["stories", "en", "up", "to", "1.00"]
    assert [row[0] for row in rows[1:]] == ["plays", "stories", "reviews"]

    prepared("plays")
    monkeypatch.setenv("LC_ALL", "ko_KR.UTF-8")
    run("data", "list", "--json")
    listed = json.loads(capsys.readouterr().out)
    assert [(text["name"], text["here"]) for text in listed] == [
        ("reviews", False),
        ("plays", True),
        ("stories", False),
    ]
    assert listed[1]["source"] == site.url


def test_a_data_set_of_the_hub_in_the_cache_is_listed(here: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    pytest.importorskip("datasets", reason="the library datasets is not installed")
    Path("corpus").mkdir()
    Path("corpus/train.jsonl").write_text('{"text": "a story"}\n' * 50, encoding="utf-8")
    prepared("stories")
    run("data", "list", "--json")
    here_by_name = {text["name"]: text["here"] for text in json.loads(capsys.readouterr().out)}
    assert here_by_name == {"plays": False, "stories": True, "reviews": False}


@pytest.mark.parametrize(("language", "first"), [("ko_KR.UTF-8", "nsmc"), ("en_US.UTF-8", "shakespeare")])
def test_without_data_a_text_is_proposed(here: Path, language: str, first: str):
    environment = {"LC_ALL": language, "OMP_NUM_THREADS": "1", "NUDGE_CACHE": "/dev/null/no"}  # so that it ends at once
    trained = typed(Path.cwd(), "train", **environment)
    assert f"--data {first} ('nudge data list')" in trained.stderr.decode().splitlines()[0]
    assert b"nudge data list" not in typed(Path.cwd(), "train", "--json", **environment).stderr


def _prepare_in_process(cache: Path, table: Path, result: Path) -> None:
    def make_lock(path: Path) -> object:
        result.with_suffix(".at-the-lock").touch()
        return locks.make_lock(path)

    os.environ["NUDGE_CACHE"] = str(cache)
    named_texts.TABLE, named.make_lock = table, make_lock  # type: ignore[assignment]
    dataset = prepared("plays")
    result.write_text(f"{dataset.fingerprint} {text_bytes(dataset)}")


def test_two_processes_download_it_once(here: Path, site: Site):
    ready = threading.Event()
    site.answers = [slowly(PLAYS, ready)]
    results = [here / "first.txt", here / "second.txt"]
    given = (here / "cache", named_texts.TABLE)
    both = [FORKS.Process(target=_prepare_in_process, args=(*given, result)) for result in results]
    for process in both:
        process.start()
    try:
        wait_until(lambda: site.requests, "the first request")
        wait_until(lambda: all(one.with_suffix(".at-the-lock").exists() for one in results), "both are at the lock")
        ready.set()
        for process in both:
            process.join(LONG_S)
            assert process.exitcode == 0
    finally:
        ready.set()
        for process in both:
            process.kill()
            process.join()
    first, second = (result.read_text() for result in results)
    assert first == second
    assert first.endswith(f" {len(PLAYS)}")
    assert len(site.requests) == 1
    assert cached(here) == ["plays.txt"]
