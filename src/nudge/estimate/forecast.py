"""What a run will need, before its text is prepared: a rehearsal on random tokens.

`python -m nudge.estimate.forecast` reads a config as JSON and writes a `Forecast` as JSON. A process of its own can be
killed when it takes too long, returns all of its memory, and does not block the program that asked.
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
from nudge.errors import NudgeError
from nudge.machine.hardware_probe import probe
from nudge.machine.memory_check import SHARE_OF_PEAK
from nudge.model import sizes
from nudge.train.rehearsal import Rehearsal, rehearse
from nudge.train.resolve import resolve_machine

LONGEST_S = 15.0  # instead of a longer rehearsal the forecast is computed
N_PASSES = 5  # roughly the fewest passes of a rehearsal


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The time and memory of a run here. `measured`: by a rehearsal; otherwise computed from the matrix peak."""

    rehearsal: Rehearsal
    measured: bool
    took_s: float
    needed_bytes: int
    free_bytes: int

    def total_s(self, config: Config) -> float:
        """Return the seconds of a whole run with prepared text. The last evaluation counts like the others."""
        return self.rehearsal.total_s(config, val_tokens=config.eval.tokens)

    def tokens_per_s(self, config: Config) -> float:
        """Return the training tokens per second of an update."""
        return config.train.batch_tokens / self.rehearsal.step_s


def forecast(config: Config) -> Forecast:
    """Probe the machine and rehearse. Raises: ConfigError, MachineError if the model does not fit the memory."""
    configs.check(config)
    begun = time.perf_counter()
    machine = probe(config.machine, config.model)
    resolved = resolve_machine(config, machine)
    token_s = sizes.training_flops_per_token(config.model) / (SHARE_OF_PEAK * machine.peak_flops[machine.dtype])
    pass_s = token_s * resolved.train.micro_batch * config.model.block_size
    # The speed after torch.compile is not known, and compiling takes long itself.
    measured = machine.update != "compiled" and N_PASSES * pass_s < LONGEST_S
    rehearsal = rehearse(resolved, _random_batches(config)) if measured else _computed(config, token_s)
    return Forecast(
        rehearsal=rehearsal,
        measured=measured,
        took_s=time.perf_counter() - begun,
        needed_bytes=sizes.memory_of_run(resolved).total,
        free_bytes=machine.memory_bytes,
    )


def _computed(config: Config, token_s: float) -> Rehearsal:
    """Return the rehearsal that follows from the time of a training token; the forward pass is a third of it."""
    return Rehearsal(step_s=token_s * config.train.batch_tokens, eval_token_s=token_s / 3, sample_token_s=token_s / 3)


def _random_batches(config: Config) -> Any:
    """Return batches of random tokens, which cost as much as those of a text."""
    shape = (config.train.batch_tokens // config.model.block_size, config.model.block_size)

    def batches(step: int) -> Window:
        draw = np.random.default_rng(step)
        return draw.integers(config.model.vocab_size, size=shape), draw.integers(config.model.vocab_size, size=shape)

    return batches


def from_json(values: dict[str, Any]) -> Forecast:
    """Return the forecast that the process wrote."""
    return Forecast(**{**values, "rehearsal": Rehearsal(**values["rehearsal"])})


def main() -> None:
    """Read a config from standard input and write its forecast, or the error that it meets."""
    try:
        answer = dataclasses.asdict(forecast(configs.from_dict(json.load(sys.stdin))))
    except NudgeError as error:
        answer = {"code": error.code, "message": error.message, "hint": error.hint}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
