"""A run's time on this machine, measured by running it for thirty seconds in a temporary folder.

A rehearsal (train/rehearsal.py) only times a few passes. But a machine that also runs other programs is fast in one
second and slow in the next. So a calibration measures five rounds, each with updates, an evaluation, a sample and a
checkpoint by the real training loop. The differences between the rounds give the interval.
"""

import datetime
import math
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median, stdev

from nudge import config as configs
from nudge.config import Config, ResolvedConfig
from nudge.data.batches import val_windows
from nudge.data.prepare import prepare
from nudge.data.shards import Dataset
from nudge.errors import RunError
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
LONGEST_UPDATE_S = 2.0  # longer updates are measured with fewer passes
EVALUATION_SHARE = 0.15  # of a round
SAVED_EACH_ROUND = 300_000_000  # bytes: a larger checkpoint is written only at the start and the end
# The interval contains one more round with a probability of 90% (Student's t with four degrees of freedom). A small
# spread may be luck and does not predict the next hour, so there is a floor. Above the ceiling the machine is too busy
# for a measurement.
T_OF_90_PERCENT = 2.13 * math.sqrt(1 + 1 / ROUNDS)
FLOOR, CEILING = 0.15, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The measured seconds of each part of a run (medians of the rounds), and the whole run's time.

    `spread`: half the width of the interval, as a share of its middle. `steady`: the rounds agree within the interval.
    """

    config: ResolvedConfig
    step_s: float
    eval_window_s: float
    sample_s: float
    save_s: float
    val_windows: int  # in the whole validation split, which the last evaluation uses
    spread: float
    steady: bool
    took_s: float
    machine: str
    round_step_s: tuple[float, ...]  # the mean update of each round

    @property
    def likely_s(self) -> float:
        """Return the time of the whole run from the first event to the last, without interruptions."""
        return sum(seconds for _, seconds in self.parts())

    @property
    def low_s(self) -> float:
        return self.likely_s * (1 - self.spread)

    @property
    def high_s(self) -> float:
        return self.likely_s * (1 + self.spread)

    @property
    def tokens_per_s(self) -> float:
        """Return the training tokens per second of an update."""
        return self.config.train.batch_tokens / self.step_s

    def parts(self) -> list[tuple[str, float]]:
        """Return the parts of the run's time: (part, seconds)."""
        config, steps = self.config, self.config.train.steps
        windows = _count_events(config.eval.every, steps) * _eval_windows(config, self.val_windows) + self.val_windows
        samples = _count_events(config.sample.every, steps) + 1 if config.sample.every else 0
        return [
            ("updates", steps * self.step_s),
            ("evaluations", windows * self.eval_window_s),
            ("samples", samples * self.sample_s),
            ("checkpoints", (_count_events(config.save.every, steps) + 1) * self.save_s),
        ]


def _count_events(every: int, steps: int) -> int:
    """Count the multiples of `every` from 0 to below `steps`; none if `every` is 0."""
    return math.ceil(steps / every) if every else 0


def _eval_windows(config: Config, val_windows: int) -> int:
    """Return the number of windows of an evaluation during the run."""
    return min(val_windows, math.ceil(config.eval.tokens / config.model.block_size))


def calibrate(config: Config, *, takes_s: float = TAKES_S) -> Calibration:
    """Measure for about `takes_s` seconds after the text is prepared, and store this machine's speed for plans.

    With `train.minutes`, the run has as many updates as fit into that time. Raises: NudgeError, like a run.
    """
    configs.check(config)
    dataset = _prepare(config)
    begun = time.perf_counter()
    config = resolve_data(config, dataset)
    machine = probe(config.machine, config.model)
    resolved = resolve_machine(config, machine)
    rehearsal = rehearse(resolved, make_batches(resolved, dataset))
    resolved = rehearsal.fit_minutes(resolved, val_tokens=len(dataset.val))
    shortened, step_ratio = _shorten_updates(resolved, dataset, rehearsal)
    left_s = takes_s - (time.perf_counter() - begun)
    # Half a round is for the start: the first evaluation, sample and checkpoint.
    shortened = _measuring_config(shortened, rehearsal.step_s / step_ratio, left_s / (ROUNDS + 0.5))
    rounds = _measure(shortened, dataset)
    n_windows = sum(1 for _ in val_windows(dataset.val, config.model.block_size))
    steps_s = [round_.step_s * step_ratio for round_ in rounds]
    spread = T_OF_90_PERCENT * stdev(steps_s) / median(steps_s)
    found = Calibration(
        config=resolved,
        step_s=median(steps_s),
        eval_window_s=median(round_.eval_s for round_ in rounds) / _eval_windows(shortened, n_windows),
        sample_s=median(round_.sample_s for round_ in rounds),
        save_s=median(round_.save_s for round_ in rounds),
        val_windows=n_windows,
        spread=min(max(spread, FLOOR), CEILING),
        steady=spread <= CEILING,
        took_s=time.perf_counter() - begun,
        machine=f"{machine.gpu or machine.cpu}, {machine.threads} thread{'s' if machine.threads != 1 else ''}",
        round_step_s=tuple(steps_s),
    )
    this_machine.remember(_local_speed(found, machine))
    return found


