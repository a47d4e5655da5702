"""What a run measured, and what follows from it by rules that its sheet shows beside the figures. No torch."""

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from nudge import config as configs
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
from nudge.runs.summary import Summary, summarize
from nudge.sheet.fields import LARGEST
from nudge.util import files

NEAR = 0.05  # of ln V: a first loss this close to it is a guess among all tokens
CLEARLY = 0.01  # of ln V: losses that differ by less are taken for the same
SOLVED = 0.98  # of the way from ln V to 0: there is little left to learn

Trend = Literal["overfitting", "unsteady", "falling", "flat", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """A run with at least one update and one evaluation after it. Losses in nats per token."""

    folder: Path
    written: dict[str, Any]  # run.json
    config: Config
    tokenizer: Tokenizer
    dataset: Dataset | None  # None: its prepared text is not here any more
    told: tuple[Event, ...]
    summary: Summary
    started: Started
    state: State
    steps: tuple[Step, ...]  # those with a loss that a chart has room for, as the evaluations
    evaluations: tuple[Evaluation, ...]
    best: Evaluation
    last: Evaluation

    @property
    def n_skipped(self) -> int:
        return sum(isinstance(event, Skipped) for event in self.told)

    @property
    def resumed_at(self) -> tuple[int, ...]:
        """After how many updates it was stopped and went on."""
        return tuple(event.step for event in self.told if isinstance(event, Started) and event.resumed_from)

    @property
    def guess(self) -> float:
        """The loss of who thinks all tokens equally likely: ln V."""
        return math.log(self.config.model.vocab_size)

    @property
    def clear(self) -> float:
        """What two losses must differ by, or they are taken for the same."""
        return CLEARLY * self.guess

    @property
    def learned(self) -> float:
        """The share of the way from a guess to certainty; below 0, it is worse than a guess."""
        return 1 - self.last.loss / self.guess if self.guess else 0.0

    @property
    def bytes_per_token(self) -> float | None:
        """Of validation text, by its loss in two units; None where its tokens stand for no bytes."""
        bits = self.last.bits_per_byte
        return self.last.loss / math.log(2) / bits if 0 < bits < math.inf else None

    @property
    def tokens_per_parameter(self) -> float:
        return self.summary.tokens / self.started.n_params

    @property
    def steps_to_optimum(self) -> int:
        """Updates after which it has read the tokens that are worth most for their compute."""
        return math.ceil(CHINCHILLA * self.started.n_params / self.started.batch_tokens)

    @property
    def epochs(self) -> float | None:
        """How often it has read its training text; None: that text is not here."""
        if self.dataset is None:
            return None
        block_size, records = self.config.model.block_size, self.dataset.manifest.records
        n_windows = self.dataset.manifest.train.n_tokens // (records.n_tokens if records else block_size)
        return self.summary.steps * self.started.batch_tokens / block_size / n_windows

    def train_loss(self, step: int) -> float | None:
        """The median of the last ten batches before an evaluation, as single batches differ; at 0, of the first."""
        before = [made.loss for made in self.steps if made.step <= max(step, 1)]
        return median(before[-10:]) if before else None

    @property
    def earlier(self) -> Evaluation | None:
        """The newest evaluation before the last quarter."""
        return next((one for one in reversed(self.evaluations) if one.step <= 0.75 * self.last.step), None)

    @property
    def trend(self) -> Trend:
        """Where the validation loss goes, and whether the training loss goes there too."""
        if self.last.loss > self.best.loss + self.clear:
            now, then = self.train_loss(self.last.step), self.train_loss(self.best.step)
            return "overfitting" if now is not None and then is not None and now < then else "unsteady"
        if self.earlier is None:
            return "unknown"
        return "falling" if self.last.loss < self.earlier.loss - self.clear else "flat"


def read(path: Path) -> MeasuredRun:
    """What a run folder says. Raises: SheetError for one of which there is nothing to draw, saying why."""
    folder = RunFolder(path)
    written, config = _run_json(folder)
    told = tuple(events.read(folder.events))
    summary = summarize(told)
    state = state_of(folder, summary.steps, summary.started, summary.stopped)
    evaluations = tuple(event for event in told if isinstance(event, Evaluation) and abs(event.loss) <= LARGEST)
    steps = tuple(event for event in told if isinstance(event, Step) and abs(event.loss) <= LARGEST)
    if summary.started is None or not steps or not evaluations or evaluations[-1].step == 0:
        raise _nothing_measured(folder, config, summary, state, told)
    return MeasuredRun(
        folder=path,
        written=written,
        config=config,
        tokenizer=tokenizers.load(folder.tokenizer),
        dataset=_dataset(written),
        told=told,
        summary=summary,
        started=summary.started,
        state=state,
        steps=steps,
        evaluations=evaluations,
        best=min(evaluations, key=lambda event: event.loss),
        last=evaluations[-1],
    )


def _run_json(folder: RunFolder) -> tuple[dict[str, Any], Config]:
    path = folder.path
    if not folder.run_json.exists():
        if folder.ckpt.exists():
            raise SheetError(
                f"{path} is an imported model: there are no events of its training to draw",
                f"'nudge inspect {path}' shows what is in it; 'nudge train --init {path} --data TEXT' trains it on",
            )
        raise SheetError(f"{path} is no run folder: it has no run.json", "'nudge runs' lists the runs here")
    try:
        written = files.read_json(folder.run_json)
        return written, configs.from_dict(written["config"])
    except NudgeError as error:
        why = error.message
    except (KeyError, TypeError, AttributeError):
        why = "it has no config"
    raise SheetError(f"{folder.run_json} is damaged: {why}", "restore it from a copy; 'nudge runs' lists other runs")


def _nothing_measured(
    folder: RunFolder, config: Config, summary: Summary, state: State, told: tuple[Event, ...]
) -> SheetError:
    """Why there is no sheet, and what makes one possible."""
    steps = summary.started.steps if summary.started else config.train.steps
    if state == "diverged" and summary.stopped:
        in_a_row = max((event.in_a_row for event in told if isinstance(event, Skipped)), default=0)
        return SheetError(
            f"{folder.path} failed at update {summary.stopped.step:,} of {steps:,}: loss or gradient was not finite "
            f"{in_a_row} times in a row, so nothing was learned that a sheet could show",
            summary.stopped.hint or f"a lower learning rate: nudge train --set train.lr={config.train.lr / 3:.1g}",
        )
    every = config.eval.every
    due = f"update {min(every, steps):,}" if every else f"the last update, {steps:,}"
    wait = "wait until then" if state == "running" else f"go on with it: nudge resume {folder.path}"
    return SheetError(
        f"{folder.path} has no evaluation yet (update {summary.steps:,} of {steps:,}; the first after training is at "
        f"{due})",
        wait,
    )


def _dataset(written: dict[str, Any]) -> Dataset | None:
    """The prepared text of a run, if it is still where it was."""
    with contextlib.suppress(NudgeError, KeyError, TypeError):
        dataset = open_dataset(Path(written["data"]["dir"]))
        if dataset.fingerprint == written["data"]["fingerprint"]:
            return dataset
    return None
