"""The rehearsal of a run before it starts: a few timed passes on a temporary network, and a forecast from them."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from statistics import median

import torch

from nudge.config import Config, ResolvedConfig
from nudge.data.batches import Window
from nudge.distributed.parallel import empty_network, load_weights
from nudge.distributed.world import ALONE, World
from nudge.machine.device import synchronize
from nudge.model import sizes
from nudge.model.gpt import first_weights
from nudge.plan.hardware import DISK_BYTES_PER_S
from nudge.train.update import compute_in, make_update


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """Measured seconds of one update, of one evaluated token, and of one sampled token."""

    step_s: float
    eval_token_s: float
    sample_token_s: float

    def total_s(self, config: Config, *, val_tokens: int, steps: int | None = None) -> float:
        """Estimate the seconds that the whole run takes."""
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
        """Return how many updates fit into `seconds`, with their evaluations, saves and samples; at least 1."""
        fixed = self.total_s(config, val_tokens=val_tokens, steps=0)
        each = (self.total_s(config, val_tokens=val_tokens, steps=1000) - fixed) / 1000
        return max(1, int((seconds - fixed) / each))

    def fit_minutes(self, config: ResolvedConfig, *, val_tokens: int) -> ResolvedConfig:
        """Return the config with as many updates as fit into its `train.minutes`; without minutes, as it is."""
        if config.train.minutes is None:
            return config
        steps = self.steps_in(60 * config.train.minutes, config, val_tokens=val_tokens)
        return replace(config, train=replace(config.train, steps=steps, minutes=None))


def rehearse(config: ResolvedConfig, batches: Callable[[int], Window], world: World = ALONE) -> Rehearsal:
    """Time a few passes and one update on a temporary network. The state of the run does not change."""
    device = torch.device(config.machine.device)
    micro_batch = config.train.micro_batch
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
        with torch.no_grad(), compute_in(device, config.machine.dtype):
            network(x[:1, :1])

    def seconds(work: Callable[[], None], at_most: int) -> float:
        work()  # not timed: the first call also allocates, and may compile
        times: list[float] = []
        # Several processes must all call `work` equally often, so then the time is no limit.
        while not times or (len(times) < at_most and (world.size > 1 or sum(times) < 1)):
            begin = time.perf_counter()
            work()
            synchronize(device)
            times.append(time.perf_counter() - begin)
        return median(times)

    passes = config.train.batch_tokens // (world.size * micro_batch * config.model.block_size)
    step_s = (passes - 1) * (seconds(one_pass, 4) if passes > 1 else 0.0) + seconds(last_pass_and_step, 6)
    eval_token_s = seconds(evaluate, 4) / (world.size * x.numel())
    found = Rehearsal(step_s=step_s, eval_token_s=eval_token_s, sample_token_s=seconds(write, 6))
    slowest = max(world.gather(asdict(found)), key=lambda times: times["step_s"])  # sets the pace
    return Rehearsal(**slowest)
