"""The lines of a run on the terminal: as many columns as fit, and the time that is left."""

import dataclasses
import io

import pytest
from rich.console import Console
from rich.progress import Progress

from nudge.cli.live import COLUMNS, View
from nudge.events import Evaluation, Started, Step

STARTED = Started(
    step=19, time=0.0, run="runs/x", steps=286_102, n_params=1, batch_tokens=100, micro_batch=1, device="cpu",
    dtype="float32", threads=1, peak_flops=1e12, flops_per_token=1e6, forecast_s=None, forecast_bytes=1, data="d",
)  # fmt: skip
STEP = Step(
    step=20, time=9.0, loss=7.25, lr=1e-3, grad_norm=12.5, tokens_per_s=1234.0, step_s=0.25, train_s=5.0
)  # fmt: skip
EVALUATION = Evaluation(step=20, time=10.0, loss=7.5, bits_per_byte=2.0, tokens=9, whole_split=False)


def printed(started: Started, *, width: int, terminal: bool = True) -> tuple[str, str]:
    """The line of the names and the line of an update."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, color_system=None, soft_wrap=not terminal)
    view = View(console, Progress(console=console, disable=True))
    for event in (dataclasses.replace(started, eval_every=20), STEP, EVALUATION):
        view.show(event)
    view.show(dataclasses.replace(STEP, step=21))
    names, line = out.getvalue().splitlines()[-3:-1]
    return names, line


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("usd_per_hour", [None, 3.0])
def test_a_line_fits_the_terminal(width: int, usd_per_hour: float | None) -> None:
    names, line = printed(dataclasses.replace(STARTED, usd_per_hour=usd_per_hour), width=width)
    assert len(names) == len(line) <= width
    assert line.split()[:3] == ["20", "7.2500", "7.5000"]
    assert "1,234" in line
    assert ("cost" in names) == (usd_per_hour is not None)
    assert names.split()[-1 if usd_per_hour is None else -2] == "ETA"


def test_at_the_usual_width_there_are_all_columns_that_fit() -> None:
    names, line = printed(STARTED, width=82)
    assert names.split("  ")[-1].strip() == "ETA"
    for name in COLUMNS.keys() - {"cost"}:
        assert name in names
    assert line.endswith("19:52:00")  # 286,082 updates of a quarter of a second
    assert "of peak" not in printed(STARTED, width=80)[0]
    assert "of peak" in printed(dataclasses.replace(STARTED, steps=1600), width=80)[0]


def test_a_pipe_has_all_columns() -> None:
    names, _ = printed(dataclasses.replace(STARTED, usd_per_hour=3.0), width=60, terminal=False)
    assert all(name in names for name in COLUMNS)
