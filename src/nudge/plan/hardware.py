"""The machines that a plan knows, and what an hour on them costs: hardware.toml, each with its source."""

import re
from dataclasses import dataclass
from datetime import date

import psutil

from nudge.config import ModelConfig
from nudge.errors import ConfigError, nearest
from nudge.plan import facts
from nudge.plan.this_machine import nearest_size

DTYPES = ("bfloat16", "float32")  # in which products are made
BUS_SHARE = 0.8  # of a link's data sheet that collectives reach: nccl-tests shows 230-250 of 300 GB/s on 8 x A100
DISK_BYTES_PER_S = 5e8  # for a checkpoint: a modest SSD, or a network file system

_FILE = facts.read("hardware.toml")


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

    @property
    def short_title(self) -> str:
        """The title without its maker and the shape of its board."""
        return self.title.removeprefix("NVIDIA ").removeprefix("Google Cloud ").replace(" SXM ", " ")

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


DEVICES = {name: facts.row(Device, {"name": name, **values}) for name, values in _FILE["devices"].items()}
PRICES = {name: facts.row(Price, {"device": name, **values}) for name, values in _FILE["prices"].items()}


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
    """The processor here: its peak is what training that model, or one near in size, reached (plan/this_machine.py).

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
