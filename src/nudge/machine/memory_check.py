"""A check before update 1: how many windows of a pass fit the memory."""

from nudge.config import Config
from nudge.errors import MachineError
from nudge.machine.hardware_probe import Machine
from nudge.model import sizes

CPU_PASS_S = 2.0  # about the longest pass: Control-C waits for the end of the current pass
SHARE_OF_PEAK = 0.7  # of the matrix peak, reached by updates: to estimate the time of a pass
GPU_PASS_TOKENS = 65_536


def choose_micro_batch(config: Config, machine: Machine, processes: int = 1, *, at_most: int | None = None) -> int:
    """Return the sequences per pass of one process, limited by memory and time, and by `at_most` if given.

    Raises: MachineError if not even one sequence fits the memory, or `train.micro_batch` does not.
    """
    flops_per_s = SHARE_OF_PEAK * machine.peak_flops[machine.dtype] / processes
    tokens_in_time = int(CPU_PASS_S * flops_per_s / sizes.training_flops_per_token(config.model))
    most_tokens = GPU_PASS_TOKENS if machine.device.startswith("cuda") else tokens_in_time
    if at_most is not None:
        most_tokens = min(most_tokens, at_most * config.model.block_size)
    size = config.train.micro_batch or sizes.micro_batch(
        config, budget_bytes=int(0.9 * machine.memory_bytes), most_tokens=most_tokens, processes=processes
    )
    # If not even one sequence fits, `size` is None, and `needed` is the memory of one sequence.
    needed = sizes.memory_of_run(config, micro_batch=size, processes=processes).total
    if size is None or needed > machine.memory_bytes:
        raise MachineError("memory", recipe=config.recipe, needed_gb=needed / 1e9, free_gb=machine.memory_bytes / 1e9)
    return size
