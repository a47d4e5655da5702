"""A run's log is read as it grows, and its curves stay small without losing what matters."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nudge import events
from nudge.events import Evaluation, Event, Sample, Saved, Skipped, Started, Step, Stopped
from nudge.studio.pages import train
from nudge.studio.runlog import N_LOGS, N_ROWS, Curve, RunLog


def started(step: int = 0, resumed_from: str | None = None) -> Started:
    return Started(
        step=step,
        time=1.0,
        run="runs/x",
        steps=100,
        n_params=10,
        batch_tokens=64,
        micro_batch=1,
        device="cpu",
        dtype="float32",
        threads=1,
        peak_flops=1e9,
        flops_per_token=60.0,
        forecast_s=None,
        forecast_bytes=1,
        data="x",
        resumed_from=resumed_from,
    )


def step(number: int, loss: float = 2.0) -> Step:
    return Step(
        step=number, time=1.0, loss=loss, lr=0.1, grad_norm=1.0, tokens_per_s=9.0, step_s=0.1, train_s=0.1 * number
    )


def sample(number: int, text: str = "x") -> Sample:
    return Sample(step=number, time=1.0, prompt="", text=text, seed=0)


def evaluation(number: int, loss: float = 2.5) -> Evaluation:
    return Evaluation(step=number, time=1.0, loss=loss, bits_per_byte=1.0, tokens=10, whole_split=False)


def skipped(number: int) -> Skipped:
    return Skipped(step=number, time=1.0, loss=math.nan, grad_norm=math.inf, in_a_row=1)


def append(path: Path, *new: Event) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(events.to_json(event)) + "\n" for event in new)


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    return RunLog(tmp_path / "events.jsonl")


def test_only_what_was_appended_is_read(log: RunLog) -> None:
    assert not log.catch_up()  # no file yet
    append(log.path, started(), step(1), step(2))
    assert log.catch_up()
    assert not log.catch_up()
    version = log.version
    size = log.path.stat().st_size
    with log.path.open("r+b") as file:  # what was read is not looked at again
        file.write(b"#" * size)
        file.seek(size - 1)
        file.write(b"\n")
    append(log.path, step(3, 1.5))
    assert log.catch_up()
    assert list(log.loss.steps) == [1, 2, 3]
    assert log.version == version + 1
    assert log.rows[-1].change == -0.5


def test_a_log_is_unreadable_until_it_can_be_read(log: RunLog) -> None:
    log.path.mkdir()
    assert not log.catch_up()
    assert not log.readable
    log.path.rmdir()
    assert not log.catch_up()
    assert log.readable  # not there is nothing wrong: an imported run has none
    append(log.path, started(), step(1))
    assert log.catch_up()
    assert log.readable
    assert log.step == 1


def test_a_half_written_line_waits(log: RunLog) -> None:
    line = json.dumps(events.to_json(sample(1, "어느 날"))).encode() + b"\n"
    for cut in (1, len(line) // 2, len(line) - 1):
        log.path.write_bytes(line[:cut])
        log.catch_up()
        assert log.samples == {}
    log.path.write_bytes(line)
    log.catch_up()
    assert log.samples[1].text == "어느 날"


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe{",
        b"[" * 5000,
        b"null",
        b"[1]",
        b'{"event": "step"}',
        b'{"event": "step", "step": "x", "time": 1, "loss": [], "lr": 1, "grad_norm": 1, "tokens_per_s": 1}',
        b'{"event": "sample", "step": 1e400, "time": 1}',
        b'{"event": ["step"], "step": 1}',
        b'{"event": "of another version", "step": 9}',
    ],
)
def test_a_line_that_is_no_event_is_passed_over(log: RunLog, line: bytes) -> None:
    log.path.write_bytes(line + b"\n")
    append(log.path, step(1))
    log.catch_up()
    assert list(log.loss.steps) == [1]
    assert log.step == 1


def test_a_resumed_run_supersedes_what_was_lost(log: RunLog) -> None:
    found = [started(), *(step(n, 5.0) for n in range(1, 8)), sample(4, "old"), evaluation(6), skipped(8)]
    append(log.path, *found)
    log.catch_up()
    epoch = log.epoch
    again = [started(3, "step_00000003.pt (verified)"), step(4, 1.0), sample(4, "new"), step(5, 1.0)]
    append(log.path, *again)
    log.catch_up()
    assert list(log.loss.steps) == [1, 2, 3, 4, 5]
    assert log.loss.at(4) == 1.0
    assert log.samples[4].text == "new"
    assert not log.evaluations
    assert not log.skipped
    assert log.epoch > epoch
    assert [row.step for row in log.rows] == [0, 1, 2, 3, 4, 5]


def test_once_past_the_old_place_it_agrees_with_the_other_reader(log: RunLog) -> None:
    first = [started(), *(step(n, 5.0) for n in range(1, 10)), sample(8, "old"), evaluation(8)]
    second = [started(4, "x"), *(step(n, 1.0) for n in range(5, 15)), sample(8, "new"), evaluation(8, 1.0)]
    append(log.path, *first, *sorted(second[1:], key=lambda event: getattr(event, "step", 0)))
    log.catch_up()
    found = list(events.read(log.path))
    assert [(e.step, e.loss) for e in found if isinstance(e, Step)] == list(
        zip(log.loss.steps, log.loss.values, strict=True)
    )
    assert [e for e in found if isinstance(e, Sample)] == list(log.samples.values())
    assert [e for e in found if isinstance(e, Evaluation)] == list(log.evaluations.values())


def test_a_skipped_update_is_a_gap_and_a_row(log: RunLog) -> None:
    append(log.path, started(), step(1), skipped(2), step(3))
    log.catch_up()
    assert log.loss.points() == [(1, 2.0), (2, None), (3, 2.0)]
    assert log.loss.before(3) == 2.0
    assert isinstance(log.rows[-2].update, Skipped)
    assert log.step == 3
    assert log.rows[-1].change == 0.0  # against the last loss that is a number


def test_the_time_left_ignores_impossible_times(log: RunLog) -> None:
    times = [0.0, 8.0, math.nan, math.inf, -1.0, 8.0]
    append(log.path, started(), *(dataclasses.replace(step(n + 1), step_s=v) for n, v in enumerate(times)))
    log.catch_up()
    assert log.left_s == pytest.approx((100 - 6) * 16 / 6)


def test_without_any_time_the_time_left_is_unknown(log: RunLog) -> None:
    append(log.path, started(), dataclasses.replace(step(1), step_s=0.0))
    log.catch_up()
    assert log.left_s is None


def test_another_file_in_its_place_is_read_from_the_start(log: RunLog) -> None:
    append(log.path, started(), *(step(n) for n in range(1, 20)))
    log.catch_up()
    log.path.unlink()
    append(log.path, started(), step(1, 7.0))
    log.catch_up()
    assert list(log.loss.values) == [7.0]


def test_what_happened_at_a_step_is_one_row_and_old_rows_go(log: RunLog) -> None:
    append(log.path, started(), *(step(n) for n in range(1, N_ROWS + 50)))
    saved = Saved(step=N_ROWS + 49, time=1.0, path="p", n_bytes=1, sha256="0", save_s=0.1)
    append(log.path, saved, Stopped(step=N_ROWS + 49, time=1.0, reason="finished"))
    log.catch_up()
    assert len(log.rows) == N_ROWS
    assert [type(event) for event in log.rows[-1].others] == [Saved, Stopped]
    assert log.stopped


def test_logs_are_shared() -> None:
    assert N_LOGS > train.N_LISTED + 1  # the list, and a run that is watched


values = st.one_of(st.floats(-1e6, 1e6), st.just(math.nan), st.just(math.inf))


@given(st.lists(values, max_size=400), st.integers(2, 40), st.integers(0, 5000))
def test_a_drawn_curve_keeps_its_ends_its_extremes_and_its_nan(found: list[float], n_buckets: int, first: int) -> None:
    curve = Curve(n_buckets)
    for number, value in enumerate(found):
        curve.append(first + number, value)
    points = curve.points()
    assert len(points) <= 3 * n_buckets + 2
    assert [at for at, _ in points] == sorted({at for at, _ in points})
    for at, value in points:  # nothing is invented
        original = found[at - first]
        assert value == original if math.isfinite(original) else value is None
    finite = [value for value in found if math.isfinite(value)]
    drawn = [value for _, value in points if value is not None]
    if found:
        assert points[0][0] == first
        assert points[-1][0] == first + len(found) - 1
        assert (None in [value for _, value in points]) == (len(finite) < len(found))
    if finite:
        assert (min(drawn), max(drawn)) == (min(finite), max(finite))


@given(st.lists(values, min_size=1, max_size=300), st.integers(2, 20))
def test_a_growing_curve_changes_at_its_end(found: list[float], n_buckets: int) -> None:
    """Between two doublings of the width, what was drawn before the last bucket stays: only increments are sent."""
    curve = Curve(n_buckets)
    for number, value in enumerate(found, start=1):
        width, before = curve.width, curve.points()
        curve.append(number, value)
        if curve.width == width:
            begun = number // width * width
            settled = [point for point in before if point[0] < begun and point[0] != number - 1]
            assert [point for point in curve.points() if point in settled] == settled


@given(st.lists(values, max_size=200), st.integers(0, 220))
def test_a_cut_curve_is_as_if_the_rest_had_never_been(found: list[float], at: int) -> None:
    whole, short = Curve(8), Curve(8)
    for number, value in enumerate(found, start=1):
        whole.append(number, value)
        if number <= at:
            short.append(number, value)
    whole.cut(at)
    assert whole.points() == short.points()
    assert whole.smooth() == short.smooth()


def test_smoothing_is_a_centred_mean() -> None:
    curve = Curve()
    for number in range(1, 101):
        curve.append(number, 3.0 * number if number != 50 else math.nan)
    smooth = dict(curve.smooth())
    assert smooth[1] == 3.0
    assert smooth[30] == pytest.approx(90.0)  # a straight line stays one: no lag
    assert smooth[100] == pytest.approx(3 * (97 + 98 + 99 + 100) / 4)
    assert smooth[50] is not None
