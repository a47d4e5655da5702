"""Every JSON file that nudge reads, damaged in every way: one line and exit code 2, or marked as damaged; no traceback.

The files are made by the commands that make them for a person. Each kind of damage goes through each command that reads
the file; each field with a value of another type goes through the function that those commands read it with.
"""

import contextlib
import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nudge import cli, events
from nudge import config as configs
from nudge.convert.formats import huggingface
from nudge.data import tokenizer as tokenizers
from nudge.data.manifest import read_manifest
from nudge.data.resume_log import ResumeLog
from nudge.errors import NudgeError
from nudge.eval import tasks
from nudge.plan import this_machine
from nudge.runs import checkpoint
from nudge.runs.folder import RunFolder
from nudge.runs.listing import describe
from nudge.sheet.measured import SheetRunJson
from nudge.sheet.run_sheet import run_sheet_text
from nudge.train.resolve import ResumableRun
from nudge.util import json_reader

SHARDED = Path(__file__).parents[1] / "fixtures" / "version_0_1" / "sharded"
TASKS = {
    "hellaswag": {"activity_label": "Baking", "ctx": "She", "endings": ["sits.", "runs."], "label": 1},
    "lambada": {"text": "The little dog ran"},
    "winogrande": {"sentence": "The _ fell.", "option1": "cup", "option2": "dog", "answer": "1"},
    "arc_easy": {"question": "Why?", "choices": {"text": ["dog", "cat"], "label": ["A", "B"]}, "answerKey": "A"},
    "piqa": {"goal": "Run.", "sol1": "Walk.", "sol2": "Sit.", "label": 0},
}


@dataclass(frozen=True)
class Kind:
    """A file: where it is, the commands that read it, and the function that they read it with.

    `lenient`: a damaged line, or an old measurement, is passed over, and the command works without it.
    """

    file: str
    commands: tuple[str, ...]
    read: Callable[[Path], object]
    lenient: bool = False


def read_run_json(path: Path) -> None:
    RunFolder(path.parent).read_json(ResumableRun)
    RunFolder(path.parent).read_json(SheetRunJson)


def read_events(path: Path) -> None:
    describe(RunFolder(path.parent))


KINDS = {
    "run": Kind(
        "runs/small/run.json",
        ("eval runs/small", "resume runs/small", "sheet run runs/small --format md"),
        read_run_json,
    ),
    "events": Kind("runs/small/events.jsonl", ("runs", "sheet run runs/small --format md"), read_events, lenient=True),
    "index": Kind(
        "runs/small/checkpoints/index.jsonl",
        ("sample runs/small --max-tokens 2", "inspect runs/small"),
        lambda path: checkpoint.read_newest(RunFolder(path.parent.parent)),
        lenient=True,
    ),
    "tokenizer": Kind(
        "runs/small/tokenizer.json",
        ("sample runs/small --max-tokens 2", "tokenizer encode runs/small/tokenizer.json abc"),
        tokenizers.load,
    ),
    "characters": Kind("chars/tokenizer.json", ("data info chars",), tokenizers.load),
    "manifest": Kind("chars/manifest.json", ("data info chars",), lambda path: read_manifest(path.parent)),
    "log": Kind(
        "half/.progress.jsonl",
        ("data prepare text.txt --tokenizer bytes --out half",),
        lambda path: ResumeLog(path.parent, "key"),
        lenient=True,
    ),
    "hf_config": Kind("hf/config.json", ("import hf --out new",), lambda path: huggingface.read(path.parent)),
    "hf_index": Kind(
        "hf/model.safetensors.index.json",
        ("import hf --out new", "inspect hf"),
        lambda path: huggingface.read(path.parent),
    ),
    "hf_tokenizer": Kind(
        "hf/tokenizer.json",
        ("import hf --out new",),
        lambda path: huggingface.read_tokenizer(path.parent, configs.ModelConfig()),
    ),
    "hf_vocab": Kind(
        "merges/vocab.json",
        ("import merges --out new",),
        lambda path: huggingface.read_tokenizer(path.parent, configs.ModelConfig()),
    ),
    "parts": Kind(
        "sharded/checkpoints/step_00000004.parts/checkpoint.json",
        ("inspect sharded/checkpoints/step_00000004.parts",),
        lambda path: checkpoint.read(path.parent),
    ),
    "speed": Kind(
        "cache/local-speed.json", ("plan tiny --gpu cpu",), lambda _: this_machine.nearest_measurement(), lenient=True
    ),
    **{
        name: Kind(
            f"{name}.jsonl",
            (f"eval runs/small --task {name} --file {name}.jsonl",),
            lambda path: tasks.read(tasks.TASKS[path.stem], path),
        )
        for name in TASKS
    },
}


