"""The machines that a plan knows, and what an hour on them costs: data, each with where it comes from."""

import re
from dataclasses import dataclass
from datetime import date

import psutil

from nudge.config import ModelConfig
from nudge.errors import ConfigError, nearest
from nudge.plan.local import nearest_size

DTYPES = ("bfloat16", "float32")  # in which products are made
BUS_SHARE = 0.8  # of a link's data sheet that collectives reach: nccl-tests shows 230-250 of 300 GB/s on 8 x A100
DISK_BYTES_PER_S = 5e8  # for a checkpoint: a modest SSD, or a network file system


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator (or processor) that trains.

    Units: bandwidths are one direction of the data sheet's, per device. Memory is what it is sold as, in 10^9 bytes: a
    little less than there is, which leaves room for fragmentation.
    """

    name: str
    title: str
    year: int
    peak_flops: float  # dense, in the number type that it trains in (bfloat16), per second
    float32_flops: float  # the same in float32, without TF32
    memory_bytes: int
    link_bytes_per_s: float  # to the other devices of its node
    network_bytes_per_s: float  # to other nodes
    per_node: int
    watts: float  # at most
    source: str
    has_bfloat16: bool = True

    def peak(self, dtype: str) -> float:
        """Floating-point operations per second in that number type; 0 where no data sheet says.

        Raises: ConfigError for a number type that no product is made in here.
        """
        if dtype not in DTYPES:
            raise ConfigError(f"unknown dtype '{dtype}'", nearest(dtype, DTYPES))
        if dtype == "float32":
            return self.float32_flops
        return self.peak_flops if self.has_bfloat16 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one device costs by the hour, and when and where that was so."""

    device: str
    usd_per_hour: float
    date: str  # 2026-03-10, or only the year
    source: str


_GB = 10**9
_H100 = "NVIDIA H100 data sheet (SXM5); network: DGX H100, one 400 Gb/s port per GPU"
_A100 = "NVIDIA A100 data sheet (SXM4); network: DGX A100, one 200 Gb/s port per GPU"

DEVICES = {
    device.name: device
    for device in (
        Device(
            name="tpu-v3", title="Google Cloud TPU v3-8 (4 chips)", year=2018, peak_flops=4 * 123e12, float32_flops=0.0,
            memory_bytes=128 * _GB, link_bytes_per_s=82e9, network_bytes_per_s=82e9, per_node=32, watts=4 * 262,
            source="cloud.google.com/tpu/docs/v3: 123 TFLOP/s, 32 GB and at most 262 W a chip; links: 656 Gb/s",
        ),
        Device(
            name="t4", title="NVIDIA T4 16 GB", year=2018, peak_flops=65e12, float32_flops=8.1e12,
            memory_bytes=16 * _GB, link_bytes_per_s=16e9, network_bytes_per_s=1.5e9, per_node=4, watts=70,
            source="NVIDIA T4 data sheet, peak in float16, PCIe 3; network: 12 Gb/s per GPU assumed",
            has_bfloat16=False,
        ),
        Device(
            name="l4", title="NVIDIA L4 24 GB", year=2023, peak_flops=121e12, float32_flops=30.3e12,
            memory_bytes=24 * _GB, link_bytes_per_s=32e9, network_bytes_per_s=1.5e9, per_node=8, watts=72,
            source="NVIDIA L4 data sheet, half of its figure with sparsity, PCIe 4; network: 12 Gb/s per GPU assumed",
        ),
        Device(
            name="4090", title="NVIDIA RTX 4090 24 GB", year=2022, peak_flops=165.2e12, float32_flops=82.6e12,
            memory_bytes=24 * _GB, link_bytes_per_s=32e9, network_bytes_per_s=1.25e9, per_node=8, watts=450,
            source="NVIDIA Ada architecture paper, with float32 sums, PCIe 4; network: 10 Gb/s per GPU assumed",
        ),
        Device(
            name="a100-40", title="NVIDIA A100 SXM 40 GB", year=2020, peak_flops=312e12, float32_flops=19.5e12,
            memory_bytes=40 * _GB, link_bytes_per_s=300e9, network_bytes_per_s=25e9, per_node=8, watts=400,
            source=_A100,
        ),
        Device(
            name="a100-80", title="NVIDIA A100 SXM 80 GB", year=2020, peak_flops=312e12, float32_flops=19.5e12,
            memory_bytes=80 * _GB, link_bytes_per_s=300e9, network_bytes_per_s=25e9, per_node=8, watts=400,
            source=_A100,
        ),
        Device(
            name="h100", title="NVIDIA H100 SXM 80 GB", year=2022, peak_flops=989.4e12, float32_flops=67e12,
            memory_bytes=80 * _GB, link_bytes_per_s=450e9, network_bytes_per_s=50e9, per_node=8, watts=700,
            source=_H100,
        ),
        Device(
            name="h800", title="NVIDIA H800 SXM 80 GB", year=2023, peak_flops=989.4e12, float32_flops=67e12,
            memory_bytes=80 * _GB, link_bytes_per_s=200e9, network_bytes_per_s=50e9, per_node=8, watts=700,
            source="an H100 with 400 GB/s of NVLink (DeepSeek-V3 report, section 3.1)",
        ),
        Device(
            name="h200", title="NVIDIA H200 SXM 141 GB", year=2024, peak_flops=989.4e12, float32_flops=67e12,
            memory_bytes=141 * _GB, link_bytes_per_s=450e9, network_bytes_per_s=50e9, per_node=8, watts=700,
            source="NVIDIA H200 data sheet (SXM); network: DGX H200, one 400 Gb/s port per GPU",
        ),
        Device(
            name="b200", title="NVIDIA B200 SXM 180 GB", year=2025, peak_flops=2250e12, float32_flops=75e12,
            memory_bytes=180 * _GB, link_bytes_per_s=900e9, network_bytes_per_s=50e9, per_node=8, watts=1000,
            source="NVIDIA HGX B200 data sheet, an eighth of the board; network: DGX B200, one 400 Gb/s port per GPU",
        ),
    )
}  # fmt: skip

