"""The training loop: draw windows, predict each next token, compute the loss, update. A run is an iterator of events.

Everything that an update depends on is in the checkpoint or a pure function of the config and the step. A run that is
stopped anywhere and resumed makes the same updates, bit for bit on a CPU, as one that was never stopped.
"""

import math
import time
from collections.abc import Generator, Iterator
from typing import Literal

import torch
from torch import Tensor

from nudge import events
from nudge.config import Config, ResolvedConfig
from nudge.data.batches import Batches, Window, val_windows
from nudge.data.shards import Dataset
from nudge.distributed.parallel import is_sharded, whole_network
from nudge.distributed.world import ALONE, World
from nudge.eval.loss import score
from nudge.events import Evaluation, RunEvent, Sample, Saved, Skipped, Step
from nudge.infer.engine import write_sample
from nudge.model.gpt import GPT
from nudge.optim.schedule import learning_rate
from nudge.runs.checkpoint import Checkpoint
from nudge.runs.folder import RunFolder
from nudge.train.checkpointer import Checkpointer, Progress
from nudge.train.control import Control
from nudge.train.pending import PendingUpdates, SubmittedUpdate
from nudge.train.update import make_update

DIVERGED_HINT = (
    "{n} updates in a row had no finite loss or gradient: start again with a smaller learning rate "
    "(--set train.lr={lr:.1g}) or a longer warm-up, or compute in float32 (--set machine.dtype=float32)"
)


