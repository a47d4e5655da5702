"""The measurements of a run, and conclusions by fixed rules, for its sheet. No torch."""

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal, NoReturn

from nudge import events
from nudge.config import Config
from nudge.data import tokenizer as tokenizers
from nudge.data.shards import Dataset, open_dataset
from nudge.data.tokenizer import Tokenizer
from nudge.errors import NudgeError, SheetError
from nudge.events import Evaluation, Event, Skipped, Started, Step
from nudge.plan.planner import CHINCHILLA
from nudge.runs.folder import RunFolder
from nudge.runs.listing import State, state_of
from nudge.runs.run_json import PreparedText, RunJson
from nudge.runs.summary import Summary, summarize
from nudge.sheet.fields import LARGEST

NEAR = 0.05  # of ln V: a first loss this close to ln V is like a guess among all tokens
CLEARLY = 0.01  # of ln V: losses that differ by less count as equal
SOLVED = 0.98  # share by which a loss is below ln V after which little is left to learn

Trend = Literal["overfitting", "unsteady", "falling", "flat", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a sheet shows of the machine."""

    cpu: str
    gpu: str | None
    update: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRunJson(RunJson):
    """What is read of run.json for a sheet."""

    machine: Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """A run with at least one update and one evaluation after it. Losses in nats per token."""

    folder: Path
    run_json: SheetRunJson
    tokenizer: Tokenizer
    dataset: Dataset | None  # None: the prepared text is gone
    events: tuple[Event, ...]
    summary: Summary
    started: Started
    state: State
    steps: tuple[Step, ...]  # only with losses up to LARGEST, which a chart can show
    evaluations: tuple[Evaluation, ...]  # likewise
    best: Evaluation
    last: Evaluation

    @property
    def config(self) -> Config:
        return self.run_json.config

    @property
    def n_skipped(self) -> int:
        return sum(isinstance(event, Skipped) for event in self.events)

    @property
    def n_resumed(self) -> int:
        return sum(isinstance(event, Started) and bool(event.resumed_from) for event in self.events)

    @property
    def guess(self) -> float:
        """Return the loss if all tokens are equally likely: ln V."""
        return math.log(self.config.model.vocab_size)

    @property
    def least_difference(self) -> float:
        """Return the least difference at which two losses do not count as equal."""
        return CLEARLY * self.guess

    @property
    def learned(self) -> float:
        """Return the share by which the loss is below a guess's; negative if the run is worse than a guess."""
        return 1 - self.last.loss / self.guess if self.guess else 0.0

    @property
    def bytes_per_token(self) -> float | None:
        """Return the bytes per token of the validation text, from its loss in two units; None if there are no bytes."""
        bits = self.last.bits_per_byte
        return self.last.loss / math.log(2) / bits if 0 < bits < math.inf else None

    @property
    def tokens_per_parameter(self) -> float:
        return self.summary.tokens / self.started.n_params

    @property
    def steps_to_optimum(self) -> int:
        """Return the number of updates after which the run has a compute-optimal number of tokens."""
        return math.ceil(CHINCHILLA * self.started.n_params / self.started.batch_tokens)

    @property
    def epochs(self) -> float | None:
        """Return how many times the run has read its training text; None if that text is gone."""
        if self.dataset is None:
            return None
        block_size, records = self.config.model.block_size, self.dataset.manifest.records
        n_windows = self.dataset.manifest.train.n_tokens // (records.n_tokens if records else block_size)
        return self.summary.steps * self.started.batch_tokens / block_size / n_windows

    def train_loss(self, step: int) -> float | None:
        """Return the median loss of the last ten batches up to `step`, because single batches vary."""
        before = [event.loss for event in self.steps if event.step <= max(step, 1)]
        return median(before[-10:]) if before else None

    @property
    def earlier_evaluation(self) -> Evaluation | None:
        """Return the newest evaluation before the last quarter of the updates."""
        return next((event for event in reversed(self.evaluations) if event.step <= 0.75 * self.last.step), None)

    @property
    def trend(self) -> Trend:
        """Return the direction of the validation loss. If it rises while the training loss falls: overfitting."""
        if self.last.loss > self.best.loss + self.least_difference:
            now, then = self.train_loss(self.last.step), self.train_loss(self.best.step)
            return "overfitting" if now is not None and then is not None and now < then else "unsteady"
        if self.earlier_evaluation is None:
            return "unknown"
        return "falling" if self.last.loss < self.earlier_evaluation.loss - self.least_difference else "flat"


def read(path: Path) -> MeasuredRun:
    """Read a run folder. Raises: SheetError if there is nothing to draw."""
    folder = RunFolder(path)
    run_json = _run_json(folder)
    recorded = tuple(events.read(folder.events))
    summary = summarize(recorded)
    state = state_of(folder, summary.steps, summary.started, summary.stopped)
    evaluations = tuple(event for event in recorded if isinstance(event, Evaluation) and abs(event.loss) <= LARGEST)
    steps = tuple(event for event in recorded if isinstance(event, Step) and abs(event.loss) <= LARGEST)
    if summary.started is None or not steps or not evaluations or evaluations[-1].step == 0:
        _refuse(folder, run_json.config, summary, state, recorded)
    return MeasuredRun(
        folder=path,
        run_json=run_json,
        tokenizer=tokenizers.load(folder.tokenizer),
        dataset=_dataset(run_json.data),
        events=recorded,
        summary=summary,
        started=summary.started,
        state=state,
        steps=steps,
        evaluations=evaluations,
        best=min(evaluations, key=lambda event: event.loss),
        last=evaluations[-1],
    )


def _run_json(folder: RunFolder) -> SheetRunJson:
    if not folder.run_json.exists():
        if folder.ckpt.exists():
            raise SheetError("imported_model", path=folder.path)
        raise SheetError("no_run", path=folder.path)
    return folder.read_json(SheetRunJson)


def _refuse(folder: RunFolder, config: Config, summary: Summary, state: State, recorded: tuple[Event, ...]) -> NoReturn:
    """Raise SheetError with the reason why there is no sheet yet."""
    path, step = folder.path, summary.steps
    steps = summary.started.steps if summary.started else config.train.steps
    due = min(config.eval.every or steps, steps)
    if state == "diverged" and summary.stopped:
        in_a_row = max((event.in_a_row for event in recorded if isinstance(event, Skipped)), default=0)
        hint = summary.stopped.hint
        raise SheetError("diverged", path=path, step=summary.stopped.step, steps=steps, in_a_row=in_a_row, advice=hint)
    if state == "running":
        raise SheetError("wait_for_evaluation", path=path, step=step, steps=steps, due=due)
    raise SheetError("no_evaluation", path=path, step=step, steps=steps, due=due)


def _dataset(text: PreparedText) -> Dataset | None:
    """Return the prepared text of a run; None if it is gone or has changed."""
    with contextlib.suppress(NudgeError):
        dataset = open_dataset(Path(text.dir))
        if dataset.fingerprint == text.fingerprint:
            return dataset
    return None
