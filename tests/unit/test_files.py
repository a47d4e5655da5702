import hashlib
import json
import os
import sys
from pathlib import Path

import pytest

from nudge.errors import ConfigError, MachineError, RunError
from nudge.util import files, json_reader


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def test_atomic_writer_hashes_what_it_writes(tmp_path: Path):
    path = tmp_path / "new" / "file.bin"
    with files.atomic_writer(path) as file:
        file.write(b"one")
        file.write(memoryview(b"two"))
        assert not path.exists()
    assert path.read_bytes() == b"onetwo"
    assert (file.n_bytes, file.sha256.hexdigest()) == (6, hashlib.sha256(b"onetwo").hexdigest())
    assert files.sha256(path) == file.sha256.hexdigest()


def test_only_a_file_is_replaced(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")  # stands for /dev/null, which root could replace
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "pipe", tmp_path / "empty"):
        with pytest.raises(MachineError, match="is not a file"):
            files.write_text(path, "text")
        assert not path.is_file()
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_content(tmp_path: Path, interruption: type[BaseException]):
    path = tmp_path / "file"
    files.write_text(path, "old")

    def write_half() -> None:
        with files.atomic_writer(path) as file:
            file.write(b"half of the n")
            raise interruption

    with pytest.raises(interruption):
        write_half()
    assert path.read_text() == "old"
    assert not leftovers(tmp_path)


def test_json_has_no_nan(tmp_path: Path):
    files.write_json(tmp_path / "x.json", {"text": "한글", "n": 1})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"text": "한글", "n": 1}
    assert json_reader.read(tmp_path / "x.json", dict)["n"] == 1
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "x.json", float("nan"))
    assert json_reader.read(tmp_path / "x.json", dict)["n"] == 1


def test_an_unreadable_json_file_is_named(tmp_path: Path):
    (tmp_path / "x.json").write_text("{")
    for name in ("x.json", "none.json"):
        with pytest.raises(RunError) as error:
            json_reader.read(tmp_path / name, dict)
        assert error.value.code == "run.unreadable_json"
        assert error.value.values["path"] == tmp_path / name


def test_point_to_moves_on(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / name).write_text(name)
        files.point_to(tmp_path / "newest", tmp_path / "folder" / name)
        assert (tmp_path / "newest").read_text() == name
    assert not leftovers(tmp_path)
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert (moved / "newest").read_text() == "two"  # the link is relative


def test_json_lines_survive_a_torn_end(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    with files.open_json_lines(path) as log:
        files.append_json(log, {"n": 1})
        files.append_json(log, {"n": 2}, sync=True)
    with path.open("ab") as raw:
        raw.write(b'{"n": 3, "te\xff')  # a power cut here
    with files.open_json_lines(path) as log:
        files.append_json(log, {"n": 4})
    assert [line["n"] for line in json_reader.read_lines(path, dict)] == [1, 2, 4]
    assert list(json_reader.read_lines(tmp_path / "none.jsonl", dict)) == []


def test_new_folder_appears_whole_or_not_at_all(tmp_path: Path):
    target = tmp_path / "deep" / "target"
    with files.new_folder(target) as folder:
        (folder / "a").write_text("a")
        assert not target.exists()
    assert (target / "a").read_text() == "a"
    with pytest.raises(ConfigError) as error, files.new_folder(target):
        pass
    assert error.value.code == "config.folder_not_empty"


def test_new_folder_that_fails_is_not_there(tmp_path: Path):
    def fill_half() -> None:
        with files.new_folder(tmp_path / "target") as folder:
            (folder / "a").write_text("a")
            raise ValueError

    with pytest.raises(ValueError):
        fill_half()
    assert not list(tmp_path.iterdir())


def test_new_folder_fills_an_empty_one(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with files.new_folder(tmp_path / "empty") as folder:
        (folder / "a").write_text("a")
    assert (tmp_path / "empty" / "a").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_place_that_cannot_be_written_is_named():
    with pytest.raises(MachineError) as error, files.new_folder(Path("/proc/nudge/x")):
        pass
    assert error.value.code == "machine.not_written"
    assert error.value.values["path"] == Path("/proc/nudge/x")


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"NUDGE_CACHE": "/x/cache"}, "/x/cache"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/nudge"),
        ("linux", {"HOME": "/home/a"}, "/home/a/.cache/nudge"),
        ("darwin", {"HOME": "/Users/a"}, "/Users/a/Library/Caches/nudge"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/nudge"),
    ],
)
def test_the_cache_is_where_the_system_has_its_caches(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
):
    for name in ("NUDGE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert files.cache_folder() == Path(expected)
