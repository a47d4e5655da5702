"""How long a run will take here: thirty seconds of that very run, in a folder that is thrown away.

A rehearsal (machine/rehearsal.py) times a few passes within a moment. A machine that other programs use is fast in one
moment and slow in the next, so here five rounds are spread over the time, each with updates, an evaluation, a sample
and a checkpoint as the run's own loop makes them; how far the rounds are apart gives the interval.

`python -m nudge.estimate.calibration SECONDS` reads a config as JSON and answers with a `Calibration` as JSON: a
process of its own, as a run is one.
"""

import dataclasses
import datetime
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from nudge import config as configs
from nudge.config import Config
from nudge.data.batches import val_windows
from nudge.data.prepare import prepare
from nudge.data.shards import Dataset
from nudge.errors import NudgeError, RunError
from nudge.events import Evaluation, Event, Sample, Saved, Skipped, Step
from nudge.machine.hardware_probe import Machine, probe
from nudge.model import sizes
from nudge.model.gpt import GPT, init_weights
from nudge.plan import this_machine
from nudge.plan.this_machine import LocalSpeed
from nudge.runs.folder import RunFolder
from nudge.train.loop import Trainer, make_batches
from nudge.train.rehearsal import Rehearsal, rehearse
from nudge.train.resolve import resolve_data, resolve_machine
from nudge.util import files

ROUNDS = 5
TAKES_S = 30.0
LONGEST_UPDATE_S = 2.0  # a longer one is measured by some of its passes
EVALUATION_SHARE = 0.15  # of a round
SAVED_EACH_ROUND = 300_000_000  # bytes of a checkpoint; a larger one is written at the start and the end only
# The interval: 90% of what Student's t with four degrees of freedom expects of one more round. A spread that happens
# to be small says nothing about the next hour, so it has a floor; one that is larger than the ceiling says that the
# machine is too busy to measure on.
T_OF_90_PERCENT = 2.13 * math.sqrt(1 + 1 / ROUNDS)
FLOOR, CEILING = 0.15, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Measured seconds of what a run is made of (medians of the rounds), and of the whole run from them.

    `spread`: half of the interval as a share of the middle. `steady`: the rounds were close enough for the interval.
    """

    config: Config  # with every choice filled in
    step_s: float
    eval_window_s: float
    sample_s: float
    save_s: float
    val_windows: int  # of the whole validation split, which the last evaluation reads
    spread: float
    steady: bool
    took_s: float
    machine: str
    round_step_s: tuple[float, ...]  # the mean update of each round

    @property
    def likely_s(self) -> float:
        """Of the whole run, from its first to its last event, as a run that nobody disturbs or stops."""
        config, steps = self.config, self.config.train.steps
        part = _windows_of(config, self.val_windows)
        samples = _times(config.sample.every, steps) + 1 if config.sample.every else 0
        return (
            steps * self.step_s
            + (_times(config.eval.every, steps) * part + self.val_windows) * self.eval_window_s
            + samples * self.sample_s
            + (_times(config.save.every, steps) + 1) * self.save_s
        )

    @property
    def low_s(self) -> float:
        return self.likely_s * (1 - self.spread)

    @property
    def high_s(self) -> float:
        return self.likely_s * (1 + self.spread)

    @property
    def tokens_per_s(self) -> float:
        """Tokens learned from per second of an update."""
        return self.config.train.batch_tokens / self.step_s

    def parts(self) -> list[tuple[str, float]]:
        """What the run's time goes to: (part, seconds)."""
        nothing = replace(self, step_s=0.0, eval_window_s=0.0, sample_s=0.0, save_s=0.0)
        return [
            (name, replace(nothing, **{key: getattr(self, key)}).likely_s)
            for name, key in (
                ("updates", "step_s"),
                ("evaluations", "eval_window_s"),
                ("samples", "sample_s"),
                ("checkpoints", "save_s"),
            )
        ]


def _times(every: int, steps: int) -> int:
    """How often something that happens at 0, `every`, .. happens before the last update."""
    return math.ceil(steps / every) if every else 0


def _windows_of(config: Config, val_windows: int) -> int:
    """Windows of an evaluation along the run."""
    return min(val_windows, math.ceil(config.eval.tokens / config.model.block_size))


def calibrate(config: Config, *, takes_s: float = TAKES_S) -> Calibration:
    """Measure for about `takes_s` seconds, after the text is prepared; this machine's speed is kept for plans.

    With `train.minutes` the number of updates is what fits into that time. Raises: NudgeError's children, as a run
    would.
    """
    configs.check(config)
    dataset = _prepared(config)
    begun = time.perf_counter()
    config = resolve_data(config, dataset)
    machine = probe(config.machine, config.model)
    config = resolve_machine(config, machine)
    rehearsal = rehearse(config, make_batches(config, dataset))
    if config.train.minutes is not None:
        steps = rehearsal.steps_in(60 * config.train.minutes, config, val_tokens=len(dataset.val))
        config = replace(config, train=replace(config.train, steps=steps, minutes=None))
    short, larger = _short(config, dataset, rehearsal)
    left_s = takes_s - (time.perf_counter() - begun)
    short = _in_rounds(short, rehearsal.step_s / larger, left_s / (ROUNDS + 0.5))
    rounds = _measure(short, dataset)
    n_windows = sum(1 for _ in val_windows(dataset.val, config.model.block_size))
    each = [one.step_s * larger for one in rounds]
    apart = T_OF_90_PERCENT * stdev(each) / median(each)
    found = Calibration(
        config=config,
        step_s=median(each),
        eval_window_s=median(one.eval_s for one in rounds) / _windows_of(short, n_windows),
        sample_s=median(one.sample_s for one in rounds),
        save_s=median(one.save_s for one in rounds),
        val_windows=n_windows,
        spread=min(max(apart, FLOOR), CEILING),
        steady=apart <= CEILING,
        took_s=time.perf_counter() - begun,
        machine=f"{machine.gpu or machine.cpu}, {machine.threads} thread{'s' if machine.threads != 1 else ''}",
        round_step_s=tuple(each),
    )
    this_machine.remember(_speed(found, machine))
    return found


