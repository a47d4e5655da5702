"""What a run will take, before its text is prepared: a rehearsal on random tokens.

`python -m nudge.estimate.forecast` reads a config as JSON and answers with a `Forecast` as JSON: a process of its own
can be ended when it takes too long, gives back its memory, and leaves whoever asked free to do something else.
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
from nudge.machine.hardware_probe import Machine, probe
from nudge.machine.memory_check import SHARE_OF_PEAK
from nudge.model import sizes
from nudge.train.rehearsal import Rehearsal, rehearse
from nudge.train.resolve import resolve_machine

LONGEST_S = 15.0  # a rehearsal that would take longer is computed instead
N_PASSES = 5  # that a rehearsal makes at least, roughly


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a recipe needs here. `measured`: by a rehearsal of `took_s` seconds; else computed from the matrix peak."""

    rehearsal: Rehearsal
    measured: bool
    took_s: float
    needed_bytes: int
    free_bytes: int

    def total_s(self, config: Config) -> float:
        """Seconds of the whole run but for preparing its text; the last evaluation is taken to be as long as others."""
        return self.rehearsal.total_s(config, val_tokens=config.eval.tokens)

    def tokens_per_s(self, config: Config) -> float:
        """Tokens learned from per second of an update."""
        return config.train.batch_tokens / self.rehearsal.step_s


def forecast(config: Config) -> Forecast:
    """Probe the machine and rehearse. Raises: ConfigError, MachineError if the model does not fit the memory."""
    configs.check(config)
    begun = time.perf_counter()
    machine = probe(config.machine, config.model)
    config = resolve_machine(config, machine)
    pass_s, computed = _computed(config, machine)
    # What torch.compile would take is not known, and it takes long itself.
    measured = machine.update != "compiled" and N_PASSES * pass_s < LONGEST_S
    rehearsal = rehearse(config, _random_batches(config)) if measured else computed
    return Forecast(
        rehearsal=rehearsal,
        measured=measured,
        took_s=time.perf_counter() - begun,
        needed_bytes=sizes.memory_of_run(config).total,
        free_bytes=machine.memory_bytes,
    )


def _micro_tokens(config: Config) -> int:
    return (config.train.micro_batch or 1) * config.model.block_size


def _computed(config: Config, machine: Machine) -> tuple[float, Rehearsal]:
    """Seconds of one pass, and a rehearsal, as the measured speed of matrix products makes them probable."""
    token_s = sizes.training_flops_per_token(config.model) / (SHARE_OF_PEAK * machine.peak_flops[machine.dtype])
    rehearsal = Rehearsal(
        step_s=token_s * config.train.batch_tokens, eval_token_s=token_s / 3, sample_token_s=token_s / 3
    )
    return token_s * _micro_tokens(config), rehearsal


def _random_batches(config: Config) -> Any:
    """Windows as a run's, of tokens that mean nothing: they cost the same."""
    shape = (config.train.batch_tokens // config.model.block_size, config.model.block_size)

    def batches(step: int) -> Window:
        draw = np.random.default_rng(step)
        return draw.integers(config.model.vocab_size, size=shape), draw.integers(config.model.vocab_size, size=shape)

    return batches


def from_json(values: dict[str, Any]) -> Forecast:
    """The forecast that the process wrote."""
    return Forecast(**{**values, "rehearsal": Rehearsal(**values["rehearsal"])})


def main() -> None:
    """Answer one question on standard input."""
    try:
        answer = dataclasses.asdict(forecast(configs.from_dict(json.load(sys.stdin))))
    except NudgeError as error:
        answer = {"message": error.message, "hint": error.hint}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