class Trainer:
    """The loop of a run: it draws a batch, updates the network, and yields the events."""

    def __init__(
        self, config: ResolvedConfig, network: GPT, dataset: Dataset, folder: RunFolder, world: World = ALONE
    ) -> None:
        self.config, self.network, self.dataset, self.folder, self.world = config, network, dataset, folder, world
        self.device = network.wte.weight.device
        self.sharded = is_sharded(network.wte.weight)
        self.update = make_update(network, config, world)
        self.batches = make_batches(config, dataset)
        self.control = Control(folder, world)
        self.checkpointer = Checkpointer(folder, config, network, self.update, dataset, world)
        self.progress = Progress()
        self.pending = PendingUpdates(self.device.type)  # submitted, but not counted in `progress`
        self._read_at = 0.0  # when the last update's loss and gradient norm were read

    def restore(self, saved: Checkpoint) -> None:
        """Continue from a checkpoint. Raises: CheckpointError if it belongs to another model."""
        self.progress = self.checkpointer.restore(saved)

    def events(self, *, logged_events: frozenset[tuple[type, int]] = frozenset()) -> Generator[RunEvent, None, None]:
        """Make the remaining updates and yield their events.

        `logged_events`: the (kind, step) of the events in the log; they are not repeated for the current step. If the
        caller stops iterating, the last finished update is saved.
        """
        if (Saved, self.progress.step) in logged_events:  # else it is saved again, so that the log has every save
            self.checkpointer.saved_step = self.progress.step
        try:
            self.control.sync()
            yield from self._milestone(logged_events)
            yield from self._updates()
        except GeneratorExit:
            if self.world.size > 1:  # a save would need the other processes, which do not know of the end
                raise
            for update in self.pending.take(everything=True):
                self._read(update)
            if self.checkpointer.saved_step != self.progress.step:
                self.checkpointer.save(self.progress)
            raise

    def _updates(self) -> Iterator[RunEvent]:
        """Make updates until the last one, a control word `stop`, or too many updates without a finite loss."""
        while (done := self.progress.step + len(self.pending)) < self.config.train.steps:
            with self.world.watch_processes():
                update = self._submit(done)
            if update is not None:
                self.pending.add(update)
            for made in self.pending.take(everything=update is None or self._needs_numbers(done + 1)):
                yield self._read(made)
            if self.pending:
                continue
            if self.progress.skipped_in_a_row >= self.config.train.max_skipped:
                hint = DIVERGED_HINT.format(n=self.progress.skipped_in_a_row, lr=self.config.train.lr / 3)
                yield from self._stop("diverged", hint)
                return
            if update is None:
                yield from self._stop("interrupted")
                return
            yield from self._milestone()
        self.control.sync()
        if self.control.word() == "stop":  # during the last evaluation, which is made again on resume
            yield from self._stop("interrupted")
        else:
            yield events.Stopped(step=self.progress.step, time=time.time(), reason="finished")

    def _submit(self, done: int) -> SubmittedUpdate | None:
        """Submit update number `done` (from 0) to the device; return None if the word `stop` comes meanwhile."""
        self.control.sync()
        begun = time.perf_counter()
        n, size = self.batches.n_sequences, self.config.train.micro_batch
        x, y = (torch.from_numpy(array) for array in self.batches(done, self.world.part(n)))
        loss = torch.zeros((), device=self.device)
        for start in range(0, len(x), size):
            if self.control.word() == "stop":
                self.update.forget()
                return None
            part = slice(start, start + size)
            tokens, targets = self._to_device(x[part]), self._to_device(y[part])
            loss += self.update.forward_backward(tokens, targets, size / n, last=start + size >= len(x))
        self.world.sum(loss)
        lr = learning_rate(self.config.train, done)
        grad_norm = self.update.step(lr, loss)
        return SubmittedUpdate(done + 1, lr, loss, grad_norm, begun)

    def _to_device(self, tokens: Tensor) -> Tensor:
        on_cuda = self.device.type == "cuda"
        return (tokens.pin_memory() if on_cuda else tokens).to(self.device, non_blocking=on_cuda)

    def _needs_numbers(self, step: int) -> bool:
        """Return whether the work after update `step` depends on its loss and gradient norm."""
        return self.progress.skipped_in_a_row > 0 or self._is_milestone(step) or self.control.word() == "save"

    def _read(self, update: SubmittedUpdate) -> Step | Skipped:
        """Wait for an update's loss and gradient norm, count the update, and return its event."""
        with self.world.watch_processes():  # a failed exchange between GPUs raises only here
            loss, grad_norm = update.loss.item(), update.grad_norm.item()
        now, progress = time.perf_counter(), self.progress
        step_s = now - max(update.begun_s, self._read_at)
        self._read_at = now
        progress.step = update.step
        progress.train_s += step_s
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            progress.skipped_in_a_row += 1
            return Skipped(
                step=update.step,
                time=time.time(),
                loss=loss,
                grad_norm=grad_norm,
                in_a_row=progress.skipped_in_a_row,
            )
        progress.skipped_in_a_row = 0
        return Step(
            step=update.step,
            time=time.time(),
            loss=loss,
            lr=update.lr,
            grad_norm=grad_norm,
            tokens_per_s=self.config.train.batch_tokens / step_s,
            step_s=step_s,
            train_s=progress.train_s,
        )

    # Between two updates. The save comes first, so that a failure after it loses no finished update.

    def _is_milestone(self, step: int) -> bool:
        """Return whether a save, an evaluation or a sample follows update `step`."""
        every = (self.config.save.every, self.config.eval.every, self.config.sample.every)
        return step == self.config.train.steps or any(n and step % n == 0 for n in every)

    def _milestone(self, logged_events: frozenset[tuple[type, int]] = frozenset()) -> Iterator[RunEvent]:
        """Save, evaluate and sample, as far as they are due after this step and not in the log."""
        config, step = self.config, self.progress.step
        last = step == config.train.steps
        save_now = self.control.word() == "save"
        if save_now:
            self.control.clear()
        if self.checkpointer.saved_step != step and (save_now or last or step % config.save.every == 0):
            yield self.checkpointer.save(self.progress)
        if (Evaluation, step) not in logged_events and (last or (config.eval.every and step % config.eval.every == 0)):
            yield from self._evaluate(whole_split=last)
        if (Sample, step) not in logged_events and config.sample.every and (last or step % config.sample.every == 0):
            yield self._sample()

    def _evaluate(self, *, whole_split: bool) -> Iterator[Evaluation]:
        """Yield the validation loss, or nothing if the control word is `stop` at the end."""
        model, limit = self.config.model, None if whole_split else self.config.eval.tokens
        windows = val_windows(self.dataset.val, model.block_size, limit, vocab_size=model.vocab_size)
        with self.world.watch_processes():
            result = score(
                self.update.loss,
                self._end_when_stopped(windows),
                n_bytes=self.dataset.tokenizer.n_bytes,
                device=self.device,
                at_once=self.config.train.micro_batch * model.block_size,  # training reads as many at once, so they fit
                world=self.world,
            )
        if self.control.word() != "stop":
            yield Evaluation(
                step=self.progress.step,
                time=time.time(),
                loss=result.loss,
                bits_per_byte=result.bits_per_byte,
                tokens=result.tokens,
                whole_split=whole_split,
            )

    def _end_when_stopped(self, windows: Iterator[Window]) -> Iterator[Window]:
        """Yield windows until the control word is `stop`."""
        for window in windows:
            if self.control.word() == "stop":
                return
            yield window

    def _sample(self) -> Sample:
        """Write a sample on process 0; if the weights are sharded, gather them there first."""
        step, sample = self.progress.step, self.config.sample
        with self.world.watch_processes():
            network = whole_network(self.network, self.world) if self.sharded else self.network
        text = self.world.run_on_rank0(lambda: write_sample(network, self.dataset.tokenizer, sample))
        return Sample(step=step, time=time.time(), prompt=sample.prompt, text=text, seed=sample.seed)

    def _stop(self, reason: Literal["interrupted", "diverged"], hint: str = "") -> Iterator[RunEvent]:
        """Save the last finished update and end the run."""
        if self.checkpointer.saved_step != self.progress.step:
            yield self.checkpointer.save(self.progress)
        self.control.clear()
        yield events.Stopped(step=self.progress.step, time=time.time(), reason=reason, hint=hint)


def make_batches(config: Config, dataset: Dataset) -> Batches:
    """Return the training batches of a run."""
    return Batches(
        dataset.train,
        block_size=config.model.block_size,
        n_sequences=config.train.batch_tokens // config.model.block_size,
        seed=config.seed,
        vocab_size=config.model.vocab_size,
    )
