"""A run in numbers, from its events alone."""

from dataclasses import replace

import pytest

from nudge.events import Evaluation, Event, Sample, Started, Step
from nudge.runs.summary import share_of_peak, summarize

STARTED = Started(
    step=0, time=0.0, run="runs/x", steps=600, n_params=1, batch_tokens=100, micro_batch=1, device="cpu",
    dtype="float32", threads=1, peak_flops=1e9, flops_per_token=1e6, forecast_s=1.0, forecast_bytes=1, data="d",
)  # fmt: skip


def step(number: int, loss: float) -> Step:
    return Step(
        step=number, time=0.0, loss=loss, lr=1e-3, grad_norm=1.0, tokens_per_s=50.0, step_s=2.0, train_s=2.0 * number
    )


def sample(number: int) -> Sample:
    return Sample(step=number, time=0.0, prompt="p", text=f"after {number}", seed=0)


def test_a_run() -> None:
    told: list[Event] = [STARTED, *(step(n, 10 - n) for n in range(1, 6))]
    told += [Evaluation(step=n, time=0.0, loss=9.0 - n, bits_per_byte=1.0, tokens=9, whole_split=False) for n in (0, 5)]
    summary = summarize(told)
    assert (summary.first_loss, summary.last_loss, summary.steps, summary.tokens) == (9, 7, 5, 500)
    assert summary.train_s == 10.0
    assert summary.tokens_per_s == 50.0
    assert summary.flops == 500e6
    assert summary.last_evaluation == summary.best_evaluation


@pytest.mark.parametrize(("peak_flops", "share"), [(1e9, 0.05), (50e6, 1.0), (49e6, None), (0.0, None)])
def test_no_share_of_a_peak_that_the_updates_exceed(peak_flops: float, share: float | None) -> None:
    started = replace(STARTED, peak_flops=peak_flops)
    assert summarize([started, step(1, 9.0)]).peak_share == share
    assert share_of_peak(started, 50.0) == share


def test_an_empty_run() -> None:
    summary = summarize([])
    assert summary.started is None
    assert summary.film == ()
    assert summary.tokens_per_s == 0.0


@pytest.mark.parametrize(
    ("last", "shown"),
    [(600, [0, 20, 300, 600]), (420, [0, 20, 200, 420]), (40, [0, 20, 40]), (20, [0, 20]), (0, [0])],
)
def test_the_film_shows_what_this_run_reached(last: int, shown: list[int]) -> None:
    summary = summarize([STARTED, *(sample(n) for n in range(0, last + 1, 20))])
    assert [frame.step for frame in summary.film] == shown
