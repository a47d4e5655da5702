"""The machines that a plan can use and their prices per hour, each with its source (hardware.toml)."""

import re
from dataclasses import dataclass
from datetime import date

import psutil

from nudge.config import ModelConfig
from nudge.errors import ConfigError, did_you_mean
from nudge.plan import facts
from nudge.plan.this_machine import nearest_measurement

DTYPES = ("bfloat16", "float32")  # of matrix products
BUS_SHARE = 0.8  # of a data sheet's bandwidth that collectives reach: nccl-tests, 230-250 of 300 GB/s on 8 x A100
DISK_BYTES_PER_S = 5e8  # a modest SSD, or a network file system

_FILE = facts.read("hardware.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator (or processor) for training.

    Bandwidths are the data sheet's, for one direction and one device. Memory is the advertised size in units of 10^9
    bytes, a little less than the real size, which leaves room for fragmentation.
    """

    name: str
    title: str
    year: int
    peak_flops: float  # dense, in bfloat16, per second
    float32_flops: float  # in float32, without TF32
    memory_bytes: int
    link_bytes_per_s: float  # to the other devices of the node
    network_bytes_per_s: float  # to other nodes
    per_node: int
    watts: float  # limit
    source: str
    has_bfloat16: bool = True

    @property
    def short_title(self) -> str:
        """Return the title without the maker and the form factor."""
        return self.title.removeprefix("NVIDIA ").removeprefix("Google Cloud ").replace(" SXM ", " ")

    def peak(self, dtype: str) -> float:
        """Return the floating-point operations per second in that dtype; 0 if no data sheet has them.

        Raises: ConfigError for a dtype that is not in DTYPES.
        """
        if dtype not in DTYPES:
            raise ConfigError("unknown_choice", key="dtype", value=dtype, closest=did_you_mean(dtype, DTYPES))
        if dtype == "float32":
            return self.float32_flops
        return self.peak_flops if self.has_bfloat16 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of one device per hour, with its date and source."""

    device: str
    usd_per_hour: float
    date: str  # 2026-03-10, or only the year
    source: str


DEVICES = {name: Device(name=name, **values) for name, values in _FILE["devices"].items()}
PRICES = {name: Price(device=name, **values) for name, values in _FILE["prices"].items()}


def device(name: str, model: ModelConfig | None = None) -> Device:
    """Return the device of that name. `model`: the network to train; the speed of a CPU depends on it.

    Raises: ConfigError for an unknown name, and for "cpu" before it was measured.
    """
    known = name.lower()
    if known == "cpu":
        return _this_machine(model)
    if known not in DEVICES:
        raise ConfigError("unknown_gpu", name=name, closest=did_you_mean(known, ["cpu", *DEVICES]))
    return DEVICES[known]


def price(name: str) -> Price | None:
    """Return the price of an hour on a device; None if hardware.toml has none."""
    return PRICES.get(name)


def parse_price(text: str, device: str) -> Price:
    """Parse a price with its date, like `2.49@2026-11-20`. Raises: ConfigError."""
    amount, _, day = text.removeprefix("$").partition("@")
    today = date.today().isoformat()
    if not day:
        raise ConfigError("price_without_date", price=text, amount=amount or "3", today=today)
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", amount):
        raise ConfigError("not_a_price", amount=amount, today=today)
    try:
        seen = date.fromisoformat(day)
    except ValueError:
        raise ConfigError("price_with_bad_date", day=day, amount=amount, today=today) from None
    return Price(device=device, usd_per_hour=float(amount), date=seen.isoformat(), source="given by you")


def _this_machine(model: ModelConfig | None) -> Device:
    """Return this processor as a device. Its peak is the measured speed of the model, or of the nearest in size.

    Raises: ConfigError if nothing was measured.
    """
    measured = nearest_measurement(model)
    if measured is None:
        raise ConfigError("processor_not_measured")
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
