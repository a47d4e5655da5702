"""What a training run needs before it starts: memory, time, money, energy. Every number from one closed form.

`explain.py` prints the forms with their numbers; `questions.py` asks the other way round (how far does $100 go?).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from nudge import config as configs
from nudge import recipes
from nudge.config import ModelConfig
from nudge.errors import ConfigError, nearest
from nudge.model.sizes import (
    ParameterCounts,
    checkpoint_bytes,
    matmul_parameters,
    parameter_counts,
    training_flops_per_token,
)
from nudge.plan import hardware
from nudge.plan.hardware import Device, Price
from nudge.plan.layout import Kind, Layout, Traffic, place, traffic
from nudge.plan.published import RUNS
from nudge.plan.speed import Speed, speed
from nudge.plan.this_machine import decades, local_speed, nearest_size

Dtype = Literal["bfloat16", "float32"]
LayoutName = Literal["auto", "data", "shard"]  # auto: the fastest that fits
MOST_TOKENS = 10**18  # more than there is text, machines and money: beyond it only a slip of the hand
CHINCHILLA = 20  # tokens per parameter that are worth most for their compute (Source: Hoffmann et al. 2022)
RECOMPUTED = 4 / 3  # one forward pass more, which is a third of an update's arithmetic
# Unexpected failures per GPU-hour (Source: Llama 3 report, section 3.3.4: 419 in 54 days on 16,384 H100)
FAILURES_PER_GPU_HOUR = 419 / (54 * 24 * 16_384)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a plan is asked about."""

    recipe: str
    model: ModelConfig
    tokens: int
    batch_tokens: int
    optimizer: str
    device: Device
    count: int = 1
    price: Price | None = None
    dtype: Dtype = "bfloat16"
    layout: LayoutName = "auto"
    micro_batch: int | None = None  # sequences per pass; None: the most that fit
    recompute: bool | None = None  # None: where it is faster, or nothing fits without


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A forecast: four in five runs should end between low and high."""

    low: float
    likely: float
    high: float

    def times(self, factor: float) -> "Interval":
        return Interval(low=self.low * factor, likely=self.likely * factor, high=self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """What breaks on the way, and how often to save because of it."""

    expected: float  # in the whole run
    mtbf_hours: float  # mean time between two
    checkpoint_s: float  # to write one checkpoint
    save_every_s: float  # what loses least: sqrt(2 * checkpoint time * MTBF)
    lost_share: float  # of the time: writing, and repeating what was lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The answer. Times of one update in seconds, of the run in hours; memory in bytes of one GPU."""

    ask: Ask
    parameters: ParameterCounts
    flops_per_token: int
    steps: int
    peak_flops: float  # of one GPU in the plan's number type
    speed: Speed
    compute_s: float  # of one update, by the likely speed
    layout: Layout
    layouts: tuple[Layout, ...]  # all that were looked at, the chosen one among them
    count_that_fits: int | None  # the fewest GPUs of this kind on which it trains; None: not on 4,096 either
    traffic: Traffic | None
    step_s: Interval
    hours: Interval
    usd: Interval | None
    energy_kwh: Interval
    failures: Failures

    @property
    def fits(self) -> bool:
        return self.layout.fits

    @property
    def tokens(self) -> int:
        """Of whole updates: what was asked for, rounded up."""
        return self.steps * self.ask.batch_tokens

    @property
    def flops(self) -> float:
        """Of the whole run."""
        return float(self.tokens * self.flops_per_token)

    @property
    def tokens_per_s(self) -> Interval:
        batch, step = self.ask.batch_tokens, self.step_s
        return Interval(low=batch / step.high, likely=batch / step.likely, high=batch / step.low)

    @property
    def is_extrapolated(self) -> bool:
        """Whether no published run was as small: starting kernels then takes longer than any forecast here says."""
        smallest = min(run.network.matmul_parameters for run in RUNS if not run.why_left_out)
        return self.ask.device.name != "cpu" and matmul_parameters(self.ask.model) < smallest

    @property
    def tokens_per_parameter(self) -> float:
        return self.tokens / self.parameters.total

    @property
    def beside_optimal(self) -> Literal["more", "less", "close"]:
        """How many tokens it learns from, beside what is worth most for its compute: close is less than half off."""
        ratio = self.tokens_per_parameter / CHINCHILLA
        return "more" if ratio > 1.5 else "less" if ratio < 1 / 1.5 else "close"


