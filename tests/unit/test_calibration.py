"""A forecast from a short stretch of the run itself: what it counts, and what is kept of it. No time is asserted."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

import nudge
from nudge import recipes
from nudge.config import Config
from nudge.data.batches import val_windows
from nudge.data.prepare import prepare
from nudge.errors import DataError
from nudge.estimate import calibration
from nudge.estimate.calibration import Calibration, calibrate, calibrate_in_process
from nudge.events import Evaluation, Event, Sample, Saved, Step
from nudge.plan import this_machine
from nudge.plan.this_machine import LocalSpeed
from nudge.util import files

RUN = recipes.recipe(
    "llm_viz",
    train={"steps": 7, "batch_tokens": 4 * 11},
    eval={"every": 3, "tokens": 50},
    sample={"every": 2},
    save={"every": 5},
    machine={"device": "cpu", "update": "eager", "dtype": "float32"},
)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUDGE_CACHE", str(tmp_path))


def counted(config: Config, n_windows: int, **seconds: float) -> float:
    nothing = dict.fromkeys(("step_s", "eval_window_s", "sample_s", "save_s"), 0.0)
    return Calibration(
        config=config,
        val_windows=n_windows,
        spread=0.2,
        steady=True,
        took_s=0.0,
        machine="",
        round_step_s=(),
        **{**nothing, **seconds},
    ).likely_s


@pytest.mark.parametrize(
    "settings",
    [{}, {"train.steps": 6}, {"train.steps": 0}, {"sample.every": 0}, {"eval.every": 0}, {"eval.tokens": 10**6}],
    ids=str,
)
def test_it_counts_what_a_run_does(settings: dict[str, int], tmp_path: Path) -> None:
    config = RUN
    for key, value in settings.items():
        section, name = key.split(".")
        config = replace(config, **{section: replace(getattr(config, section), **{name: value})})
    events = list(nudge.run(config, tmp_path / "run"))

    def of(kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in events)

    n_windows = sum(1 for _ in val_windows(dataset(config).val, 11))
    assert counted(config, n_windows, step_s=1.0) == of(Step)
    assert counted(config, n_windows, save_s=1.0) == of(Saved)
    assert counted(config, n_windows, sample_s=1.0) == of(Sample)
    targets = sum(event.tokens for event in events if isinstance(event, Evaluation))
    assert counted(config, n_windows, eval_window_s=1.0) == targets / 6  # each window is one example of six letters


def dataset(config: Config):  # type: ignore[no-untyped-def]
    preparing = prepare(config.data)
    while True:
        try:
            next(preparing)
        except StopIteration as end:
            return end.value


def test_a_measurement_is_an_interval_and_is_kept() -> None:
    found = calibrate(RUN, takes_s=1.0)
    assert found.low_s < found.likely_s < found.high_s
    assert calibration.FLOOR <= found.spread <= calibration.CEILING
    assert found.high_s - found.low_s == pytest.approx(2 * found.spread * found.likely_s)
    assert len(found.round_step_s) == calibration.ROUNDS
    assert min(found.step_s, found.eval_window_s, found.sample_s, found.save_s) > 0
    assert sum(seconds for _, seconds in found.parts()) == pytest.approx(found.likely_s)
    kept = this_machine.local_speed(RUN.model)
    assert kept is not None
    assert (kept.tokens_per_s, kept.recipe, kept.device) == (found.tokens_per_s, "llm_viz", "cpu")


def test_a_long_update_is_measured_by_some_of_its_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "LONGEST_UPDATE_S", 1e-9)
    found = calibrate(replace(RUN, train=replace(RUN.train, batch_tokens=12 * 11, micro_batch=2)), takes_s=1.0)
    assert found.config.train.batch_tokens == 12 * 11
    assert found.step_s > 0


def test_minutes_become_updates() -> None:
    found = calibrate(replace(RUN, train=replace(RUN.train, minutes=0.05)), takes_s=1.0)
    assert found.config.train.minutes is None
    assert found.config.train.steps >= 1


@pytest.mark.slow
def test_another_process_gives_the_same() -> None:
    with pytest.raises(DataError) as refused:
        calibrate_in_process(replace(RUN, data=replace(RUN.data, paths=("/nowhere/at/all.txt",))))
    assert "/nowhere/at/all.txt" in refused.value.message
    found = calibrate_in_process(RUN, takes_s=1.0)
    assert {field.name for field in fields(found)} == {field.name for field in fields(Calibration)}
    assert found.config.model == RUN.model
    assert found.likely_s > 0


def speed(**settings: object) -> LocalSpeed:
    values = {
        "date": "2026-11-21",
        "machine": "a processor, 2 threads",
        "device": "cpu",
        "dtype": "float32",
        "recipe": "llm_viz",
        "model": RUN.model,
        "batch_tokens": 44,
        "tokens_per_s": 1000.0,
        "spread": 0.2,
    }
    return LocalSpeed(**{**values, **settings})  # type: ignore[arg-type]


def test_the_newest_measurement_of_a_model_counts() -> None:
    assert this_machine.local_speed(RUN.model) is None
    for each in (speed(), speed(batch_tokens=88, tokens_per_s=3000.0), speed(tokens_per_s=2000.0)):
        this_machine.remember(each)
    assert [kept.tokens_per_s for kept in this_machine.measurements()] == [2000.0, 3000.0]
    assert this_machine.local_speed(RUN.model) == speed(tokens_per_s=2000.0)
    assert this_machine.local_speed(RUN.model, batch_tokens=88) == speed(batch_tokens=88, tokens_per_s=3000.0)
    assert this_machine.local_speed(replace(RUN.model, n_layer=9)) is None
    assert speed().flops_per_s == 1000.0 * (6 * (3 * 12 * 48**2 + 3 * 48) + 12 * 3 * 11 * 48)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"date": "2026-11-21"}]', "[{"])
def test_a_damaged_file_holds_no_measurement(content: str) -> None:
    files.write_text(files.cache_folder() / "local-speed.json", content)
    assert this_machine.measurements() == []
    this_machine.remember(speed())
    assert this_machine.measurements() == [speed()]
