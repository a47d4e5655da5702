"""Measurements of this machine's training speed, kept in a small cache file so that a plan need not measure again.

nudge.estimate.calibration writes them.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from nudge.config import ModelConfig, check_ranges
from nudge.errors import RunError
from nudge.model import sizes
from nudge.util import files, json_reader

KEPT = 50  # measurements


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSpeed:
    """One measurement of the training speed of a model. Raises: ConfigError or ValueError if it cannot be one."""

    date: str  # of the measurement, YYYY-MM-DD
    machine: str  # the name of the processor or GPU, and the threads
    device: str  # cpu, cuda
    dtype: str
    recipe: str
    model: ModelConfig
    batch_tokens: int
    tokens_per_s: float  # of updates alone
    spread: float  # half the width of the interval, as a share of the speed

    def __post_init__(self) -> None:
        check_ranges(self.model)
        if not (self.tokens_per_s > 0 and self.batch_tokens > 0):
            raise ValueError("a speed is above 0")

    @property
    def flops_per_s(self) -> float:
        """Return the speed in FLOP/s, by 6N + 12LTC, which is about the same for models that were not measured."""
        return self.tokens_per_s * sizes.training_flops_per_token(self.model)


def remember(speed: LocalSpeed) -> None:
    """Store a measurement, replacing an older one of the same model and batch on the same machine."""
    kept = [other for other in measurements() if _identity(other) != _identity(speed)]
    files.write_json(_path(), [dataclasses.asdict(each) for each in (speed, *kept)][:KEPT])


def measurements() -> list[LocalSpeed]:
    """Return the stored measurements, newest first; none if the file is missing or of another version."""
    if not _path().exists():
        return []
    try:
        return json_reader.read(_path(), list[LocalSpeed])
    except RunError:
        return []


def local_speed(model: ModelConfig, *, batch_tokens: int | None = None) -> LocalSpeed | None:
    """Return the newest measurement of a model, preferably with that `batch_tokens`; None if there is none."""
    same = [speed for speed in measurements() if speed.model == model]
    return next((speed for speed in same if speed.batch_tokens == batch_tokens), same[0] if same else None)


def nearest_measurement(model: ModelConfig | None = None) -> LocalSpeed | None:
    """Return this CPU's measurement of the model nearest in size; the newest on a tie or if `model` is None.

    The size matters: the products of a larger network use the processor better, so a tiny network's speed is not a
    GPT-2's.
    """
    on_cpu = [speed for speed in measurements() if speed.device == "cpu"]
    return min(on_cpu, key=lambda speed: decades(speed.model, model or speed.model), default=None)


def decades(one: ModelConfig, other: ModelConfig) -> float:
    """Return how many powers of ten lie between the sizes of two models."""
    return abs(math.log10(sizes.matmul_parameters(one) / sizes.matmul_parameters(other)))


def _identity(speed: LocalSpeed) -> tuple[object, ...]:
    """Return the values that are equal for two measurements of the same training."""
    return speed.machine, speed.device, speed.dtype, speed.model, speed.batch_tokens


def _path() -> Path:
    return files.cache_folder() / "local-speed.json"