def make_ask(
    recipe: str = "gpt2_small",
    *,
    settings: Mapping[str, Any] | None = None,
    tokens: int | str | None = None,
    gpu: str = "h100",
    count: int = 1,
    price: str | None = None,
    dtype: str | None = None,
    layout: str = "auto",
    micro_batch: int | None = None,
    recompute: bool | None = None,
) -> Ask:
    """The question in a person's words. `settings` as nested tables (config.override).

    `tokens`: a number, also as people write it (10B), or "chinchilla", 20 per parameter; the recipe's if None.

    Raises: ConfigError for what does not exist or cannot be.
    """
    _check_name("dtype", dtype or "bfloat16", hardware.DTYPES)
    _check_name("layout", layout, get_args(LayoutName))
    if recompute not in (None, True, False):
        raise ConfigError(f"recompute must be true or false, got {recompute!r}", "leave it out: the faster is chosen")
    config = configs.override(recipes.recipe(recipe), settings or {})
    configs.check(config)
    n_tokens, device = _tokens(tokens, config), hardware.device(gpu, config.model)
    return Ask(
        recipe=recipe,
        model=config.model,
        tokens=n_tokens,
        batch_tokens=config.train.batch_tokens,
        optimizer=config.train.optimizer,
        device=device,
        count=count,
        price=hardware.parse_price(price, device.name) if price else hardware.price(device.name),
        dtype=cast(Dtype, dtype) if dtype else usual_dtype(device),
        layout=cast(LayoutName, layout),
        micro_batch=micro_batch,
        recompute=recompute,
    )


