"""What is read of run.json. A command that needs more of it derives its own dataclass from `RunJson`."""

from dataclasses import dataclass
from typing import Any

from nudge import config as configs
from nudge.config import Config

LATEST_S = 1e11  # the year 5138: later times are no dates everywhere


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedText:
    """Where run.json says that the tokens are. Raises: ValueError for a path that no folder can have."""

    dir: str
    fingerprint: str

    def __post_init__(self) -> None:
        if "\0" in self.dir:
            raise ValueError("a path has no zero byte")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunJson:
    """What is read of run.json. Raises: ConfigError if no network can have this config."""

    created: float  # seconds since 1970, UTC
    config: Config
    machine: Any  # of machine/hardware_probe.py
    data: PreparedText
    processes: int = 1
    launch: str = ""

    def __post_init__(self) -> None:
        configs.check_saved(self.config)
        if self.processes < 1 or not 0 <= self.created < LATEST_S:
            raise ValueError("'processes' or 'created' is out of range")