_RUNPOD = "RunPod's list price, as deploybase.ai/articles/runpod-gpu-pricing saw it"

PRICES = {
    price.device: price
    for price in (
        Price(
            device="tpu-v3",
            usd_per_hour=8.0,
            date="2019",
            source="nanochat's README: 32 of them for 168 hours, about $43,000",
        ),
        Price(device="l4", usd_per_hour=0.44, date="2026-03-10", source=_RUNPOD),
        Price(device="4090", usd_per_hour=0.34, date="2026-03-10", source=_RUNPOD),
        Price(device="a100-80", usd_per_hour=1.39, date="2026-03-10", source=_RUNPOD),
        Price(device="h100", usd_per_hour=3.0, date="2025", source="the lecture; nanochat's README paid the same"),
        Price(device="h800", usd_per_hour=2.0, date="2024-12-27", source="assumed in the DeepSeek-V3 report"),
        Price(device="h200", usd_per_hour=3.59, date="2026-03-10", source=_RUNPOD),
        Price(device="b200", usd_per_hour=5.98, date="2026-03-10", source=_RUNPOD),
    )
}


def device(name: str, model: ModelConfig | None = None) -> Device:
    """The device that is called so. Raises: ConfigError, naming the closest; "cpu" before it was measured.

    `model`: what it shall train. How fast a processor is depends on it, and is measured.
    """
    known = name.lower()
    if known == "cpu":
        return _this_machine(model)
    if known not in DEVICES:
        raise ConfigError(f"unknown GPU '{name}'", nearest(known, ["cpu", *DEVICES]))
    return DEVICES[known]


def price(name: str) -> Price | None:
    """The price of an hour on that device; None if none is known here."""
    return PRICES.get(name)


def parse_price(text: str, device: str) -> Price:
    """`2.49@2026-11-20` as a price. Raises: ConfigError for a price without its date, or one that is none."""
    amount, at, day = text.removeprefix("$").partition("@")
    example = f"--price {amount or '3'}@{date.today().isoformat()} is that price, seen today"
    if not at or not day:
        raise ConfigError(f"the price {text!r} has no date: prices of GPUs change by the month", example)
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", amount):
        raise ConfigError(f"{amount!r} is not a price in dollars per GPU-hour", "write USD@DATE: --price 3@2026-11-21")
    try:
        seen = date.fromisoformat(day)
    except ValueError:
        raise ConfigError(f"{day!r} is not a date", example) from None
    return Price(device=device, usd_per_hour=float(amount), date=seen.isoformat(), source="given by you")


def _this_machine(model: ModelConfig | None) -> Device:
    """The processor here: its peak is what training that model, or one near in size, reached (plan/local.py).

    Raises: ConfigError if nothing was measured.
    """
    measured = nearest_size(model)
    if measured is None:
        raise ConfigError(
            "this machine's processor has not been measured yet", "'nudge plan --calibrate' does, in about 30 seconds"
        )
    low = measured.dtype == "bfloat16"
    return Device(
        name="cpu",
        title=measured.machine,
        year=int(measured.date[:4]),
        peak_flops=measured.flops_per_s,
        float32_flops=0.0 if low else measured.flops_per_s,
        memory_bytes=psutil.virtual_memory().total,
        link_bytes_per_s=1.25e9,
        network_bytes_per_s=1.25e9,
        per_node=1,
        watts=0.0,
        source=f"not a peak but what {measured.recipe} reached here on {measured.date}; network: 10 Gb/s assumed",
        has_bfloat16=low,
    )
