"""The speed of training on a GPU as a share of its peak, calibrated on published runs.

The share is a product of two factors. The roof follows from data sheets: products take FLOPs / peak, and moving
activations through memory takes bytes / bandwidth. A small network does few operations per byte, so it reaches less of
the peak, above all on a GPU whose peak is high for its memory. The share of the roof is fitted. It depends on the
chip's architecture, the kind of code and the code itself, the number of machines, and 8-bit products.

    MFU = roof x share,   ln(share) = ln(0.5) + the terms that apply

The fit is least squares with a prior on every term (ridge): without any run, a term is 0 with the standard deviation in
`_PRIORS`. A term that only one run has moves most of the way toward that run; a term that no run has stays 0. The
priors are round numbers, chosen for their meaning and not for the best predictions.
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
PASSES = 3  # through memory: written in the forward pass, read by the next product, read in the backward pass

MOST_MEDIAN_ERROR, WITHIN, LEAST_WITHIN = 0.15, 0.35, 0.9  # the limits of Validation.holds

_COVERED = 0.8  # share of the errors inside an interval
_CARRIED_OVER = 1.5  # factor on the interval of a GPU without a published run: a judgment, not a measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """The properties of a GPU that determine its speed, besides its peak."""

    architecture: str
    memory_bytes_per_s: float  # data sheet
    carried_over: str = ""  # the GPU whose runs are used instead, if there are none on this one


CHIPS = {name: Chip(**values) for name, values in facts.read("hardware.toml")["chips"].items()}

_NOISE = 0.15  # standard deviation of ln(share) among runs with the same terms
_PRIORS = {  # the standard deviation of each term without any run, in ln(share)
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
    """The share of the peak (MFU, by 6N + 12LTC) that training likely reaches, and the source of this forecast.

    80% of the published runs lie between `low` and `high` if each is predicted without its family. Communication
    between the devices is included, as in the published runs.
    """

    mfu: float
    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A published run, and its speed as predicted from other runs. Errors are predicted / published - 1."""

    run: PublishedRun
    predicted: float  # by all other runs, in run.unit
    predicted_by_other_codes: float  # only by runs of other codes

    @property
    def error(self) -> float:
        return self.predicted / self.run.figure - 1

    @property
    def error_by_other_codes(self) -> float:
        return self.predicted_by_other_codes / self.run.figure - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Forecasts compared with the published runs. Each run is held out alone, and with its family (the same code)."""

    rows: tuple[Row, ...]
    left_out: tuple[PublishedRun, ...]

    def errors(self, *, other_codes: bool = False) -> list[float]:
        """Return the absolute error of each row."""
        return [abs(row.error_by_other_codes if other_codes else row.error) for row in self.rows]

    def median_error(self, *, other_codes: bool = False) -> float:
        return median(self.errors(other_codes=other_codes))

    def share_within(self, error: float = WITHIN, *, other_codes: bool = False) -> float:
        return sum(e <= error for e in self.errors(other_codes=other_codes)) / len(self.rows)

    @property
    def holds(self) -> bool:
        """Return whether the forecasts are accurate enough, each run held out alone."""
        return self.median_error() <= MOST_MEDIAN_ERROR and self.share_within() >= LEAST_WITHIN


def speed(model: ModelConfig, device: Device, count: int = 1, *, kind: Kind = "compiled", code: str = "nudge") -> Speed:
    """Forecast the share of the peak that training this network reaches.

    `kind`: "compiled" is PyTorch with torch.compile, like nudge. `code`: for a code in published.toml its runs count;
    any other code is taken as the average of its kind.

    Raises: ConfigError for a device that is not in CHIPS (a CPU is measured instead), or an unknown kind.
    """
    if device.name not in CHIPS:
        raise ConfigError("no_published_speed", device=device.name, closest=did_you_mean(device.name, CHIPS))
    if kind not in get_args(Kind):
        raise ConfigError("unknown_choice", key="kind", value=kind, closest=did_you_mean(kind, get_args(Kind)))
    if count < 1:
        raise ConfigError("below_minimum", name="count", least=1, got=count)
    token = network(model)
    mfu = _predict(_fit_all_runs(), token, device, _terms(device.name, count, kind, code))
    spread, reasons = _interval_width(token, device)
    return Speed(
        mfu=mfu,
        low=mfu * math.exp(-spread),
        high=min(mfu * math.exp(spread), 1.0),
        source="; ".join([_sources(device, kind), *reasons]),
    )


def validate(runs: Sequence[PublishedRun] = RUNS) -> Validation:
    """Predict each run from the others: first without itself, then without all runs of its code."""
    used = _used_runs(runs)
    rows = []
    for run in used:
        others = tuple(other for other in used if other is not run)
        other_codes = tuple(other for other in used if other.code != run.code)
        rows.append(
            Row(
                run=run,
                predicted=_predict_held_out(run, others),
                predicted_by_other_codes=_predict_held_out(run, other_codes),
            )
        )
    return Validation(rows=tuple(rows), left_out=tuple(run for run in runs if run.why_left_out))


def roof(token: Network, device: Device) -> float:
    """Return the share of the peak if only matrix products and memory traffic took time, one after the other."""
    products_s = token.flops_per_token / device.peak_flops
    return products_s / (products_s + traffic_bytes(token) / CHIPS[device.name].memory_bytes_per_s)


def traffic_bytes(token: Network) -> float:
    """Return the bytes of activations and logits that one token moves through memory in an update."""
    kept = ACTIVATION_BYTES * token.n_layer * token.n_embd + LOGIT_BYTES * token.vocab_size
    return PASSES * kept


def _used_runs(runs: Sequence[PublishedRun]) -> tuple[PublishedRun, ...]:
    return tuple(run for run in runs if not run.why_left_out)


def _terms(name: str, count: int, kind: Kind, code: str, fp8: bool = False) -> dict[str, float]:
    """Return the terms that apply to a run, and how many times each one is added."""
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
    """Return the device of a run, with the peak that it had in that run."""
    device = hardware.device(run.device)
    return replace(device, peak_flops=device.peak_flops * run.peak_share)


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
    device = _device(run)
    return run.mfu(device.peak_flops) / roof(run.network, device)


def _predict(fitted: dict[str, float], token: Network, device: Device, terms: dict[str, float]) -> float:
    share = math.exp(_CENTER + sum(fitted.get(name, 0.0) * times for name, times in terms.items()))
    return min(roof(token, device) * share, 1.0)


def _predict_held_out(run: PublishedRun, others: Sequence[PublishedRun]) -> float:
    """Predict a run's figure, in its unit, from its network and machine and from the other runs."""
    device = _device(run)
    mfu = _predict(_fit(others), run.network, device, _run_terms(run))
    return run.in_unit(mfu * device.peak_flops * run.count / run.network.flops_per_token)


