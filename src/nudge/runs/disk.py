"""Whether the checkpoints of a run fit the disk. Does not import torch, so that a run too large is refused at once."""

import shutil
from pathlib import Path

from nudge.config import Config
from nudge.errors import MachineError
from nudge.model import sizes
from nudge.util import files


def check_disk(config: Config, folder: Path) -> None:
    """Check the free space for checkpoints. Raises: MachineError if the ones to be kept do not fit the disk."""
    kept = config.save.keep_last + 1  # one more while a new one is written
    if config.save.keep_every:
        kept += config.train.steps // config.save.keep_every
    needed, free = kept * sizes.checkpoint_bytes(config.model), free_bytes(folder)
    if needed > free:
        raise MachineError("disk", n=kept, needed_gb=needed / 1e9, free_gb=free / 1e9, folder=folder)


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk of `folder`, which need not exist yet."""
    while not files.exists(folder):
        folder = folder.parent
    return shutil.disk_usage(folder).free