def _prepared(config: Config) -> Dataset:
    preparing = prepare(config.data)
    while True:
        try:
            next(preparing)
        except StopIteration as end:
            dataset: Dataset = end.value
            return dataset


def _speed(found: Calibration, machine: Machine) -> LocalSpeed:
    return LocalSpeed(
        date=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        machine=found.machine,
        device=machine.device,
        dtype=machine.dtype,
        recipe=found.config.recipe,
        model=found.config.model,
        batch_tokens=found.config.train.batch_tokens,
        tokens_per_s=found.tokens_per_s,
        spread=found.spread,
    )


def _short(config: Config, dataset: Dataset, rehearsal: Rehearsal) -> tuple[Config, float]:
    """The config with updates of so few passes that some fit into a round, and how many times longer its own take."""
    if rehearsal.step_s <= LONGEST_UPDATE_S:
        return config, 1.0
    size = (config.train.micro_batch or 1) * config.model.block_size
    passes = config.train.batch_tokens // size
    few = max(1, int(passes * LONGEST_UPDATE_S / rehearsal.step_s))
    short = replace(config, train=replace(config.train, batch_tokens=few * size))
    if few == passes:
        return config, 1.0
    return short, rehearsal.step_s / rehearse(short, make_batches(short, dataset)).step_s


def _in_rounds(config: Config, step_s: float, round_s: float) -> Config:
    """The run that is measured: at the end of each round all that a run does beside its updates."""
    every = max(1, int((1 - 2 * EVALUATION_SHARE) * round_s / step_s))
    group = (config.train.micro_batch or 1) * config.model.block_size
    token_s = step_s / config.train.batch_tokens / 3  # an evaluation goes forward only
    tokens = max(group, int(EVALUATION_SHARE * round_s / token_s) // group * group)
    small = sizes.checkpoint_bytes(config.model) < SAVED_EACH_ROUND
    return replace(
        config,
        train=replace(config.train, steps=(ROUNDS + 1) * every),  # the last is never reached
        eval=replace(config.eval, every=every, tokens=min(tokens, config.eval.tokens)),
        sample=replace(config.sample, every=every if config.sample.every else 0),
        save=replace(config.save, every=every if small else ROUNDS * every, keep_last=1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    step_s: float  # the mean
    eval_s: float
    sample_s: float
    save_s: float


def _measure(config: Config, dataset: Dataset) -> list[_Round]:
    """The rounds of a run in a folder that is thrown away, without what comes before its first update."""
    network = GPT(config.model)
    init_weights(network, config.seed)
    network.to(config.machine.device or "cpu")
    cache = files.cache_folder()  # on a disk, as runs are: /tmp may be memory, where checkpoints cost nothing
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="calibration-", dir=cache) as place:
        folder = RunFolder(Path(place))
        folder.checkpoints.mkdir()
        told = Trainer(config, network, dataset, folder).events()
        return _rounds(told, ends_with=Sample if config.sample.every else Evaluation)


def _rounds(told: Iterator[Event], *, ends_with: type[Event]) -> list[_Round]:
    """What each round took, by the time between an event and the one before it."""
    rounds: list[_Round] = []
    updates: list[float] = []
    eval_s = sample_s = save_s = 0.0
    before = time.perf_counter()
    for event in told:
        seconds, before = time.perf_counter() - before, time.perf_counter()
        if isinstance(event, Step | Skipped):
            updates.append(seconds)
        elif isinstance(event, Saved):
            save_s = seconds
        elif isinstance(event, Evaluation):
            eval_s = seconds
        elif isinstance(event, Sample):
            sample_s = seconds
        if isinstance(event, ends_with) and updates:
            rounds.append(_Round(step_s=fmean(updates), eval_s=eval_s, sample_s=sample_s, save_s=save_s))
            updates = []
        if len(rounds) == ROUNDS:
            return rounds
    raise RunError("the run that was measured stopped by itself", "try it first: nudge train --steps 20")


def calibrate_in_process(config: Config, *, takes_s: float = TAKES_S) -> Calibration:
    """`calibrate` in a process of its own. Raises: NudgeError for what it cannot do."""
    answer = subprocess.run(
        [sys.executable, "-m", "nudge.estimate.calibration", str(takes_s)],
        input=json.dumps(configs.to_dict(config)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    values = json.loads(answer.stdout)
    if "message" in values:
        raise NudgeError(values["message"], values["hint"])
    return from_json(values)


def from_json(values: dict[str, Any]) -> Calibration:
    """The calibration that the process wrote."""
    config, rounds = configs.from_dict(values["config"]), tuple(values["round_step_s"])
    return Calibration(**{**values, "config": config, "round_step_s": rounds})


def main() -> None:
    """Answer one question on standard input."""
    try:
        config = configs.from_dict(json.load(sys.stdin))
        answer = dataclasses.asdict(calibrate(config, takes_s=float(sys.argv[1])))
    except NudgeError as error:
        answer = {"message": error.message, "hint": error.hint}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
