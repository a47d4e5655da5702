"""What a given amount of computing costs on a rented GPU."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rental:
    """A GPU by the hour. `mfu` is the share of its peak that training reached there, by 6N + 12LTC (model/sizes.py)."""

    name: str
    peak_flops: float  # dense bfloat16, per second
    usd_per_hour: float
    mfu: float
    source: str


H100 = Rental(
    name="H100",
    peak_flops=989.4e12,
    usd_per_hour=3.0,
    mfu=0.40,
    source="price: the lecture, 2025; peak: NVIDIA's data sheet (SXM); share: llm.c's GPT-2 small on 8 of them, 2024",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Time and money of one rented GPU, working alone."""

    rental: Rental
    hours: float

    @property
    def usd(self) -> float:
        return self.hours * self.rental.usd_per_hour


def cost(flops: float, rental: Rental = H100) -> Cost:
    """What `flops` floating-point operations of training cost there.

    A model with far fewer parameters than GPT-2 small does not fill a GPU: its real cost lies above this.
    """
    return Cost(rental=rental, hours=flops / (rental.peak_flops * rental.mfu) / 3600)