@cache
def _fit_all_runs() -> dict[str, float]:
    return _fit(_used_runs(RUNS))


@cache
def _spread() -> float:
    """Return the error in ln(MFU) that 80% of the runs stay below if each is predicted from other codes.

    A planned run's code is in none of the families, so its own family must not help the prediction here either.
    """
    rows = validate().rows
    errors = sorted(abs(math.log(row.predicted_by_other_codes / row.run.figure)) for row in rows)
    return errors[math.ceil(_COVERED * len(errors)) - 1]


def _interval_width(token: Network, device: Device) -> tuple[float, list[str]]:
    """Return half the width of the interval in ln(MFU), and the reasons why it is wider than `_spread`."""
    spread, reasons = _spread(), []
    if CHIPS[device.name].carried_over:
        spread *= _CARRIED_OVER
        reasons.append(
            f"no run on {device.title}: carried over from {CHIPS[device.name].carried_over}, the interval made wider"
        )
    smallest = min(run.network.matmul_parameters for run in _used_runs(RUNS))
    if token.matmul_parameters < smallest:
        spread *= 1 + math.log10(smallest / token.matmul_parameters)
        reasons.append(
            f"an extrapolation: every published run had at least {smallest / 1e6:.0f}M parameters in products; where "
            "starting kernels takes longer than running them, the true share lies far below"
        )
    return spread, reasons


def _sources(device: Device, kind: Kind) -> str:
    """Return a sentence on the published runs behind a forecast."""
    used = _used_runs(RUNS)
    architecture = CHIPS[device.name].architecture
    same_chip = sum(CHIPS[run.device].architecture == architecture for run in used)
    same_kind = sum(run.kind == kind for run in used)
    return (
        f"{len(used)} published runs, {same_chip} of them on {architecture} GPUs and {same_kind} of {kind} code; "
        f"{_COVERED:.0%} of them lie as near when each is predicted by other codes (nudge plan --validate)"
    )
