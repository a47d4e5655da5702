import json
import threading
from pathlib import Path

import click.testing
import filelock
import pytest

from nudge import events
from nudge.cli.output import Console, make_fitting_table
from nudge.cli.runs import runs
from nudge.events import Evaluation, Started, Step, Stopped
from nudge.runs.folder import RunFolder
from nudge.runs.listing import describe, list_runs
from nudge.runs.summary import summarize
from nudge.util import files


def started(step: int = 0, steps: int = 3) -> Started:
    return Started(
        step=step,
        time=0.0,
        run="runs/x",
        steps=steps,
        n_params=1,
        batch_tokens=2048,
        micro_batch=8,
        device="cpu",
        dtype="float32",
        threads=2,
        peak_flops=1e9,
        flops_per_token=1e6,
        forecast_s=None,
        forecast_bytes=1,
        data="cache",
    )


def step(number: int) -> Step:
    return Step(
        step=number, time=0.0, loss=9.0 - number, lr=0.1, grad_norm=1.0, tokens_per_s=1.0, step_s=1.0, train_s=number
    )


def stopped(number: int, reason: str) -> Stopped:
    return Stopped(step=number, time=0.0, reason=reason)  # type: ignore[arg-type]


MEASURED = Evaluation(step=2, time=0.0, loss=6.5, bits_per_byte=2.0, tokens=10, whole_split=False)


def make_run(path: Path, *written: events.Event) -> RunFolder:
    folder = RunFolder(path)
    folder.checkpoints.mkdir(parents=True)
    folder.ckpt.write_bytes(b"x" * 1000)
    files.write_json(folder.run_json, {"config": {"recipe": "tiny"}})
    with files.open_json_lines(folder.events) as log:
        for event in written:
            files.append_json(log, events.to_json(event))
    return folder


@pytest.mark.parametrize(
    "written",
    [
        [],
        [started(steps=100), *map(step, range(1, 31)), MEASURED, *map(step, range(31, 50))],
        [
            started(),
            *map(step, range(1, 46)),
            MEASURED,
            started(20),
            *map(step, range(21, 24)),
            stopped(23, "finished"),
        ],
        [started(), *map(step, range(1, 9)), stopped(8, "diverged"), started(2), *map(step, range(3, 30)), MEASURED],
    ],
)
def test_the_end_of_a_log_says_what_the_whole_log_says(tmp_path: Path, written: list[events.Event]):
    folder = make_run(tmp_path / "x", *written)
    with folder.events.open("ab") as log:
        log.write(b'{"event": "step", "step": 99')  # cut off
    whole, line = summarize(events.read(folder.events)), describe(folder)
    assert (line.step, line.train_loss) == (whole.steps, whole.last_loss)
    assert line.steps == (whole.started.steps if whole.started else None)
    assert line.val_loss == (whole.last_evaluation.loss if whole.last_evaluation else None)


@pytest.mark.parametrize(
    ("written", "state"),
    [
        ([started(), step(1), step(2), step(3), stopped(3, "finished")], "finished"),
        ([started(), step(1), step(2), stopped(2, "interrupted")], "interrupted"),
        ([started(), step(1)], "interrupted"),  # killed
        ([started(), step(1), stopped(2, "diverged")], "diverged"),
        (
            [started(), step(1), stopped(1, "interrupted"), started(1), step(2), step(3), stopped(3, "finished")],
            "finished",
        ),
        ([started(), *map(step, (1, 2, 3)), stopped(3, "finished"), started(3, 5), step(4)], "interrupted"),
        ([], "interrupted"),
    ],
)
def test_state(tmp_path: Path, written: list[events.Event], state: str):
    assert describe(make_run(tmp_path / "x", *written)).state == state


def test_a_run_whose_lock_is_held_is_running(tmp_path: Path):
    folder = make_run(tmp_path / "x", started(), step(1))
    with folder.lock():
        assert describe(folder).state == "running"
    assert describe(folder).state == "interrupted"


def test_who_looks_whether_a_run_is_in_use_keeps_none_from_starting(tmp_path: Path):
    folder = make_run(tmp_path / "x", started(), step(1))
    looked = filelock.FileLock(tmp_path / "x" / ".lock", thread_local=False)
    looked.acquire()
    threading.Timer(0.01, looked.release).start()
    with folder.lock():
        assert folder.is_in_use()


def test_what_is_known_of_a_run(tmp_path: Path):
    line = describe(make_run(tmp_path / "x", started(), step(1), step(2), MEASURED))
    assert (line.recipe, line.step, line.steps, line.val_loss) == ("tiny", 2, 3, 6.5)
    assert line.train_loss == 7.5
    assert line.n_bytes > 1000
    assert line.run == str(tmp_path / "x")


def test_imported_and_damaged_folders_stand_beside_the_others(tmp_path: Path):
    imported, damaged = make_run(tmp_path / "imported"), make_run(tmp_path / "damaged")
    imported.run_json.unlink()
    damaged.run_json.write_text("{", encoding="utf-8")
    assert describe(imported).state == "imported"
    assert describe(damaged).state == "unreadable"


def test_table_and_json_and_nothing_at_all(tmp_path: Path):
    command = click.testing.CliRunner()
    empty = command.invoke(runs, [str(tmp_path / "none")])
    assert (empty.exit_code, empty.output.count("nudge train")) == (0, 1)
    assert command.invoke(runs, [str(tmp_path / "none"), "--json"]).output == "[]\n"

    make_run(tmp_path / "a-run-with-a-name-that-is-longer-than-a-narrow-column", started(), step(1), MEASURED)
    table = command.invoke(runs, [str(tmp_path)]).output
    assert f"{tmp_path}/a-run-with-a-name-that-is-longer-than-a-narrow-column" in table
    assert "1/3" in table
    assert "6.500" in table
    (line,) = json.loads(command.invoke(runs, [str(tmp_path), "--json"]).output)
    assert (line["step"], line["steps"], line["state"]) == (1, 3, "interrupted")


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_terminal_shows_names_whole_and_leaves_out_columns(tmp_path: Path, width: int):
    console, row = Console(width=width), ("runs/shakespeare-with-muon", "gpt2_small", "1,234 MB", "interrupted")
    columns, expendable = ("run", "recipe", ">size", "state"), ("size", "recipe")
    table = make_fitting_table(console, columns, [row], wraps="run", expendable=expendable)
    with console.capture() as shown:
        console.print(table)
    lines = [line.split() for line in shown.get().splitlines()]
    kept = {40: ["run", "state"], 60: ["run", "recipe", "state"], 80: ["run", "recipe", "size", "state"]}
    assert lines[0] == kept[width]
    assert len(lines) == 2
    assert (lines[1][0], lines[1][-1]) == ("runs/shakespeare-with-muon", "interrupted")


def test_a_link_to_a_run_is_not_another_run(tmp_path: Path):
    make_run(tmp_path / "b-run", started())
    (tmp_path / "a-link").symlink_to("b-run")
    assert [line.run for line in list_runs(tmp_path)] == [str(tmp_path / "b-run")]
    (tmp_path / "elsewhere").mkdir()
    make_run(tmp_path / "elsewhere" / "run", started())
    (tmp_path / "link").symlink_to("elsewhere/run")
    assert {line.run for line in list_runs(tmp_path)} == {str(tmp_path / "b-run"), str(tmp_path / "link")}
