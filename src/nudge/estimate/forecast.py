"""A forecast of a run's time and memory before its text is prepared, by a rehearsal on random tokens.

`python -m nudge.estimate.forecast` reads a config as JSON and writes a `Forecast` as JSON. As a separate process it can
be killed if it takes too long, frees all of its memory at the end, and does not block the program that starts it.
"""

import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from nudge import config as configs
from nudge.config import Config
from nudge.data.batches import Window
from nudge.errors import NudgeError, to_json
from nudge.machine.hardware_probe import probe
from nudge.machine.memory_check import SHARE_OF_PEAK
from nudge.model import sizes
from nudge.train.rehearsal import Rehearsal, rehearse
from nudge.train.resolve import resolve_machine
from nudge.util import json_reader

LONGEST_S = 15.0  # a longer rehearsal is replaced by a computed forecast
N_PASSES = 5  # roughly the fewest passes of a rehearsal


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The time and memory of a run on this machine.

    `measured`: by a rehearsal; otherwise computed from the peak speed of matrix products.
    """

    rehearsal: Rehearsal
    measured: bool
    took_s: float
    needed_bytes: int
    free_bytes: int

    def total_s(self, config: Config) -> float:
        """Return the seconds of a whole run with prepared text, taking the last evaluation to be like the others."""
        return self.rehearsal.total_s(config, val_tokens=config.eval.tokens)

    def tokens_per_s(self, config: Config) -> float:
        """Return the training tokens per second of an update."""
        return config.train.batch_tokens / self.rehearsal.step_s


def forecast(config: Config) -> Forecast:
    """Probe the machine and rehearse. Raises: ConfigError; MachineError if the model does not fit the memory."""
    configs.check(config)
    begun = time.perf_counter()
    machine = probe(config.machine, config.model)
    resolved = resolve_machine(config, machine)
    token_s = sizes.training_flops_per_token(config.model) / (SHARE_OF_PEAK * machine.peak_flops[machine.dtype])
    pass_s = token_s * resolved.train.micro_batch * config.model.block_size
    # Compiling takes long, and without it the speed of compiled code is not known.
    measured = machine.update != "compiled" and N_PASSES * pass_s < LONGEST_S
    rehearsal = rehearse(resolved, _random_batches(config)) if measured else _compute_rehearsal(config, token_s)
    return Forecast(
        rehearsal=rehearsal,
        measured=measured,
        took_s=time.perf_counter() - begun,
        needed_bytes=sizes.memory_of_run(resolved).total,
        free_bytes=machine.memory_bytes,
    )


def _compute_rehearsal(config: Config, token_s: float) -> Rehearsal:
    """Compute a rehearsal's result from the seconds of a training token; the forward pass takes a third of them."""
    return Rehearsal(step_s=token_s * config.train.batch_tokens, eval_token_s=token_s / 3, sample_token_s=token_s / 3)


def _random_batches(config: Config) -> Any:
    """Return a function that makes random-token batches, as slow as real ones."""
    shape = (config.train.batch_tokens // config.model.block_size, config.model.block_size)

    def batches(step: int) -> Window:
        draw = np.random.default_rng(step)
        return draw.integers(config.model.vocab_size, size=shape), draw.integers(config.model.vocab_size, size=shape)

    return batches


def main() -> None:
    """Read a config as JSON from standard input; write its forecast, or the error, as JSON to standard output."""
    try:
        answer = dataclasses.asdict(forecast(configs.from_dict(json_reader.parse(sys.stdin.buffer.read()))))
    except NudgeError as error:
        answer = {"error": to_json(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
