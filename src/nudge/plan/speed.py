"""How fast a network trains on a GPU: the share of its peak, calibrated on published runs.

Two factors are multiplied. The roof is arithmetic from data sheets: products take FLOPs / peak, and moving activations
through memory takes bytes / bandwidth. A small network does few operations per byte, so it reaches less of the peak,
above all on a GPU whose peak is high for its memory. The share of the roof is fitted. It depends on the chip's
architecture, the kind of code and the code itself, the number of machines, and 8-bit products.

    MFU = roof x share,   ln(share) = ln(0.5) + the terms that apply

The fit is least squares with a prior on every term (ridge): before any run is seen, a term is 0 with the standard
deviation in `_PRIORS`. A term that only one run has moves most of the way towards that run; one that no run has stays
0. The priors are round numbers, chosen for what they mean and not for how well they predict.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import median
from typing import get_args

from nudge.config import ModelConfig
from nudge.errors import ConfigError, did_you_mean
from nudge.plan import facts, hardware
from nudge.plan.hardware import Device
from nudge.plan.published import RUNS, Kind, Network, PublishedRun, network

ACTIVATION_BYTES = 34  # per token, layer and channel, in 16 bits. Source: Korthikanti et al. 2022, without the scores
LOGIT_BYTES = 4  # per token and entry of the vocabulary, in float32
PASSES = 3  # written in the forward pass, read by the next product and again in the backward pass

MOST_MEDIAN_ERROR, WITHIN, LEAST_WITHIN = 0.15, 0.35, 0.9  # the limits of Validation.holds

_COVERED = 0.8  # share of the errors inside an interval
_CARRIED_OVER = 1.5  # factor on the interval of a GPU without a published run: a judgment, not a measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """The properties of a GPU, besides its peak, that its speed depends on."""

    architecture: str
    memory_bytes_per_s: float  # data sheet
    carried_over: str = ""  # the GPU whose runs are used instead, if there are none on this one


CHIPS = {name: Chip(**values) for name, values in facts.read("hardware.toml")["chips"].items()}

_NOISE = 0.15  # standard deviation of ln(share) among runs with the same terms
_PRIORS = {  # standard deviation of each term before any run is seen, in ln(share)
    "average": 0.3,
    "ampere": 0.3,
    "hopper": 0.3,
    "ada": 0.3,
    "handwritten": 0.3,
    "compiled": 0.3,
    "eager": 0.3,
    "lab": 0.3,
    "ten times the machines": 0.1,
    "fp8": 0.3,
    **dict.fromkeys((f"code: {code}" for code in sorted({run.code for run in RUNS})), 0.3),
}
_CENTER = math.log(0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """The share of the peak (MFU, by 6N + 12LTC) that training likely reaches, and the source of that forecast.

    80% of the published runs lie between `low` and `high` when each is predicted without its family. Communication
    between the devices is included, as it was in those runs.
    """

    mfu: float
    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A published run, and what the others predict for it. Errors are predicted / published - 1."""

    run: PublishedRun
    predicted: float  # by all other runs, in run.unit
    predicted_by_strangers: float  # only by runs of other codes

    @property
    def error(self) -> float:
        return self.predicted / self.run.figure - 1

    @property
    def error_by_strangers(self) -> float:
        return self.predicted_by_strangers / self.run.figure - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """The forecasts against the published runs, each held out alone and together with its family (the same code)."""

    rows: tuple[Row, ...]
    left_out: tuple[PublishedRun, ...]

    def errors(self, *, strangers: bool = False) -> list[float]:
        """Return the absolute error of each row."""
        return [abs(row.error_by_strangers if strangers else row.error) for row in self.rows]

    def median_error(self, *, strangers: bool = False) -> float:
        return median(self.errors(strangers=strangers))

    def share_within(self, error: float = WITHIN, *, strangers: bool = False) -> float:
        return sum(e <= error for e in self.errors(strangers=strangers)) / len(self.rows)

    @property
    def holds(self) -> bool:
        """Return whether the forecasts are accurate enough, each run held out alone."""
        return self.median_error() <= MOST_MEDIAN_ERROR and self.share_within() >= LEAST_WITHIN


def speed(model: ModelConfig, device: Device, count: int = 1, *, kind: Kind = "compiled", code: str = "nudge") -> Speed:
    """Forecast the share of the peak that training this network reaches.

    `kind`: "compiled" is PyTorch with torch.compile, like nudge. `code`: a code in published.toml has runs of its own;
    any other counts as the average of its kind.

    Raises: ConfigError for a device that is not in CHIPS (a CPU is measured instead), or an unknown kind.
    """
    if device.name not in CHIPS:
        raise ConfigError("no_published_speed", device=device.name, closest=did_you_mean(device.name, CHIPS))
    if kind not in get_args(Kind):
        raise ConfigError("unknown_choice", key="kind", value=kind, closest=did_you_mean(kind, get_args(Kind)))
    if count < 1:
        raise ConfigError("below_minimum", name="count", least=1, got=count)
    token = network(model)
    mfu = _predict(_calibrated(), token, device, _terms(device.name, count, kind, code))
    spread, doubts = _doubts(token, device)
    return Speed(
        mfu=mfu,
        low=mfu * math.exp(-spread),
        high=min(mfu * math.exp(spread), 1.0),
        source="; ".join([_sources(device, kind), *doubts]),
    )


