"""What is known before update 1: it refuses what cannot work and forecasts what the rest will take."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from nudge import checkpoint
from nudge.config import Config
from nudge.data.batches import Batches
from nudge.errors import MachineError
from nudge.model import sizes
from nudge.model.gpt import GPT, init_weights
from nudge.train.evaluation import compute_in
from nudge.train.optimizer import Optimizer

CPU_PASS_TOKENS = 1024  # a signal waits for the pass under way: 2,048 tokens of GPT-2 small took 8 s on two cores
GPU_PASS_TOKENS = 65_536
DISK_BYTES_PER_S = 5e8  # only for the forecast


def choose_micro_batch(config: Config, *, device: str, dtype: str, memory_bytes: int) -> int:
    """Sequences per pass. Raises: MachineError if not even one sequence fits the memory."""
    sequences = config.train.batch_tokens // config.model.block_size
    size = config.train.micro_batch or sizes.micro_batch(
        config.model,
        sequences=sequences,
        dtype=dtype,
        budget_bytes=int(0.9 * memory_bytes),
        most_tokens=CPU_PASS_TOKENS if device == "cpu" else GPU_PASS_TOKENS,
    )
    needed = sizes.training_bytes(config.model, micro_tokens=(size or 1) * config.model.block_size, dtype=dtype)
    if size is None or needed > memory_bytes:
        raise MachineError(
            f"training {config.recipe} needs about {needed / 1e9:.1f} GB of memory, "
            f"{memory_bytes / 1e9:.1f} GB are free",
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


def rehearse(config: Config, batches: Batches) -> Rehearsal:
    """Time a few passes and one update on a throw-away network. The run's own state is not touched."""
    device, dtype = torch.device(config.machine.device or "cpu"), config.machine.dtype or "float32"
    micro_batch = config.train.micro_batch or 1
    network = GPT(config.model)
    init_weights(network, seed=0)
    network.to(device)
    optimizer = Optimizer(network, config.train, dtype)
    x, y = (torch.from_numpy(array[:micro_batch]).to(device) for array in batches(0))

    def one_pass() -> None:
        with compute_in(device, dtype):
            loss = network.loss(x, y)
        loss.backward()

    def evaluate() -> None:
        with torch.inference_mode(), compute_in(device, dtype):
            network.loss(x, y).item()

    def one_step() -> None:
        optimizer.step(0.0, torch.tensor(True, device=device))

    def write() -> None:
        with torch.inference_mode():
            network(x[:1, :1])

    def seconds(work: Callable[[], None], at_most: int) -> float:
        times: list[float] = []
        while len(times) < at_most and sum(times) < 2:
            begin = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - begin)
        return median(times[1:] or times)  # the first one also allocates

    passes = config.train.batch_tokens // (micro_batch * config.model.block_size)
    step_s = passes * seconds(one_pass, 6) + seconds(one_step, 4)
    return Rehearsal(step_s=step_s, eval_token_s=seconds(evaluate, 4) / x.numel(), sample_token_s=seconds(write, 6))
