"""The error of `nudge plan --calibrate`: ten runs, each calibrated and then measured, one line per run.

    python bench/calibration.py [--seconds 30] [--only 1,4,7]

The runs learn Python's standard library, or sorting. Each gets as many updates as fit into about `--seconds` by its
calibration, and is timed from its event `Started` to `Stopped` in its own process. The intervals should hold at least
8 of the 10 times. Other programs on the machine affect the times: look at the load.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import nudge
from nudge import config as configs
from nudge import recipes
from nudge.config import Config
from nudge.estimate.calibration import Calibration, calibrate_in_process
from nudge.events import Started, Stopped

SHORT = {"val_share": 0.01}  # the last evaluation reads all of it
NARROW = {"n_layer": 2, "n_embd": 128, "block_size": 128}
RUNS: list[tuple[str, dict[str, Any]]] = [
    ("tiny", {"data": SHORT}),
    ("tiny", {"data": SHORT, "train": {"batch_tokens": 512}, "sample": {"every": 0}}),
    ("tiny", {"data": SHORT, "train": {"batch_tokens": 4096}, "eval": {"every": 10, "tokens": 4096}}),
    ("tiny", {"data": SHORT, "train": {"optimizer": "adamw"}, "sample": {"every": 5}}),
    ("tiny", {"data": SHORT, "machine": {"dtype": "float32"}, "eval": {"every": 0}}),
    ("tiny", {"data": SHORT, "model": NARROW, "save": {"every": 10}}),
    ("llm_viz", {}),
    ("llm_viz", {"train": {"batch_tokens": 512 * 11}, "eval": {"every": 0}}),
    ("mini_24k", {"data": SHORT, "train": {"batch_tokens": 1024}, "eval": {"tokens": 8192}}),
    ("mini_24k", {"data": SHORT, "eval": {"every": 0}, "sample": {"every": 10}}),
]


def of_about(found: Calibration, seconds: float) -> Calibration:
    """Return the forecast for as many updates as take about so many seconds."""

    def with_steps(steps: int) -> Calibration:
        return replace(found, config=replace(found.config, train=replace(found.config.train, steps=steps)))

    fixed, each = with_steps(0).likely_s, (with_steps(1000).likely_s - with_steps(0).likely_s) / 1000
    return with_steps(max(10, int((seconds - fixed) / each)))


def measured(config: Config) -> float:
    """Return the seconds of a run in its own process."""
    answer = subprocess.run(
        [sys.executable, __file__, "--run", json.dumps(configs.to_dict(config))],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(answer.stdout)


def seconds_of(config: Config) -> float:
    """Run and return the seconds from `Started` to `Stopped`."""
    begun = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for event in nudge.run(config, Path(folder, "run")):
            if isinstance(event, Started):
                begun = time.perf_counter()
            elif isinstance(event, Stopped):
                return time.perf_counter() - begun
    raise AssertionError("a run ends with Stopped")


def main() -> None:
    """Print the table, or (--run) one number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--only", type=lambda text: [int(number) for number in text.split(",")])
    parser.add_argument("--run", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        print(seconds_of(configs.from_dict(given.run)))
        return
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # for child processes, as in nudge.cli.main
    print(f"{'run':>3} {'recipe':9} {'updates':>7} {'low s':>7} {'likely':>7} {'high s':>7} ", end="")
    print(f"{'+-':>4} {'measured':>8} {'error':>6} inside  load  rounds")
    inside = []
    for number in given.only or range(1, len(RUNS) + 1):
        name, settings = RUNS[number - 1]
        found = of_about(calibrate_in_process(recipes.recipe(name, **settings)), given.seconds)
        took = measured(found.config)
        inside.append(found.low_s <= took <= found.high_s)
        print(
            f"{number:3} {name:9} {found.config.train.steps:7} {found.low_s:7.1f} {found.likely_s:7.1f} "
            f"{found.high_s:7.1f} {found.spread:4.0%} {took:8.1f} {took / found.likely_s - 1:+6.1%} "
            f"{'yes' if inside[-1] else 'no':6} {os.getloadavg()[0]:5.1f}  "
            + " ".join(f"{each / found.step_s:.2f}" for each in found.round_step_s),
            flush=True,
        )
    print(f"{sum(inside)} of {len(inside)} inside")


if __name__ == "__main__":
    main()
