"""PLACEHOLDER until the calibrated one is merged: which share of its peak a training run reaches."""

from dataclasses import dataclass

from nudge.config import ModelConfig
from nudge.plan.hardware import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Share of the peak, by 6N + 12LTC, with its interval."""

    mfu: float
    low: float
    high: float
    source: str


def speed(model: ModelConfig, device: Device, count: int = 1) -> Speed:
    """A constant."""
    return Speed(mfu=0.40, low=0.30, high=0.50, source="a placeholder")
