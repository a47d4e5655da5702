"""How fast this machine trained when it was last measured: a small file in the cache, so that a plan need not measure.

nudge.estimate.calibration writes it.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nudge.config import ModelConfig
from nudge.errors import RunError
from nudge.model import sizes
from nudge.util import files

KEPT = 50  # measurements


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSpeed:
    """One measurement: the model that was trained, and how fast."""

    date: str  # of the measurement, YYYY-MM-DD
    machine: str  # the name of the processor or GPU, and the threads
    device: str  # cpu, cuda
    dtype: str
    recipe: str
    model: ModelConfig
    batch_tokens: int
    tokens_per_s: float  # of updates alone
    spread: float  # half the width of the interval, as a share of the speed

    @property
    def flops_per_s(self) -> float:
        """Return the speed by 6N + 12LTC, which carries over to models that were not measured."""
        return self.tokens_per_s * sizes.training_flops_per_token(self.model)


def remember(speed: LocalSpeed) -> None:
    """Store a measurement; it replaces an older one of the same model and batch on the same machine."""
    kept = [other for other in measurements() if _what(other) != _what(speed)]
    files.write_json(_path(), [dataclasses.asdict(each) for each in (speed, *kept)][:KEPT])


def measurements() -> list[LocalSpeed]:
    """Return the stored measurements, newest first; none if the file is missing or of another version."""
    if not _path().exists():
        return []
    try:
        return [_from_json(values) for values in files.read_json(_path())]
    except (TypeError, KeyError, RunError):
        return []


def local_speed(model: ModelConfig, *, batch_tokens: int | None = None) -> LocalSpeed | None:
    """Return the newest measurement of a model, preferably with updates of that size; None if there is none."""
    same = [speed for speed in measurements() if speed.model == model]
    return next((speed for speed in same if speed.batch_tokens == batch_tokens), same[0] if same else None)


def nearest_size(model: ModelConfig | None = None) -> LocalSpeed | None:
    """Return the measurement on this CPU of the model nearest in size; of equals, or without a model, the newest.

    The size matters: the larger a network, the better its products fill the processor, so a tiny one says little about
    a GPT-2.
    """
    here = [speed for speed in measurements() if speed.device == "cpu"]
    return min(here, key=lambda speed: decades(speed.model, model or speed.model), default=None)


def decades(one: ModelConfig, other: ModelConfig) -> float:
    """Return how many powers of ten lie between the sizes of two models."""
    return abs(math.log10(sizes.matmul_parameters(one) / sizes.matmul_parameters(other)))


def _what(speed: LocalSpeed) -> tuple[object, ...]:
    return speed.machine, speed.device, speed.dtype, speed.model, speed.batch_tokens


def _from_json(values: dict[str, Any]) -> LocalSpeed:
    return LocalSpeed(**{**values, "model": ModelConfig(**values["model"])})


def _path() -> Path:
    return files.cache_folder() / "local-speed.json"