def validate(runs: Sequence[PublishedRun] = RUNS) -> Validation:
    """Predict each run from the others: first without itself, then without all runs of its code."""
    used = _used(runs)
    rows = []
    for run in used:
        others = tuple(other for other in used if other is not run)
        strangers = tuple(other for other in used if other.code != run.code)
        rows.append(Row(run=run, predicted=_held_out(run, others), predicted_by_strangers=_held_out(run, strangers)))
    return Validation(rows=tuple(rows), left_out=tuple(run for run in runs if run.why_left_out))


def roof(token: Network, device: Device) -> float:
    """Return the share of the peak if only products and memory traffic took time, one after the other."""
    products_s = token.flops_per_token / device.peak_flops
    return products_s / (products_s + traffic_bytes(token) / CHIPS[device.name].memory_bytes_per_s)


def traffic_bytes(token: Network) -> float:
    """Return the bytes of activations and logits that one token moves through memory in an update."""
    kept = ACTIVATION_BYTES * token.n_layer * token.n_embd + LOGIT_BYTES * token.vocab_size
    return PASSES * kept


def _used(runs: Sequence[PublishedRun]) -> tuple[PublishedRun, ...]:
    return tuple(run for run in runs if not run.why_left_out)


def _terms(name: str, count: int, kind: Kind, code: str, fp8: bool = False) -> dict[str, float]:
    """Return the terms that apply to a run, and how often each does."""
    machines = max(count / 8, 1)
    terms = {
        "average": 1.0,
        kind: 1.0,
        f"code: {code}": 1.0,
        "ten times the machines": math.log10(machines),
        "fp8": float(fp8),
    }
    return terms | {CHIPS[name].architecture: 1.0}


def _device(run: PublishedRun) -> Device:
    """Return the device of a run, with its peak as it was there."""
    named = hardware.device(run.device)
    return replace(named, peak_flops=named.peak_flops * run.peak_share)


def _run_terms(run: PublishedRun) -> dict[str, float]:
    return _terms(run.device, run.count, run.kind, run.code, run.fp8)


def _fit(runs: Sequence[PublishedRun]) -> dict[str, float]:
    """Fit the terms to these runs: the mode of the posterior, which is ridge regression."""
    import numpy as np  # here, so that `nudge plan --help` does not wait for it

    names = list(_PRIORS)
    design = np.array([[_run_terms(run).get(name, 0.0) for name in names] for run in runs])
    target = np.array([math.log(_share(run)) - _CENTER for run in runs])
    ridge = np.diag([(_NOISE / _PRIORS[name]) ** 2 for name in names])
    return dict(zip(names, np.linalg.solve(design.T @ design + ridge, design.T @ target).tolist(), strict=True))


def _share(run: PublishedRun) -> float:
    """Return the share of its roof that a run reached."""
    on = _device(run)
    return run.mfu(on.peak_flops) / roof(run.network, on)


def _predict(fitted: dict[str, float], token: Network, device: Device, terms: dict[str, float]) -> float:
    share = math.exp(_CENTER + sum(fitted.get(name, 0.0) * times for name, times in terms.items()))
    return min(roof(token, device) * share, 1.0)


def _held_out(run: PublishedRun, others: Sequence[PublishedRun]) -> float:
    """Predict a run from others, in its unit. Of the run itself only the network and the machine are used."""
    on = _device(run)
    mfu = _predict(_fit(others), run.network, on, _run_terms(run))
    return run.in_unit(mfu * on.peak_flops * run.count / run.network.flops_per_token)


@cache
def _calibrated() -> dict[str, float]:
    return _fit(_used(RUNS))


@cache
def _spread() -> float:
    """Return the error in ln(MFU) that 80% of the runs stay below, each predicted by the runs of other codes.

    By other codes, because the code of a planned run is in none of the families.
    """
    rows = validate().rows
    errors = sorted(abs(math.log(row.predicted_by_strangers / row.run.figure)) for row in rows)
    return errors[math.ceil(_COVERED * len(errors)) - 1]


def _doubts(token: Network, device: Device) -> tuple[float, list[str]]:
    """Return half the width of the interval in ln(MFU), and the reasons why it is wider than the errors."""
    spread, words = _spread(), []
    if CHIPS[device.name].carried_over:
        spread *= _CARRIED_OVER
        words.append(
            f"no run on {device.title}: carried over from {CHIPS[device.name].carried_over}, the interval made wider"
        )
    smallest = min(run.network.matmul_parameters for run in _used(RUNS))
    if token.matmul_parameters < smallest:
        spread *= 1 + math.log10(smallest / token.matmul_parameters)
        words.append(
            f"an extrapolation: every published run had at least {smallest / 1e6:.0f}M parameters in products; where "
            "starting kernels takes longer than running them, the true share lies far below"
        )
    return spread, words


def _sources(device: Device, kind: Kind) -> str:
    used = _used(RUNS)
    architecture = CHIPS[device.name].architecture
    same_chip = sum(CHIPS[run.device].architecture == architecture for run in used)
    same_kind = sum(run.kind == kind for run in used)
    return (
        f"{len(used)} published runs, {same_chip} of them on {architecture} GPUs and {same_kind} of {kind} code; "
        f"{_COVERED:.0%} of them lie as near when each is predicted by other codes (nudge plan --validate)"
    )