def run_command(line: str) -> int:
    """Run a command in this process and return its exit code. Anything but a NudgeError comes out as a traceback."""
    with pytest.raises(SystemExit) as ended:
        cli.main(line.split())
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def made(common: Path, trained: Path) -> Path:
    """A folder with each kind of file, which tests copy."""
    folder = common / "json"
    with FileLock(common / "json.lock"), pytest.MonkeyPatch.context() as patch:
        if not folder.exists():
            folder.mkdir()
            patch.chdir(folder)
            patch.setenv("NUDGE_CACHE", str(folder / "cache"))
            _make(folder, trained)
    return folder


def _make(folder: Path, trained: Path) -> None:
    shutil.copytree(trained, folder / "runs", symlinks=True)
    shutil.copytree(SHARDED, folder / "sharded", symlinks=True)
    (folder / "text.txt").write_bytes("The little dog ran. 강아지\n".encode() * 200 + b"\xff\n")
    assert run_command("data prepare text.txt --tokenizer chars --out chars") == 0
    assert run_command("data prepare text.txt --tokenizer bytes --out half") == 0
    manifest = read_manifest(folder / "half")
    (folder / "half" / "manifest.json").unlink()
    log = ResumeLog(folder / "half", manifest.key)
    log.add("train", manifest.train.shards[0], n_groups=1)
    assert run_command("export runs/small --to hf --out hf") == 0
    (folder / "hf" / "nudge_tokenizer.json").unlink()
    (folder / "hf" / "model.safetensors").rename(folder / "hf" / "model-1.safetensors")
    index = {"metadata": {}, "weight_map": {"transformer.wte.weight": "model-1.safetensors"}}
    (folder / "hf" / "model.safetensors.index.json").write_text(json.dumps(index))
    shutil.copytree(folder / "hf", folder / "merges")
    written = json.loads((folder / "hf" / "tokenizer.json").read_text())["model"]
    (folder / "merges" / "tokenizer.json").unlink()
    (folder / "merges" / "vocab.json").write_text(json.dumps(written["vocab"]))
    pairs = (merge if isinstance(merge, str) else " ".join(merge) for merge in written["merges"])
    (folder / "merges" / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]))
    model = configs.ModelConfig(n_layer=2, n_head=2, n_embd=32)
    this_machine.remember(
        this_machine.LocalSpeed(
            date="2026-01-01",
            machine="a CPU",
            device="cpu",
            dtype="float32",
            recipe="tiny",
            model=model,
            batch_tokens=64,
            tokens_per_s=1000.0,
            spread=0.2,
        )
    )
    for name, line in TASKS.items():
        (folder / f"{name}.jsonl").write_text(json.dumps(line) + "\n")


