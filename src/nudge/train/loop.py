"""The training loop: sample windows, predict the next token, loss, update. A run is an iterator of events.

Everything an update depends on is in the checkpoint or a pure function of the config and the step, so a run that is
stopped anywhere and resumed makes the same updates, bit for bit on a CPU, as one that was never stopped.
"""

import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nudge import events
from nudge.config import Config
from nudge.data.batches import Batches, Window, val_windows
from nudge.data.shards import Dataset
from nudge.distributed import sharded_checkpoint
from nudge.distributed.parallel import is_sharded, load_weights, whole_network
from nudge.distributed.world import ALONE, World
from nudge.eval.loss import score
from nudge.events import Evaluation, RunEvent, Sample, Saved, Skipped, Step
from nudge.infer.engine import write_sample
from nudge.model.gpt import GPT
from nudge.optim.schedule import learning_rate
from nudge.runs import checkpoint
from nudge.runs.checkpoint import Checkpoint
from nudge.runs.folder import RunFolder
from nudge.train import control
from nudge.train.update import AutogradUpdate, make_update


@dataclass(frozen=True, slots=True)
class _Update:
    """An update that was handed to the device. On a GPU its numbers are not known until the device is waited for."""

    step: int  # how many updates are made with this one
    lr: float
    loss: Tensor
    grad_norm: Tensor
    begun: float


