import json
import math
from pathlib import Path
from typing import Any

import pytest

from nudge import events
from nudge.events import Evaluation, Preparing, Sample, Saved, Skipped, Started, Step, Stopped
from nudge.util import files


def step(number: int, *, loss: float = 5.0, time: float = 100.0) -> Step:
    return Step(
        step=number, time=time, loss=loss, lr=1e-3, grad_norm=1.5, tokens_per_s=4e3, step_s=0.5, train_s=0.5 * number
    )


STARTED = Started(
    step=0,
    time=99.5,
    run="runs/first",
    steps=500,
    n_params=5_853_696,
    batch_tokens=2048,
    micro_batch=8,
    device="cpu",
    dtype="float32",
    threads=2,
    peak_flops=1e11,
    flops_per_token=4e7,
    forecast_s=None,
    forecast_bytes=10**9,
    data="cache/text",
    notes=("two cores",),
)
ONE_OF_EACH = [
    Preparing(what="tokens", done=1, total=2),
    STARTED,
    step(1),
    Evaluation(step=1, time=101.0, loss=5.1, bits_per_byte=2.4, tokens=32768, whole_split=False),
    Sample(step=1, time=101.5, prompt="def ", text="한글\n🙂", seed=0),
    Saved(step=1, time=102.0, path="checkpoints/step_00000001.pt", n_bytes=10, sha256="0" * 64, save_s=0.1),
    Skipped(step=2, time=103.0, loss=5.0, grad_norm=2.0, in_a_row=1),
    Stopped(step=2, time=104.0, reason="finished"),
]


def from_json(values: dict[str, Any]) -> events.Event | None:
    return events.from_line(json.dumps(values, allow_nan=False).encode())


def through_json(event: events.Event) -> events.Event | None:
    return from_json(events.to_json(event))


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: type(event).__name__)
def test_round_trip(event):
    again = through_json(event)
    assert type(again) is type(event)
    assert events.to_json(again) == events.to_json(event)


def test_every_line_says_what_it_is():
    names = [events.to_json(event)["event"] for event in ONE_OF_EACH]
    assert names == ["preparing", "started", "step", "evaluation", "sample", "saved", "skipped", "stopped"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_json_has_no_nan(bad):
    line = events.to_json(Skipped(step=3, time=1.0, loss=bad, grad_norm=2.0, in_a_row=1))
    assert line["loss"] is None
    assert line["not_finite"] == ["loss"]
    again = through_json(Skipped(step=3, time=1.0, loss=bad, grad_norm=2.0, in_a_row=1))
    assert isinstance(again, Skipped)
    assert math.isnan(again.loss)
    assert again.grad_norm == 2.0


def test_a_later_version_may_say_more():
    assert from_json({"event": "applause", "step": 1}) is None
    assert from_json({**events.to_json(step(1)), "mood": "good"}) == step(1)


@pytest.mark.parametrize(
    ("event", "wrong"),
    [
        (STARTED, {"steps": "x"}),
        (STARTED, {"steps": None}),
        (STARTED, {"n_params": 10**400}),
        (STARTED, {"forecast_s": "soon"}),
        (STARTED, {"notes": "two cores"}),
        (STARTED, {"notes": [1]}),
        (step(1), {"step": 1.5}),
        (step(1), {"step": True}),
        (step(1), {"loss": None}),
        (step(1), {"loss": [5.0]}),
        (step(1), {"not_finite": 5}),
        (step(1), {"not_finite": ["step"]}),
        (step(1), {"event": ["step"]}),
        (ONE_OF_EACH[0], {"what": "?"}),
        (ONE_OF_EACH[3], {"whole_split": 1}),
        (ONE_OF_EACH[4], {"text": 5}),
        (ONE_OF_EACH[7], {"reason": "new"}),
        (ONE_OF_EACH[7], {"reason": ["finished"]}),
    ],
)
def test_values_of_other_types_are_no_event(event: events.Event, wrong: dict[str, Any]):
    line = events.to_json(event)
    assert from_json(line) == event
    assert from_json({**line, **wrong}) is None


def test_a_line_with_a_value_missing_is_no_event():
    line = events.to_json(step(1))
    del line["lr"]
    assert from_json(line) is None


@pytest.mark.parametrize("line", ["", '{"event": "step", "st', "5", "null", "[]", "error: no room", "[" * 100_000])
def test_a_line_that_is_no_event(line: str):
    assert events.from_line(line.encode()) is None


def test_a_line_of_a_run():
    assert from_json(events.to_json(step(1))) == step(1)


def test_a_whole_number_is_a_float_too():
    assert from_json({**events.to_json(step(1)), "loss": 5}) == step(1)


def test_lost_updates_are_superseded(tmp_path: Path):
    """Killed after update 3, resumed from the checkpoint of update 1."""
    first = [STARTED, step(1), step(2), step(3, time=100), STARTED, step(2, time=200), step(3, loss=4.0, time=201)]
    path = tmp_path / "events.jsonl"
    with files.open_json_lines(path) as log:
        for event in [*first, Stopped(step=3, time=202, reason="finished")]:
            files.append_json(log, events.to_json(event))
    read = list(events.read(path))
    steps = [event for event in read if isinstance(event, Step)]
    assert [(event.step, event.time) for event in steps] == [(1, 100.0), (2, 200), (3, 201)]
    assert steps[-1].loss == 4.0
    assert sum(isinstance(event, Started) for event in read) == 1
    assert read[-1] == Stopped(step=3, time=202, reason="finished")
