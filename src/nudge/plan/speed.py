"""How fast a network trains on a GPU: the share of its peak, calibrated on runs that others published.

Two causes are multiplied. The roof is arithmetic from data sheets: products take FLOPs / peak, and moving activations
through memory takes bytes / bandwidth; a small network multiplies little per byte that it moves, which is why it
reaches less of the peak, and less on a GPU whose peak outgrew its memory. What is left of the roof is fitted: a share
that depends on the chip's architecture, the kind of code and the code itself, the number of machines, and 8-bit
products.

    MFU = roof x share,   ln(share) = ln(0.5) + the terms that apply

The fit is least squares with a prior on every term (ridge): before any run is seen, a term is 0 give or take what
`_PRIORS` says, so that a term which one run alone speaks for moves most of the way towards it, and a term without any
run stays 0. These are round numbers, chosen for what they mean and not for how well they predict.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import get_args

from nudge.config import ModelConfig
from nudge.errors import ConfigError, nearest
from nudge.plan import hardware
from nudge.plan.hardware import Device
from nudge.plan.published import RUNS, Kind, Network, PublishedRun, network

ACTIVATION_BYTES = 34  # per token, layer and channel, in 16 bits. Source: Korthikanti et al. 2022, without the scores
LOGIT_BYTES = 4  # per token and word, in float32
PASSES = 3  # what is written in the forward pass is read by the next product and again in the backward pass

MOST_MEDIAN_ERROR, WITHIN, LEAST_WITHIN = 0.15, 0.35, 0.9  # what Validation.holds asks of forecasts

_COVERED = 0.8  # of the errors lie inside of an interval
_CARRIED_OVER = 1.5  # times wider where no run was on that GPU: a judgement, not a measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """What the model needs to know of a GPU beside its peak."""

    architecture: str
    memory_bytes_per_s: float  # data sheet
    carried_over: str = ""  # whose runs stand in where there are none of its own


CHIPS = {
    "a100-40": Chip(architecture="ampere", memory_bytes_per_s=1555e9),
    "a100-80": Chip(architecture="ampere", memory_bytes_per_s=2039e9),
    "h100": Chip(architecture="hopper", memory_bytes_per_s=3350e9),
    "h800": Chip(architecture="hopper", memory_bytes_per_s=3350e9),
    "4090": Chip(architecture="ada", memory_bytes_per_s=1008e9),
    "h200": Chip(architecture="hopper", memory_bytes_per_s=4800e9, carried_over="the H100, the same chip"),
    "b200": Chip(architecture="hopper", memory_bytes_per_s=8000e9, carried_over="the H100, a generation before it"),
    "l4": Chip(architecture="ada", memory_bytes_per_s=300e9, carried_over="the RTX 4090, the same architecture"),
    "t4": Chip(architecture="turing", memory_bytes_per_s=320e9, carried_over="the average GPU"),
    "tpu-v3": Chip(architecture="tpu", memory_bytes_per_s=4 * 900e9, carried_over="the average GPU"),
}

_NOISE = 0.15  # of ln(share): what two runs that agree in every term may differ by
_PRIORS = {  # of each term, what it may be before any run is seen (one standard deviation of ln(share))
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
_CENTRE = math.log(0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """The share of the peak (MFU, by 6N + 12LTC) that training likely reaches, and where that comes from.

    `low` to `high` holds 80% of the published runs when each is predicted without its family. Communication among the
    devices is inside, as it was in the runs.
    """

    mfu: float
    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A published run beside what the others predict of it. Errors are predicted / published - 1."""

    run: PublishedRun
    predicted: float  # by all other runs; in the unit of run.unit
    predicted_by_strangers: float  # by the runs of other codes only

    @property
    def error(self) -> float:
        return self.predicted / self.run.figure - 1

    @property
    def error_by_strangers(self) -> float:
        return self.predicted_by_strangers / self.run.figure - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """The model against the runs it is made of, each held out, alone and with its family (the runs of its code)."""

    rows: tuple[Row, ...]
    left_out: tuple[PublishedRun, ...]

    def errors(self, *, strangers: bool = False) -> list[float]:
        """The size of each row's error."""
        return [abs(row.error_by_strangers if strangers else row.error) for row in self.rows]

    def median_error(self, *, strangers: bool = False) -> float:
        errors = sorted(self.errors(strangers=strangers))
        return (errors[(len(errors) - 1) // 2] + errors[len(errors) // 2]) / 2

    def share_within(self, error: float = WITHIN, *, strangers: bool = False) -> float:
        return sum(e <= error for e in self.errors(strangers=strangers)) / len(self.rows)

    @property
    def holds(self) -> bool:
        """Whether forecasts are as near as they should be, each run held out alone."""
        return self.median_error() <= MOST_MEDIAN_ERROR and self.share_within() >= LEAST_WITHIN


def speed(model: ModelConfig, device: Device, count: int = 1, *, kind: Kind = "compiled", code: str = "nudge") -> Speed:
    """How much of the peak training this network reaches.

    `kind`: compiled is PyTorch with torch.compile, as nudge's own. `code`: one of published.py's has runs that speak
    for it; any other is as good as the average of its kind.

    Raises: ConfigError for a device that no data sheet here describes (a CPU is measured instead), or another kind.
    """
    if device.name not in CHIPS:
        raise ConfigError(f"no published run says how fast '{device.name}' trains", nearest(device.name, CHIPS))
    if kind not in get_args(Kind):
        raise ConfigError(f"unknown kind of code '{kind}'", nearest(kind, get_args(Kind)))
    if count < 1:
        raise ConfigError(f"the number of devices must be at least 1, got {count}", "--count 8 is one usual machine")
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
    """Each run predicted by what the others calibrated: first without itself, then without all runs of its code."""
    used = _used(runs)
    rows = []
    for run in used:
        others = tuple(other for other in used if other is not run)
        strangers = tuple(other for other in used if other.code != run.code)
        rows.append(Row(run=run, predicted=_held_out(run, others), predicted_by_strangers=_held_out(run, strangers)))
    return Validation(rows=tuple(rows), left_out=tuple(run for run in runs if run.why_left_out))


def roof(token: Network, device: Device) -> float:
    """The share of the peak if nothing but products and memory took time, one after the other."""
    products_s = token.flops_per_token / device.peak_flops
    return products_s / (products_s + traffic_bytes(token) / CHIPS[device.name].memory_bytes_per_s)


def traffic_bytes(token: Network) -> float:
    """Bytes of activations and logits that one token moves through memory in an update."""
    kept = ACTIVATION_BYTES * token.n_layer * token.n_embd + LOGIT_BYTES * token.vocab_size
    return PASSES * kept


def _used(runs: Sequence[PublishedRun]) -> tuple[PublishedRun, ...]:
    return tuple(run for run in runs if not run.why_left_out)


def _terms(name: str, count: int, kind: Kind, code: str, fp8: bool = False) -> dict[str, float]:
    """Which terms apply to a run, and how often."""
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
    """The device of a run, as fast as it was allowed to be there."""
    named = hardware.device(run.device)
    return replace(named, peak_flops=named.peak_flops * run.peak_share)


def _run_terms(run: PublishedRun) -> dict[str, float]:
    return _terms(run.device, run.count, run.kind, run.code, run.fp8)


def _fit(runs: Sequence[PublishedRun]) -> dict[str, float]:
    """The terms that these runs calibrate: the mode of the posterior, which is ridge regression."""
    import numpy as np  # here: `nudge plan --help` must not wait for it

    names = list(_PRIORS)
    design = np.array([[_run_terms(run).get(name, 0.0) for name in names] for run in runs])
    target = np.array([math.log(_share(run)) - _CENTRE for run in runs])
    ridge = np.diag([(_NOISE / _PRIORS[name]) ** 2 for name in names])
    return dict(zip(names, np.linalg.solve(design.T @ design + ridge, design.T @ target).tolist(), strict=True))


def _share(run: PublishedRun) -> float:
    """What a run reached of its roof."""
    on = _device(run)
    return run.mfu(on.peak_flops) / roof(run.network, on)


def _predict(fitted: dict[str, float], token: Network, device: Device, terms: dict[str, float]) -> float:
    share = math.exp(_CENTRE + sum(fitted.get(name, 0.0) * times for name, times in terms.items()))
    return min(roof(token, device) * share, 1.0)


def _held_out(run: PublishedRun, others: Sequence[PublishedRun]) -> float:
    """What the others predict in the unit of `run`, of which only what was trained on what is looked at."""
    on = _device(run)
    mfu = _predict(_fit(others), run.network, on, _run_terms(run))
    return run.in_unit(mfu * on.peak_flops * run.count / run.network.flops_per_token)


@cache
def _calibrated() -> dict[str, float]:
    return _fit(_used(RUNS))


@cache
def _spread() -> float:
    """The error of ln(MFU) that 80% of the runs stay below, each predicted by the runs of other codes.

    Those errors, because the code that a person plans with is in none of the families.
    """
    rows = validate().rows
    errors = sorted(abs(math.log(row.predicted_by_strangers / row.run.figure)) for row in rows)
    return errors[math.ceil(_COVERED * len(errors)) - 1]


def _doubts(token: Network, device: Device) -> tuple[float, list[str]]:
    """Half the width of the interval in ln(MFU), and in words what makes it wider than the errors do."""
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
