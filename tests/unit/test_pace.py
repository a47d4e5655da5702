"""The time that is left: at the pace of the last minute, with evaluations and saves, without pauses."""

import pytest

from nudge.events import Evaluation, Skipped, Started, Step
from nudge.runs.pace import Pace


def started(step: int = 0, at: float = 0.0) -> Started:
    return Started(
        step=step, time=at, run="runs/x", steps=1000, n_params=1, batch_tokens=100, micro_batch=1, device="cpu",
        dtype="float32", threads=1, peak_flops=1e9, flops_per_token=1e6, forecast_s=1.0, forecast_bytes=1, data="d",
    )  # fmt: skip


def update(step: int, at: float, step_s: float) -> Step:
    return Step(step=step, time=at, loss=1.0, lr=1e-3, grad_norm=1.0, tokens_per_s=1.0, step_s=step_s, train_s=0.0)


def evaluation(step: int, at: float) -> Evaluation:
    return Evaluation(step=step, time=at, loss=1.0, bits_per_byte=1.0, tokens=9, whole_split=False)


def after(pace: Pace, step: int, at: float, step_s: float, n: int) -> tuple[int, float]:
    """Make `n` updates of `step_s` seconds. Return the last step, and the time."""
    for _ in range(n):
        step, at = step + 1, at + step_s
        pace.take(update(step, at, step_s))
    return step, at


def test_before_the_first_update_it_is_unknown() -> None:
    pace = Pace()
    assert pace.left_s is None
    pace.take(started())
    assert pace.left_s is None
    pace.take(evaluation(0, 30.0))  # before the first update, and once
    assert pace.left_s is None
    pace.take(update(1, 32.0, 2.0))
    assert pace.left_s == 999 * 2.0


def test_it_follows_the_last_minute() -> None:
    pace = Pace()
    pace.take(started())
    step, at = after(pace, 0, 0.0, 4.0, 100)  # another program took half of the processor
    step, at = after(pace, step, at, 2.0, 30)  # and ended a minute ago
    assert pace.left_s == pytest.approx((1000 - 130) * 2.0)


def test_updates_longer_than_a_minute() -> None:
    pace = Pace()
    pace.take(started())
    after(pace, *after(pace, 0, 0.0, 500.0, 3), 300.0, 1)
    assert pace.left_s == (1000 - 4) * 300.0


def test_evaluations_count_and_pauses_do_not() -> None:
    pace = Pace()
    pace.take(started())
    step, at = after(pace, 0, 0.0, 1.0, 10)
    pace.take(evaluation(step, at + 5.0))
    step, at = after(pace, step, at + 5.0 + 3600.0, 1.0, 10)  # an hour's pause
    assert pace.left_s == pytest.approx(980 * 25.0 / 20)


def test_skipped_updates_take_no_time() -> None:
    pace = Pace()
    pace.take(started())
    after(pace, 0, 0.0, 1.0, 1)
    pace.take(Skipped(step=2, time=2.0, loss=1.0, grad_norm=1.0, in_a_row=1))
    assert pace.left_s == 998 * 0.5


def test_a_resumed_run_forgets_its_pace() -> None:
    pace = Pace()
    pace.take(started())
    after(pace, 0, 0.0, 4.0, 20)
    pace.take(started(step=10, at=1e6))
    assert pace.left_s is None
    after(pace, 10, 1e6, 1.0, 2)
    assert pace.left_s == 988 * 1.0