class Trainer:
    """One run: what changes (network, optimizer, step) and what it works with (batches, folder)."""

    def __init__(self, config: Config, network: GPT, dataset: Dataset, folder: RunFolder, world: World = ALONE) -> None:
        self.config = config
        self.world = world
        self.network = network
        self.dataset = dataset
        self.folder = folder
        self.device = network.wte.weight.device
        self.sharded = is_sharded(network.wte.weight)
        self.update = make_update(network, config, world)
        self.batches = make_batches(config, dataset)
        self.step = 0  # updates made
        self.skipped_in_a_row = 0
        self.train_s = 0.0  # spent on updates, over all resumptions
        self._in_flight: deque[_Update] = deque()  # in the weights already, but not counted in `step`
        self._reported = 0.0  # when the last update's numbers were read
        self._saved_step = -1
        self._word = ""  # of the control file, as all processes heard it

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint. Raises: CheckpointError if it is of another model."""
        if saved.path.is_dir() and isinstance(self.update, AutogradUpdate) and self.sharded:
            with self.world.watched():
                self.update.load_parts(saved)
        elif self.sharded:
            load_weights(self.network, saved.model.items())
            self.update.load_state(saved.optimizer or {})
        else:
            self.network.load_state_dict(saved.model)
            self.update.load_state(saved.optimizer or {})
        self.step, self.skipped_in_a_row, self.train_s = saved.step, saved.skipped_in_a_row, saved.train_s
        if saved.rng is not None:
            torch.set_rng_state(saved.rng)

    def events(self, *, already: frozenset[tuple[type, int]] = frozenset()) -> Iterator[RunEvent]:
        """Make the remaining updates and tell of them. `already`: events that a run before told of (kind, step).

        A consumer that stops iterating ends the run: the last finished update is then saved.
        """
        if (Saved, self.step) in already:  # else it is saved once more, so that the log tells of every save
            self._saved_step = self.step
        try:
            self._listen()
            yield from self._milestone(already)
            yield from self._updates()
        except GeneratorExit:
            if self.world.size > 1:  # the others do not know of it, and nothing can be done without them
                raise
            while self._in_flight:
                self._end_update(self._in_flight.popleft())
            if self._saved_step != self.step:
                self._save()
            raise

    def _updates(self) -> Iterator[RunEvent]:
        in_flight = self._in_flight
        while self.step + len(in_flight) < self.config.train.steps:
            with self.world.watched(self.step):
                update = self._begin_update(self.step + len(in_flight))
            if update is not None:
                in_flight.append(update)
            # Reading a number waits for a GPU to catch up, so there it is read while the next update is under way -
            # unless what follows needs it now.
            needed_now = (
                update is None
                or self.skipped_in_a_row > 0
                or self._is_milestone(self.step + len(in_flight))
                or self._heard() == "save"
            )
            read_late = self.device.type == "cuda" and not needed_now
            while len(in_flight) > (1 if read_late else 0):
                yield self._end_update(in_flight.popleft())
            if in_flight:
                continue
            if self.skipped_in_a_row >= self.config.train.max_skipped:
                yield from self._stop("diverged", self._advice())
                return
            if update is None:
                yield from self._stop("interrupted")
                return
            yield from self._milestone()
        self._listen()
        if self._heard() == "stop":  # while the last evaluation was under way: resuming makes it again
            yield from self._stop("interrupted")
        else:
            yield events.Stopped(step=self.step, time=time.time(), reason="finished")

    def _begin_update(self, done: int) -> _Update | None:
        """Hand update number `done` (from 0) to the device; None if a person asked to stop before it was complete."""
        self._listen()
        begun = time.perf_counter()
        n = self.batches.n_sequences
        x, y = (torch.from_numpy(array) for array in self.batches(done, self.world.part(n)))
        size = self.config.train.micro_batch or len(x)
        loss = torch.zeros((), device=self.device)
        for start in range(0, len(x), size):
            if self._heard() == "stop":
                self.update.forget()
                return None
            part = slice(start, start + size)
            loss += self.update.forward_backward(
                self._on_device(x[part]), self._on_device(y[part]), size / n, last=start + size >= len(x)
            )
        self.world.sum(loss)
        lr = learning_rate(self.config.train, done)
        grad_norm = self.update.step(lr, loss)
        return _Update(done + 1, lr, loss, grad_norm, begun)

    def _on_device(self, tokens: Tensor) -> Tensor:
        return tokens.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tokens

    def _end_update(self, update: _Update) -> Step | Skipped:
        with self.world.watched(self.step):  # a GPU's conversations fail where they are waited for
            loss, grad_norm = update.loss.item(), update.grad_norm.item()
        now = time.perf_counter()
        step_s = now - max(update.begun, self._reported)
        self._reported = now
        self.step = update.step
        self.train_s += step_s
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            self.skipped_in_a_row += 1
            return Skipped(
                step=self.step, time=time.time(), loss=loss, grad_norm=grad_norm, in_a_row=self.skipped_in_a_row
            )
        self.skipped_in_a_row = 0
        return Step(
            step=self.step,
            time=time.time(),
            loss=loss,
            lr=update.lr,
            grad_norm=grad_norm,
            tokens_per_s=self.config.train.batch_tokens / step_s,
            step_s=step_s,
            train_s=self.train_s,
        )

    def _listen(self) -> None:
        """Hear what a person asks for. One process hears it itself, at any time; several must hear the same at the same
        moment, and as their launcher's end concerns all of them, so must they of that."""
        if self.world.size == 1:
            return
        while True:
            word = control.word(self.folder) if self.world.is_rank0 else ""
            self._word = self.world.agree("stop" if self.world.is_orphan else word)
            if self._word != "pause":
                return
            time.sleep(control.POLL_S)

    def _heard(self) -> str:
        """The word that holds now; a single process waits out a `pause` here."""
        return control.heard(self.folder) if self.world.size == 1 else self._word

    def _clear(self) -> None:
        """The word was heard."""
        self._word = ""
        if self.world.is_rank0:
            control.clear(self.folder)

    # What happens between two updates: a save comes first, so that nothing that follows can cost a finished update.

    def _is_milestone(self, step: int) -> bool:
        every = (self.config.save.every, self.config.eval.every, self.config.sample.every)
        return step == self.config.train.steps or any(n and step % n == 0 for n in every)

    def _milestone(self, already: frozenset[tuple[type, int]] = frozenset()) -> Iterator[RunEvent]:
        config, step = self.config, self.step
        last = step == config.train.steps
        asked = self._heard() == "save"
        if asked:
            self._clear()
        if self._saved_step != step and (asked or last or step % config.save.every == 0):
            yield self._save()
        if (Evaluation, step) not in already and (last or (config.eval.every and step % config.eval.every == 0)):
            yield from self._evaluate(whole_split=last)
        if (Sample, step) not in already and config.sample.every and (last or step % config.sample.every == 0):
            yield self._sample()

    def _save(self) -> Saved:
        begun = time.perf_counter()
        state = self.update.state()
        now = Checkpoint(
            step=self.step,
            config=self.config,
            model={} if self.sharded else self.network.state_dict(),
            optimizer={} if self.sharded else state,
            skipped_in_a_row=self.skipped_in_a_row,
            train_s=self.train_s,
            rng=torch.get_rng_state(),
            data_fingerprint=self.dataset.fingerprint,
            tokenizer_sha256=self.dataset.tokenizer.sha256,
        )
        if self.sharded:
            saved = sharded_checkpoint.save(self.folder, now, sharded_checkpoint.named(self.network, state), self.world)
        else:
            saved = self.world.run_on_rank0(lambda: checkpoint.save(self.folder, now))
        if self.world.is_rank0:
            checkpoint.prune(self.folder, self.config.save)
        self._saved_step = self.step
        return Saved(
            step=self.step,
            time=time.time(),
            path=str(saved.path.relative_to(self.folder.path)),
            n_bytes=saved.n_bytes,
            sha256=saved.sha256,
            save_s=time.perf_counter() - begun,
        )

    def _evaluate(self, *, whole_split: bool) -> Iterator[Evaluation]:
        """The validation loss; nothing if a person asked to stop meanwhile."""
        limit = None if whole_split else self.config.eval.tokens
        with self.world.watched(self.step):
            result = score(
                self.update.loss,
                self._until_asked_to_stop(
                    val_windows(
                        self.dataset.val, self.config.model.block_size, limit, vocab_size=self.config.model.vocab_size
                    )
                ),
                n_bytes=self.dataset.tokenizer.n_bytes,
                device=self.device,
                at_once=(self.config.train.micro_batch or 1) * self.config.model.block_size,  # fits, as training does
                world=self.world,
            )
        if self._heard() != "stop":
            yield Evaluation(
                step=self.step,
                time=time.time(),
                loss=result.loss,
                bits_per_byte=result.bits_per_byte,
                tokens=result.tokens,
                whole_split=whole_split,
            )

    def _until_asked_to_stop(self, windows: Iterator[Window]) -> Iterator[Window]:
        for window in windows:
            if self._heard() == "stop":
                return
            yield window

    def _sample(self) -> Sample:
        sample = self.config.sample
        with self.world.watched(self.step):
            network = whole_network(self.network, self.world) if self.sharded else self.network
        text = self.world.run_on_rank0(lambda: write_sample(network, self.dataset.tokenizer, sample))
        return Sample(step=self.step, time=time.time(), prompt=sample.prompt or "", text=text, seed=sample.seed)

    def _stop(self, reason: Literal["interrupted", "diverged"], hint: str = "") -> Iterator[RunEvent]:
        if self._saved_step != self.step:
            yield self._save()
        self._clear()
        yield events.Stopped(step=self.step, time=time.time(), reason=reason, hint=hint)

    def _advice(self) -> str:
        return (
            f"{self.skipped_in_a_row} updates in a row had no finite loss or gradient: start again with a smaller "
            f"learning rate (--set train.lr={self.config.train.lr / 3:.1g}) or a longer warm-up, or compute in float32 "
            "(--set machine.dtype=float32)"
        )


def make_batches(config: Config, dataset: Dataset) -> Batches:
    """The training batches of a run."""
    return Batches(
        dataset.train,
        block_size=config.model.block_size,
        n_sequences=config.train.batch_tokens // config.model.block_size,
        seed=config.seed,
        vocab_size=config.model.vocab_size,
    )
