"""The figures of a run, computed from its events alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from nudge.events import Evaluation, Event, Sample, Started, Step, Stopped, latest_events

LOSSES = 10  # of the last updates: their median is the loss, since single batches vary


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of a run so far. Losses are in nats per token; None: not measured yet."""

    started: Started | None
    stopped: Stopped | None
    steps: int
    first_loss: float | None
    last_loss: float | None  # the median of the last LOSSES updates
    first_evaluation: Evaluation | None
    last_evaluation: Evaluation | None
    best_evaluation: Evaluation | None
    train_s: float
    tokens: int
    tokens_per_s: float
    samples: tuple[Sample, ...]

    @property
    def flops(self) -> float:
        """The floating-point operations of all updates."""
        return self.tokens * self.started.flops_per_token if self.started else 0.0

    @property
    def peak_share(self) -> float | None:
        """The share of the machine's peak that the updates reached; see `share_of_peak`."""
        return share_of_peak(self.started, self.tokens_per_s) if self.started else None

    @property
    def film(self) -> tuple[Sample, ...]:
        """The samples nearest to updates 0 and 20, to the middle, and to the end: as far as this run came."""
        if not self.samples:
            return ()
        last = self.samples[-1].step
        wanted = {step for step in (0, 20, last // 2, last) if step <= last}
        nearest = {min(self.samples, key=lambda s, w=step: abs(s.step - w)).step for step in wanted}  # type: ignore[misc]
        return tuple(sample for sample in self.samples if sample.step in nearest)


def share_of_peak(started: Started, tokens_per_s: float) -> float | None:
    """Return the share of the peak that this speed is. None: the peak was measured too low, while the machine was busy.

    What trains faster than its peak shows that this was not the peak, so it is not a share of anything known.
    """
    reached = tokens_per_s * started.flops_per_token
    return reached / started.peak_flops if started.peak_flops and reached <= started.peak_flops else None


def summarize(log: Iterable[Event]) -> Summary:
    """Compute the figures of a run, however often it was resumed."""
    events = latest_events(log)
    starts = [event for event in events if isinstance(event, Started)]
    steps = [event for event in events if isinstance(event, Step)]
    evaluations = [event for event in events if isinstance(event, Evaluation)]
    started = starts[-1] if starts else None
    train_s = steps[-1].train_s if steps else 0.0
    tokens = steps[-1].step * started.batch_tokens if steps and started else 0
    ends = [event for event in events if isinstance(event, Stopped)]
    return Summary(
        started=started,
        stopped=ends[-1] if ends else None,
        steps=steps[-1].step if steps else 0,
        first_loss=steps[0].loss if steps else None,
        last_loss=median(step.loss for step in steps[-LOSSES:]) if steps else None,
        first_evaluation=evaluations[0] if evaluations else None,
        last_evaluation=evaluations[-1] if evaluations else None,
        best_evaluation=min(evaluations, key=lambda event: event.loss) if evaluations else None,
        train_s=train_s,
        tokens=tokens,
        tokens_per_s=tokens / train_s if train_s else 0.0,
        samples=tuple(event for event in events if isinstance(event, Sample)),
    )
