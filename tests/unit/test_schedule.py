"""The learning rate of each update."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nudge.config import TrainConfig
from nudge.optim.schedule import learning_rate


def rates(**settings: object) -> list[float]:
    train = TrainConfig(lr=1.0, **settings)  # type: ignore[arg-type]
    return [learning_rate(train, update) for update in range(train.steps)]


def test_cosine() -> None:
    values = rates(steps=101, warmup_steps=20, final_lr_ratio=0.1)
    assert values[0] == pytest.approx(1 / 21)
    assert values[19] == pytest.approx(20 / 21)
    assert values[20] == 1.0
    assert values[60] == pytest.approx(0.55)  # half-way down
    assert values[-1] == pytest.approx(0.1)


def test_warm_up_stable_decay() -> None:
    values = rates(steps=100, warmup_steps=10, schedule="wsd", decay_share=0.4, final_lr_ratio=0.0)
    assert values[10:60] == [1.0] * 50
    assert values[79] == pytest.approx(0.5)
    assert values[-1] == 0.0


@given(
    steps=st.integers(1, 300),
    warmup=st.integers(0, 400),
    schedule=st.sampled_from(["cosine", "wsd"]),
    ratio=st.floats(0, 1),
    decay=st.floats(0, 1),
)
def test_it_rises_once_then_never_rises_again(
    steps: int, warmup: int, schedule: str, ratio: float, decay: float
) -> None:
    values = rates(steps=steps, warmup_steps=warmup, schedule=schedule, final_lr_ratio=ratio, decay_share=decay)
    assert all(0 <= value <= 1 + 1e-12 for value in values)
    top = values.index(max(values))
    assert all(a <= b for a, b in itertools.pairwise(values[: top + 1]))
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(values[top:]))