def _check_name(kind: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ConfigError(f"unknown {kind} '{name}'", nearest(name, known))


def usual_dtype(device: Device) -> Dtype:
    """In which number type it trains: bfloat16 if it has that; this processor in the one that was measured."""
    return "bfloat16" if device.has_bfloat16 else "float32"


def rent(model: ModelConfig, tokens: int, *, batch_tokens: int, gpu: str = "h100") -> Plan:
    """The same tokens on one rented GPU: what a run that was made here would have cost there."""
    return plan(
        Ask(
            recipe="",
            model=model,
            tokens=tokens,
            batch_tokens=batch_tokens,
            optimizer="adamw",
            device=hardware.device(gpu),
            price=hardware.price(gpu),
        )
    )


def _tokens(tokens: int | str | None, config: configs.Config) -> int:
    if tokens is None:
        return config.train.steps * config.train.batch_tokens
    if not isinstance(tokens, str):
        return tokens
    if tokens.strip().lower() == "chinchilla":
        return CHINCHILLA * parameter_counts(config.model).total
    return configs.parse_count(tokens, "tokens")


def check_tokens(tokens: float) -> None:
    """Raises: ConfigError for a number of tokens of which no run can be."""
    if tokens < 1:
        raise ConfigError(f"tokens must be at least 1, got {tokens:,}", "for example --tokens 10B")
    if tokens > MOST_TOKENS:
        raise ConfigError(f"tokens must be at most {MOST_TOKENS:.0e}, got more", "for example --tokens 10B")


def plan(ask: Ask) -> Plan:
    """Everything that can be told about that run. Raises: ConfigError for a run that cannot be."""
    _check(ask)
    sequences = -(-ask.batch_tokens // ask.model.block_size // ask.count)
    layouts = _layouts(ask, sequences)
    flops_per_token = training_flops_per_token(ask.model)
    peak = ask.device.peak(ask.dtype)
    reached = _speed(ask, peak)
    kept_s = sequences * ask.model.block_size * flops_per_token / (peak * reached.mfu)
    updates = [_update(ask, layout, kept_s) for layout in layouts]
    chosen = min((update for update in updates if update.layout.fits), key=_Update.likely_s, default=updates[-1])
    likely_s = chosen.likely_s()
    step_s = Interval(
        low=likely_s * reached.mfu / reached.high, likely=likely_s, high=likely_s * reached.mfu / reached.low
    )
    steps = -(-ask.tokens // ask.batch_tokens)
    hours = step_s.times(steps / 3600)
    return Plan(
        ask=ask,
        parameters=parameter_counts(ask.model),
        flops_per_token=flops_per_token,
        steps=steps,
        peak_flops=peak,
        compute_s=chosen.compute_s,
        speed=reached,
        layout=chosen.layout,
        layouts=layouts,
        count_that_fits=_count_that_fits(ask, chosen.layout),
        traffic=chosen.traffic,
        step_s=step_s,
        hours=hours,
        usd=hours.times(ask.count * ask.price.usd_per_hour) if ask.price else None,
        energy_kwh=hours.times(ask.count * ask.device.watts / 1000),
        failures=_failures(ask, chosen.layout, hours.likely),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Update:
    """One update in one of the layouts."""

    layout: Layout
    compute_s: float
    traffic: Traffic | None

    def likely_s(self) -> float:
        return self.compute_s + (self.traffic.exposed_s if self.traffic else 0.0)


def _update(ask: Ask, layout: Layout, kept_s: float) -> _Update:
    """`kept_s`: of its arithmetic, if activations are kept."""
    compute_s = kept_s * (RECOMPUTED if layout.recompute else 1)
    said = traffic(ask.model, ask.device, ask.count, layout, dtype=ask.dtype, compute_s=compute_s)
    return _Update(layout=layout, compute_s=compute_s, traffic=said)


def _speed(ask: Ask, peak: float) -> Speed:
    if ask.device.name != "cpu":
        return speed(ask.model, replace(ask.device, peak_flops=peak), ask.count)
    here = local_speed(ask.model, batch_tokens=ask.batch_tokens)
    if here is None or here.device != "cpu" or here.dtype != ask.dtype:
        return _carried_over(ask)
    share = here.flops_per_s / peak
    return Speed(
        mfu=share,
        low=share / (1 + here.spread),
        high=share / (1 - here.spread),
        source=f"this very network, as measured here on {here.date}",
    )


def _carried_over(ask: Ask) -> Speed:
    """This processor's speed by another network: up to twice off, and once more for every power of ten in size."""
    near = nearest_size(ask.model)
    factor = 2 ** (1 + (decades(near.model, ask.model) if near else 0.0))
    source = f"carried over from {near.recipe}, nearest in size of what was measured here" if near else "not measured"
    return Speed(mfu=1.0, low=1 / factor, high=factor, source=f"{source}: up to {factor:.2g} times faster or slower")


def _check(ask: Ask) -> None:
    sequences = ask.batch_tokens // ask.model.block_size
    check_tokens(ask.tokens)
    if ask.count < 1:
        raise ConfigError(f"the count of GPUs must be at least 1, got {ask.count}", "for example --count 8")
    if ask.count > sequences:
        raise ConfigError(
            f"an update of {ask.recipe} has {sequences:,} sequences, too few for {ask.count:,} GPUs",
            f"--count {sequences} at most, or a larger update: --set train.batch_tokens=N",
        )
    if ask.layout == "shard" and ask.count == 1:
        raise ConfigError("one GPU has nobody to divide its state with", "--layout data, or --count 2")
    if not ask.device.peak(ask.dtype):
        known = usual_dtype(ask.device)
        raise ConfigError(f"no speed in {ask.dtype} is known of {ask.device.title}", f"--dtype {known}")
    here = -(-sequences // ask.count)
    if ask.micro_batch is not None and (ask.micro_batch < 1 or here % ask.micro_batch):
        raise ConfigError(
            f"--micro-batch {ask.micro_batch} does not divide the {here:,} sequences of an update on each GPU",
            "leave it out: the largest that fits is chosen",
        )


def _layouts(ask: Ask, sequences: int) -> tuple[Layout, ...]:
    """The simplest first, which of several that are as fast is taken."""
    kinds: tuple[Kind, ...] = ("data", "shard") if ask.layout == "auto" else (ask.layout,)
    if ask.count == 1:
        kinds = ("data",)
    return tuple(
        place(
            ask.model,
            ask.device,
            ask.count,
            sequences=sequences,
            dtype=ask.dtype,
            optimizer=ask.optimizer,
            kind=kind,
            recompute=recompute,
            micro_batch=ask.micro_batch,
        )
        for recompute in ((False, True) if ask.recompute is None else (ask.recompute,))
        for kind in kinds
    )


def _count_that_fits(ask: Ask, chosen: Layout) -> int | None:
    """The fewest GPUs, doubling, on which it fits if everything is done to save memory."""
    most = ask.batch_tokens // ask.model.block_size
    counts = (2**power for power in range(13) if 2**power <= most)
    for count in counts:
        smaller = replace(ask, count=count, micro_batch=1, layout="auto", recompute=None)
        if any(layout.fits for layout in _layouts(smaller, 1)):
            return count
    return ask.count if chosen.fits else None


def _failures(ask: Ask, layout: Layout, hours: float) -> Failures:
    """Under FSDP every node writes its share of a checkpoint; else one process writes all of it."""
    writers = -(-ask.count // ask.device.per_node) if layout.kind == "shard" else 1
    checkpoint_s = checkpoint_bytes(ask.model) / (writers * hardware.DISK_BYTES_PER_S)
    mtbf_s = 3600 / (FAILURES_PER_GPU_HOUR * ask.count)
    return Failures(
        expected=FAILURES_PER_GPU_HOUR * ask.count * hours,
        mtbf_hours=mtbf_s / 3600,
        checkpoint_s=checkpoint_s,
        save_every_s=math.sqrt(2 * checkpoint_s * mtbf_s),
        lost_share=math.sqrt(2 * checkpoint_s / mtbf_s),
    )
