"""What fits this machine: windows in a pass, checkpoints on the disk. Refuses before update 1 what cannot work."""

from pathlib import Path

from nudge.config import Config
from nudge.errors import MachineError
from nudge.machine.hardware_probe import Machine
from nudge.model import sizes
from nudge.runs import checkpoint

CPU_PASS_S = 2.0  # about what a pass may take, since a signal waits for the one under way
SHARE_OF_PEAK = 0.7  # of the matrix peak, for that estimate
GPU_PASS_TOKENS = 65_536


def choose_micro_batch(config: Config, machine: Machine, processes: int = 1) -> int:
    """Sequences per pass of one process. Raises: MachineError if not even one sequence fits the memory."""
    flops_per_s = SHARE_OF_PEAK * machine.peak_flops[machine.dtype] / processes
    tokens_in_time = int(CPU_PASS_S * flops_per_s / sizes.training_flops_per_token(config.model))
    size = config.train.micro_batch or sizes.micro_batch(
        config,
        budget_bytes=int(0.9 * machine.memory_bytes),
        most_tokens=tokens_in_time if machine.device == "cpu" else GPU_PASS_TOKENS,
        processes=processes,
    )
    needed = sizes.memory_of_run(config, micro_batch=size, processes=processes).total
    if size is None or needed > machine.memory_bytes:
        raise MachineError(
            f"training {config.recipe} needs about {needed / 1e9:.1f} GB of memory, "
            f"{machine.memory_bytes / 1e9:.1f} GB are free",
            "choose a smaller recipe (nudge train --help) or a machine with more memory",
        )
    return size


def check_disk(config: Config, folder: Path) -> None:
    """Raises: MachineError if the checkpoints that will be kept do not fit the disk."""
    kept = config.save.keep_last + 1  # one more while a new one is written
    if config.save.keep_every:
        kept += config.train.steps // config.save.keep_every
    needed, free = kept * sizes.checkpoint_bytes(config.model), checkpoint.free_bytes(folder)
    if needed > free:
        raise MachineError(
            f"{kept} checkpoints need {needed / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free in {folder}",
            "make room, give --run a folder on another disk, or keep fewer: --set save.keep_last=1",
        )
