"""What is known before update 1: it refuses what cannot work and forecasts what the rest will take."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from nudge import checkpoint
from nudge.config import Config
from nudge.data.batches import Window
from nudge.errors import MachineError
from nudge.model import sizes
from nudge.model.gpt import first_weights
from nudge.plan.hardware import DISK_BYTES_PER_S
from nudge.train.evaluation import compute_in
from nudge.train.parallel import empty_network, load_weights
from nudge.train.probe import Machine
from nudge.train.update import make_update
from nudge.train.world import ALONE, World

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """Measured seconds of one update, of one token of evaluation, and of one token that is written."""

    step_s: float
    eval_token_s: float
    sample_token_s: float

    def total_s(self, config: Config, *, val_tokens: int, steps: int | None = None) -> float:
        """Seconds that the whole run will take, as far as can be told."""
        steps = config.train.steps if steps is None else steps
        evaluations = steps // config.eval.every if config.eval.every else 0
        saves = 2 + steps // config.save.every
        samples = 2 + steps // config.sample.every if config.sample.every else 0
        return (
            steps * self.step_s
            + self.eval_token_s * (evaluations * min(config.eval.tokens, val_tokens) + val_tokens)
            + saves * sizes.checkpoint_bytes(config.model) / DISK_BYTES_PER_S
            + samples * config.sample.max_tokens * self.sample_token_s
        )

    def steps_in(self, seconds: float, config: Config, *, val_tokens: int) -> int:
        """How many updates fit into that time, with everything that goes with them; at least one."""
        fixed = self.total_s(config, val_tokens=val_tokens, steps=0)
        each = (self.total_s(config, val_tokens=val_tokens, steps=1000) - fixed) / 1000
        return max(1, int((seconds - fixed) / each))


def rehearse(config: Config, batches: Callable[[int], Window], world: World = ALONE) -> Rehearsal:
    """Time a few passes and one update on a throw-away network. The run's own state is not touched."""
    device = torch.device(config.machine.device or "cpu")
    micro_batch = config.train.micro_batch or 1
    network = empty_network(config, world)
    load_weights(network, first_weights(network, seed=0))
    update = make_update(network, config, world)
    x, y = (torch.from_numpy(array[:micro_batch]).to(device) for array in batches(0))

    def one_pass() -> None:
        update.forward_backward(x, y, 1.0, last=False)
        update.forget()

    def last_pass_and_step() -> None:
        update.step(0.0, update.forward_backward(x, y, 1.0))

    def evaluate() -> None:
        update.loss(x, y).item()

    def write() -> None:
        with torch.no_grad(), compute_in(device, config.machine.dtype or "float32"):
            network(x[:1, :1])

    def seconds(work: Callable[[], None], at_most: int) -> float:
        work()  # not counted: it also allocates, and may compile
        times: list[float] = []
        while not times or (len(times) < at_most and (world.size > 1 or sum(times) < 1)):  # several do it as often
            begin = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - begin)
        return median(times)

    passes = config.train.batch_tokens // (world.size * micro_batch * config.model.block_size)
    step_s = (passes - 1) * (seconds(one_pass, 4) if passes > 1 else 0.0) + seconds(last_pass_and_step, 6)
    eval_token_s = seconds(evaluate, 4) / (world.size * x.numel())
    found = Rehearsal(step_s=step_s, eval_token_s=eval_token_s, sample_token_s=seconds(write, 6))
    return max(world.gather(found), key=lambda rehearsal: rehearsal.step_s)  # all go on at the pace of the slowest
