"""The state of a run, saved and restored: in one file or, if the weights are sharded, in one file per process."""

import time
from dataclasses import dataclass

import torch

from nudge.config import ResolvedConfig
from nudge.data.shards import Dataset
from nudge.distributed import sharded_checkpoint
from nudge.distributed.parallel import is_sharded, load_weights
from nudge.distributed.world import World
from nudge.events import Saved
from nudge.model.gpt import GPT
from nudge.runs import checkpoint
from nudge.runs.checkpoint import Checkpoint
from nudge.runs.folder import RunFolder
from nudge.train.update import AutogradUpdate, Update


@dataclass(slots=True)
class Progress:
    """The progress of a run. Together with the network and the optimizer it is all that changes during a run."""

    step: int = 0  # updates made
    skipped_in_a_row: int = 0
    train_s: float = 0.0  # spent on updates, over all resumptions


class Checkpointer:
    """The checkpoints of one network and its optimizer in a run folder: written, pruned and restored."""

    def __init__(
        self, folder: RunFolder, config: ResolvedConfig, network: GPT, update: Update, dataset: Dataset, world: World
    ) -> None:
        self.folder, self.config, self.world = folder, config, world
        self.network, self.update = network, update
        self.dataset = dataset
        self.sharded = is_sharded(network.wte.weight)
        self.saved_step = -1  # of the last checkpoint

    def save(self, progress: Progress) -> Saved:
        """Write a checkpoint and delete old ones. Raises: MachineError if it cannot be written."""
        begun = time.perf_counter()
        optimizer = self.update.state()
        state = Checkpoint(
            step=progress.step,
            config=self.config,
            model={} if self.sharded else self.network.state_dict(),
            optimizer={} if self.sharded else optimizer,
            skipped_in_a_row=progress.skipped_in_a_row,
            train_s=progress.train_s,
            rng=torch.get_rng_state(),
            data_fingerprint=self.dataset.fingerprint,
            tokenizer_sha256=self.dataset.tokenizer.sha256,
        )
        if self.sharded:
            tensors = sharded_checkpoint.named_tensors(self.network, optimizer)
            saved = sharded_checkpoint.save(self.folder, state, tensors, self.world)
        else:
            saved = self.world.run_on_rank0(lambda: checkpoint.save(self.folder, state))
        if self.world.is_rank0:
            checkpoint.prune(self.folder, self.config.save)
        self.saved_step = progress.step
        return Saved(
            step=progress.step,
            time=time.time(),
            path=str(self.folder.checkpoints.relative_to(self.folder.path) / saved["file"]),
            n_bytes=saved["n_bytes"],
            sha256=saved["sha256"],
            save_s=time.perf_counter() - begun,
        )

    def restore(self, saved: Checkpoint) -> Progress:
        """Load a checkpoint's weights, moments and random state; return its progress.

        Raises: CheckpointError if it belongs to another model.
        """
        if self.sharded and saved.path.is_dir():
            update = self.update
            assert isinstance(update, AutogradUpdate), "only autograd works on parts of the weights"
            self.world.run_all(lambda: update.load_parts(saved))
        else:
            load_weights(self.network, saved.model.items())
            self.update.load_state(saved.optimizer or {})
        if saved.rng is not None:
            torch.set_rng_state(saved.rng)
        return Progress(saved.step, saved.skipped_in_a_row, saved.train_s)