@pytest.fixture(scope="module")
def place(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy to damage: each test puts back the file that it damaged."""
    folder = Path(shutil.copytree(made, tmp_path_factory.mktemp("json") / "here", symlinks=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("NUDGE_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture
def damaged(place: Path) -> Iterator[Callable[[str, bytes], Path]]:
    """Return a function that replaces a file, which is as before when the test ends."""
    before: dict[Path, bytes] = {}

    def replace(file: str, data: bytes) -> Path:
        path = place / file
        if path not in before:
            before[path] = path.read_bytes()
        path.write_bytes(data)
        return path

    yield replace
    for path, data in before.items():
        path.write_bytes(data)


def first_key(value: Any) -> str:
    return json.dumps(next(iter(value)))


def whole_damages(data: bytes) -> dict[str, bytes]:
    """Return the content of a file, damaged in the ways that make it no JSON, or another value."""
    start = data.index(b"{") + 1
    return {
        "empty": b"",
        "cut in the middle": data[: len(data) // 2],
        "cut at the end": data.rstrip()[:-1],
        "a list": b"[]",
        "a number": b"5",
        "null": b"null",
        "nested": b"[" * 100_000,
        "nested and closed": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "nested inside": data[:start] + b'"x": ' + b"[" * 100_000 + b"]" * 100_000 + b", " + data[start:],
        "5,000 digits": data[:start] + b'"x": ' + b"1" * 5000 + b", " + data[start:],
        "1e400": data[:start] + b'"x": 1e400, ' + data[start:],
        "NaN": data[:start] + b'"x": NaN, ' + data[start:],
        "Infinity": data[:start] + b'"x": -Infinity, ' + data[start:],
        "a key twice": data[:start] + b'"x": 1, "x": 2, ' + data[start:],
        "a zero byte": data[:start] + b'"x\0": 1, ' + data[start:],
        "no UTF-8": data[:start] + b'"x\xff": 1, ' + data[start:],
        "half a surrogate pair": data[:start] + b'"x": "\\ud83d", ' + data[start:],
        "UTF-16": data.decode().encode("utf-16"),
    }


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_no_json(name: str, place: Path, damaged: Any, capsys: pytest.CaptureFixture[str]) -> None:
    kind = KINDS[name]
    for what, data in whole_damages((place / kind.file).read_bytes()).items():
        for command in kind.commands:
            damaged(kind.file, data)
            code = run_command(command)
            printed = capsys.readouterr()
            assert "Traceback" not in printed.err, (what, command)
            if not kind.lenient:
                assert code == 2, (what, command, printed.out)
            assert code in (0, 2), (what, command)
            if code:
                assert printed.err.count("error: ") == 1, (what, printed.err)
                assert len(printed.err.splitlines()) == 2, (what, printed.err)
            shutil.rmtree(place / "new", ignore_errors=True)
            (place / "half" / "manifest.json").unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["run", "events"])
def test_the_list_of_runs_goes_on(name: str, place: Path, damaged: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for what, data in whole_damages((place / KINDS[name].file).read_bytes()).items():
        damaged(KINDS[name].file, data)
        assert run_command("runs --json") == 0
        (line,) = json.loads(capsys.readouterr().out)
        assert (line["state"] == "unreadable") == (name == "run"), what


def places_in(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value inside a JSON value; of a long list or object only the first and the last."""
    entries = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, inner in entries if len(entries) < 30 else (entries[0], entries[-1]):
        yield (*here, key)
        yield from places_in(inner, (*here, key))


GONE = object()
VALUES: tuple[Any, ...] = (
    *(GONE, None, True, 0, -1, 1.5, 10**17, 2**63 - 1, 1e300, "257", "", "x\0y", "..", "가" * 300),
    *([], {}, ["a", 1], {"a": 1}, [[]], [None]),
)


def changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """Return a copy of a JSON value with another value at a place, or without it."""
    value = copy.deepcopy(value)
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    if new is GONE:
        del inner[place[-1]]
    else:
        inner[place[-1]] = new
    return value


def digest(value: dict[str, Any]) -> str:
    """Return the SHA-256 that a tokenizer.json of this content names."""
    content = {key: value[key] for key in value if key not in ("format", "name", "sha256")}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def documents(path: Path) -> list[Any]:
    """Return the value of a file, or those of its lines."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return [json.loads(path.read_text())]


def write(values: list[Any]) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


@pytest.mark.parametrize("name", KINDS)
def test_each_field_with_a_value_of_another_type(name: str, place: Path, damaged: Any) -> None:
    kind = KINDS[name]
    by_fields = {str(sorted(value)): value for value in documents(place / kind.file)}  # one line of each kind
    values = list(by_fields.values())
    for number, value in enumerate(values):
        for where in places_in(value):
            for new in VALUES:
                wrong = changed(value, where, new)
                if kind.read is tokenizers.load and where != ("sha256",):
                    wrong["sha256"] = digest(wrong)  # as one who means harm would
                path = damaged(kind.file, write([*values[:number], wrong, *values[number + 1 :]]))
                with contextlib.suppress(NudgeError):
                    kind.read(path)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_change_through_a_command(name: str, place: Path, damaged: Any, data: st.DataObject) -> None:
    kind = KINDS[name]
    path = place / kind.file
    original = path.read_bytes()
    values = documents(path)
    number = data.draw(st.integers(0, len(values) - 1))
    if data.draw(st.booleans()):
        where = data.draw(st.sampled_from(list(places_in(values[number]))))
        values[number] = changed(values[number], where, data.draw(ANY))
        content = write(values)
    else:
        start, length = data.draw(st.integers(0, len(original))), data.draw(st.integers(0, 50))
        content = original[:start] + data.draw(st.binary(max_size=20)) + original[start + length :]
    try:
        path.write_bytes(content)
        assert run_command(data.draw(st.sampled_from(kind.commands))) in (0, 2)
    finally:
        path.write_bytes(original)
        shutil.rmtree(place / "new", ignore_errors=True)
        (place / "half" / "manifest.json").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("runs/small/run.json", ("config", "model", "vocab_size"), "'config.model.vocab_size' is text"),
        ("runs/small/run.json", ("data", "dir"), "'data.dir' is a whole number, expected text"),
    ],
)
def test_the_error_names_the_file_and_the_field(
    file: str, change: tuple[str, ...], message: str, place: Path, damaged: Any
) -> None:
    value = json.loads((place / file).read_text())
    damaged(file, write([changed(value, change, "257" if change[-1] == "vocab_size" else 5)]))
    with pytest.raises(NudgeError) as caught:
        RunFolder((place / file).parent).read_json(ResumableRun)
    assert caught.value.code == "run.unreadable_json"
    assert caught.value.values["path"] == place / file
    assert message in caught.value.values["error"]


def test_a_sheet_of_numbers_that_no_run_has(place: Path, damaged: Any) -> None:
    values = documents(place / "runs/small/events.jsonl")
    damaged("runs/small/events.jsonl", write([values[0] | {"n_params": 0}, *values[1:]]))
    with pytest.raises(NudgeError):
        run_sheet_text(place / "runs/small", "en")
    damaged("runs/small/run.json", write([documents(place / "runs/small/run.json")[0] | {"created": 1e300}]))
    with pytest.raises(NudgeError):
        run_sheet_text(place / "runs/small", "en")


def test_a_newer_version_may_write_more(place: Path, damaged: Any) -> None:
    value = json.loads((place / "runs/small/run.json").read_text())
    value |= {"mood": "good", "config": value["config"] | {"mood": {"x": 1}}}
    path = damaged("runs/small/run.json", write([value]))
    assert RunFolder(path.parent).read_json(ResumableRun).config.recipe == "tiny"


def test_a_file_that_is_too_long(place: Path, damaged: Any) -> None:
    path = damaged("runs/small/run.json", b" " * json_reader.LARGEST + (place / "runs/small/run.json").read_bytes())
    with pytest.raises(NudgeError) as caught:
        RunFolder(path.parent).read_json(ResumableRun)
    assert "bytes" in caught.value.values["error"]


def test_a_line_that_is_too_long_is_passed_over(place: Path, damaged: Any) -> None:
    before = (place / "runs/small/events.jsonl").read_bytes()
    n_before = len(events.read(place / "runs/small/events.jsonl"))
    path = damaged("runs/small/events.jsonl", b"x" * (2 * json_reader.LARGEST + 5) + b"\n" + before)
    assert len(events.read(path)) == n_before


SETTINGS = (
    *("train.steps=1e400", "train.steps=" + "9" * 5000, "train.steps=1e19", "seed=1e30", "train.lr=" + "9" * 5000),
    *("train.lr=1e400", "train.grad_clip=inf", "model.n_layer=1e300", "train=1", "train.lr.x=1"),
)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_is_too_large(setting: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(f"train --data text.txt --tokenizer bytes --run never --set {setting}") == 2
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert max(map(len, printed.splitlines())) < 300
    assert not (place / "never").exists()


def test_a_setting_inside_a_setting(place: Path) -> None:
    assert run_command("train --data text.txt --run never --set train=1 --set train.lr=2") == 2


@pytest.mark.parametrize(
    "toml",
    [
        "seed = " + "9" * 5000,
        "seed = " + "9" * 30,
        "train.lr = inf",
        "train.steps = nan",
        "train.steps = 1e400",
        "model = 5",
        "model = []",
        "recipe = 2026-01-01",
        "recipe = ['a']",
        "data.paths = 5",
        "data.paths = [1]",
        "data.paths = {a = 1}",
        "train.optimizer = ['adamw']",
        "train.lr = {x = 1}",
        "x = " + "[" * 100_000,
        "x = " + "[" * 900 + "]" * 900,
        "sample.prompt = '\0'",
        'sample.prompt = "\\ud800"',
        "seed = 1\nseed = 2",
    ],
)
def test_a_config_file(toml: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "config.toml").write_text(toml)
    assert run_command("train --config config.toml --data text.txt --tokenizer bytes --run never") == 2
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert max(map(len, printed.splitlines())) < 300