def _prepare(config: Config) -> Dataset:
    """Run the preparation to its end and return the dataset, its generator's return value."""
    preparing = prepare(config.data)
    while True:
        try:
            next(preparing)
        except StopIteration as end:
            dataset: Dataset = end.value
            return dataset


def _local_speed(found: Calibration, machine: Machine) -> LocalSpeed:
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


def _shorten_updates(config: ResolvedConfig, dataset: Dataset, rehearsal: Rehearsal) -> tuple[ResolvedConfig, float]:
    """Return the config with fewer passes per update if updates are too long, and full time / short time."""
    if rehearsal.step_s <= LONGEST_UPDATE_S:
        return config, 1.0
    size = config.train.micro_batch * config.model.block_size
    passes = config.train.batch_tokens // size
    few = max(1, int(passes * LONGEST_UPDATE_S / rehearsal.step_s))
    shortened = replace(config, train=replace(config.train, batch_tokens=few * size))
    if few == passes:
        return config, 1.0
    return shortened, rehearsal.step_s / rehearse(shortened, make_batches(shortened, dataset)).step_s


def _measuring_config(config: ResolvedConfig, step_s: float, round_s: float) -> ResolvedConfig:
    """Return a config whose rounds make updates, evaluate, sample and, for a small model, save."""
    # Besides the evaluation, leave the same share of the round for the sample and the checkpoint.
    every = max(1, int((1 - 2 * EVALUATION_SHARE) * round_s / step_s))
    group = config.train.micro_batch * config.model.block_size
    token_s = step_s / config.train.batch_tokens / 3  # an evaluation has only forward passes
    tokens = max(group, int(EVALUATION_SHARE * round_s / token_s) // group * group)
    small = sizes.checkpoint_bytes(config.model) < SAVED_EACH_ROUND
    return replace(
        config,
        train=replace(config.train, steps=(ROUNDS + 1) * every),  # the last round is never reached
        eval=replace(config.eval, every=every, tokens=min(tokens, config.eval.tokens)),
        sample=replace(config.sample, every=every if config.sample.every else 0),
        save=replace(config.save, every=every if small else ROUNDS * every, keep_last=1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """The measured seconds of one round."""

    step_s: float  # the mean update
    eval_s: float
    sample_s: float
    save_s: float


def _measure(config: ResolvedConfig, dataset: Dataset) -> list[_Round]:
    """Time the rounds of a run in a temporary folder, leaving out the work before update 1."""
    network = GPT(config.model)
    init_weights(network, config.seed)
    network.to(config.machine.device)
    cache = files.cache_folder()  # on a disk, like runs; /tmp may be in memory, where saving costs nothing
    with files.writing(cache):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="calibration-", dir=cache) as place:
            folder = RunFolder(Path(place))
            folder.checkpoints.mkdir()
            events = Trainer(config, network, dataset, folder).events()
            return _time_rounds(events, ends_with=Sample if config.sample.every else Evaluation)


def _time_rounds(events: Iterator[Event], *, ends_with: type[Event]) -> list[_Round]:
    """Time each round; an event's duration is the time since the previous event."""
    rounds: list[_Round] = []
    updates: list[float] = []
    eval_s = sample_s = save_s = 0.0
    before = time.perf_counter()
    for event in events:
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
    raise RunError("calibration_stopped")


def calibrate_in_process(config: Config, *, takes_s: float = TAKES_S) -> Calibration:
    """Run `calibrate` in a separate process, like a run. Raises: NudgeError, like a run."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(calibrate, config, takes_s=takes_s).result()
