"""The machines that a plan knows: data, each with where it comes from."""

from dataclasses import dataclass

from nudge.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator. `peak_flops` is dense, in the number type that it trains in, per second."""

    name: str
    title: str
    peak_flops: float


DEVICES = {
    name: Device(name=name, title=title, peak_flops=peak)
    for name, title, peak in (
        ("tpu-v3", "Google Cloud TPU v3-8 (4 chips)", 4 * 123e12),
        ("t4", "NVIDIA T4 16 GB", 65e12),
        ("l4", "NVIDIA L4 24 GB", 121e12),
        ("4090", "NVIDIA RTX 4090 24 GB", 165.2e12),
        ("a100-40", "NVIDIA A100 SXM 40 GB", 312e12),
        ("a100-80", "NVIDIA A100 SXM 80 GB", 312e12),
        ("h100", "NVIDIA H100 SXM 80 GB", 989.4e12),
        ("h800", "NVIDIA H800 SXM 80 GB", 989.4e12),
        ("h200", "NVIDIA H200 SXM 141 GB", 989.4e12),
        ("b200", "NVIDIA B200 SXM 180 GB", 2250e12),
    )
}


def device(name: str) -> Device:
    """The device that is called so. Raises: ConfigError, naming the closest."""
    if name not in DEVICES:
        raise ConfigError(f"unknown GPU '{name}'", nearest(name, DEVICES))
    return DEVICES[name]
