"""The plan of a training run: memory, time, money and energy, each by one formula.

`explain.py` shows these formulas with their numbers; `questions.py` solves them for the inputs (how many tokens does
$100 buy?).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast, get_args

from nudge import config as configs
from nudge import recipes
from nudge.config import Config, MachineConfig, ModelConfig, TrainConfig
from nudge.errors import ConfigError, did_you_mean
from nudge.model.shape import Shape, as_trained, check_shape, shape_of
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
from nudge.plan.this_machine import decades, local_speed, nearest_measurement

Dtype = Literal["bfloat16", "float32"]
Optimizer = Literal["adamw", "muon"]
LayoutName = Literal["auto", "data", "shard"]  # auto: the fastest that fits
MOST_TOKENS = 10**18  # more than all text: a larger number is a typing mistake
MOST_HEADS = 2000  # in a network that is sized by its parameters: 10^14 of them
CHINCHILLA = 20  # compute-optimal tokens per parameter (Source: Hoffmann et al. 2022)
RECOMPUTED = 4 / 3  # a second forward pass, which is a third of an update's arithmetic
# Unexpected failures per GPU-hour (Source: Llama 3 report, section 3.3.4: 419 in 54 days on 16,384 H100)
FAILURES_PER_GPU_HOUR = 419 / (54 * 24 * 16_384)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The run to plan."""

    recipe: str
    model: ModelConfig
    tokens: int
    batch_tokens: int
    optimizer: Optimizer
    device: Device
    count: int = 1
    price: Price | None = None
    dtype: Dtype = "bfloat16"
    layout: LayoutName = "auto"
    micro_batch: int | None = None  # sequences per pass; None: the most that fit
    recompute: bool | None = None  # None: if it is faster, or nothing fits without

    @property
    def title(self) -> str:
        """Return the recipe with exactly these sizes, or this one's name and the sizes in which the network differs."""
        if not self.recipe:
            return ""
        if self.model == recipes.recipe(self.recipe).model:
            return self.recipe
        same = (name for name in recipes.RECIPES if recipes.recipe(name).model == self.model)
        return next(same, "") or f"{self.recipe} with {', '.join(self._changes())}"

    def _changes(self) -> list[str]:
        """Return the sizes that differ from the recipe's, as they are set."""
        before, now = asdict(shape_of(recipes.recipe(self.recipe).model)), asdict(shape_of(self.model))
        return [f"{name}={str(value).lower()}" for name, value in now.items() if value != before[name]]


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
    """Expected failures during the run, and how often to save because of them."""

    expected: float  # in the whole run
    mtbf_hours: float  # mean time between failures
    checkpoint_s: float  # to write one checkpoint
    save_every_s: float  # the interval that loses least time: sqrt(2 * checkpoint time * MTBF)
    lost_share: float  # of the time: writing checkpoints, and repeating lost updates


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The forecast of a run. Memory is in bytes of one GPU."""

    ask: Ask
    parameters: ParameterCounts
    flops_per_token: int
    steps: int
    peak_flops: float  # of one GPU in the plan's dtype, per second
    speed: Speed
    compute_s: float  # of one update, at the likely speed
    layout: Layout
    layouts: tuple[Layout, ...]  # all candidates, including the chosen one
    count_that_fits: int | None  # the fewest GPUs of this kind on which it fits; None: more than 4,096
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
        """Return the tokens of whole updates: the ask's tokens, rounded up."""
        return self.steps * self.ask.batch_tokens

    @property
    def flops(self) -> float:
        """Return the floating-point operations of the whole run."""
        return float(self.tokens * self.flops_per_token)

    @property
    def tokens_per_s(self) -> Interval:
        batch, step = self.ask.batch_tokens, self.step_s
        return Interval(low=batch / step.high, likely=batch / step.likely, high=batch / step.low)

    @property
    def is_extrapolated(self) -> bool:
        """Return whether every published run was larger. The time is then a lower bound: it ignores kernel launches."""
        smallest = min(run.network.matmul_parameters for run in RUNS if not run.why_left_out)
        return self.ask.device.name != "cpu" and matmul_parameters(self.ask.model) < smallest

    @property
    def tokens_per_parameter(self) -> float:
        return self.tokens / self.parameters.total

    @property
    def tokens_vs_optimal(self) -> Literal["more", "less", "close"]:
        """Compare tokens per parameter with the compute-optimal number; within a factor of 1.5 is "close"."""
        ratio = self.tokens_per_parameter / CHINCHILLA
        return "more" if ratio > 1.5 else "less" if ratio < 1 / 1.5 else "close"


def make_ask(
    recipe: str = "gpt2_small",
    *,
    settings: Mapping[str, Any] | None = None,
    params: int | str | None = None,
    tokens: int | str | None = None,
    gpu: str = "h100",
    count: int = 1,
    price: str | None = None,
    dtype: str | None = None,
    layout: str = "auto",
    micro_batch: int | None = None,
    recompute: bool | None = None,
) -> Ask:
    """Build an ask from options. `settings`: nested tables, as for config.override, also for the sizes of a Shape.

    `params`: about how many parameters the network has, also as text (8.0B); its layers and channels follow from it.
    `tokens`: a number, also as text (10B); "chinchilla": 20 per parameter; None: the recipe's, or "chinchilla" with
    `params`.

    Raises: ConfigError for an unknown or impossible value.
    """
    for option, value, known in (
        ("dtype", dtype or "bfloat16", hardware.DTYPES),
        ("layout", layout, get_args(LayoutName)),
    ):
        if value not in known:
            raise ConfigError("unknown_choice", key=option, value=value, closest=did_you_mean(value, known))
    if recompute not in (None, True, False):
        raise ConfigError("recompute_not_bool", value=recompute)
    config = _sized(recipe, settings or {}, params)
    if tokens is None and params is not None:
        tokens = "chinchilla"
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


def _sized(recipe: str, settings: Mapping[str, Any], params: int | str | None) -> Config:
    """Return a recipe with the settings of a plan and its final, checked sizes. Raises: ConfigError."""
    base = recipes.recipe(recipe)
    config = configs.override(replace(base, model=shape_of(base.model)), settings)
    shape = shape_of(config.model)
    if params is not None:
        given = [name for name in ("n_layer", "n_head", "n_embd") if name in settings.get("model", {})]
        if given:
            raise ConfigError("exclusive_options", options=f"--params, --set model.{given[0]}")
        shape = shape_with(shape, configs.parse_count(params, "params") if isinstance(params, str) else params)
    configs.check(replace(config, model=shape))
    check_shape(shape)
    return replace(config, model=as_trained(shape))


def shape_with(shape: Shape, n_params: int) -> Shape:
    """Return a shape with other layers, heads and channels, so that it has about `n_params` parameters.

    A head has 64 channels, as in every GPT-2, and n_embd is 64 to 128 times n_layer, as in most of GPT-3's sizes
    (Source: Brown et al. 2020, table 2.1).

    Raises: ConfigError for a number that no such network comes near.
    """
    found = min(
        (_with_heads(shape, n_head, n_params) for n_head in range(shape.n_kv_head or 1, MOST_HEADS)),
        key=lambda each: (each.n_head % (shape.n_kv_head or 1), abs(parameter_counts(each).total - n_params)),
    )
    nearest = parameter_counts(found).total
    if not 0.5 < nearest / max(1, n_params) < 2:
        raise ConfigError("no_such_size", n_params=n_params, nearest=nearest)
    return found


def _with_heads(shape: Shape, n_head: int, n_params: int) -> Shape:
    """Return the shape with that many heads, and the layers that bring it nearest to `n_params` parameters."""
    none, one = (replace(shape, n_layer=n, n_head=n_head, n_embd=64 * n_head) for n in (0, 1))
    beside = parameter_counts(none).total
    n_layer = round((n_params - beside) / (parameter_counts(one).total - beside))
    return replace(one, n_layer=min(max(n_layer, -(-n_head // 2)), n_head))


def usual_dtype(device: Device) -> Dtype:
    """Return the default dtype of a device: bfloat16 if it supports it; on a CPU the measured one."""
    return "bfloat16" if device.has_bfloat16 else "float32"


def rent(model: ModelConfig, tokens: int, *, batch_tokens: int, gpu: str = "h100") -> Plan:
    """Plan the same training on one rented GPU, to show what a run on this machine would have cost there."""
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
    """Check that a run can have this number of tokens. Raises: ConfigError."""
    if tokens < 1:
        raise ConfigError("below_minimum", name="tokens", least=1, got=tokens)
    if tokens > MOST_TOKENS:
        raise ConfigError("too_many_training_tokens", most=MOST_TOKENS)


def plan(ask: Ask) -> Plan:
    """Plan a run. Raises: ConfigError for an impossible one."""
    _check(ask)
    sequences = -(-ask.batch_tokens // ask.model.block_size // ask.count)
    layouts = _layouts(ask, sequences)
    flops_per_token = training_flops_per_token(ask.model)
    peak = ask.device.peak(ask.dtype)
    reached = _likely_speed(ask, peak)
    kept_s = sequences * ask.model.block_size * flops_per_token / (peak * reached.mfu)
    fitting = [layout for layout in layouts if layout.fits] or layouts[-1:]
    layout = min(fitting, key=lambda layout: _update(ask, layout, kept_s)[0])
    likely_s, compute_s, sent = _update(ask, layout, kept_s)
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
        compute_s=compute_s,
        speed=reached,
        layout=layout,
        layouts=layouts,
        count_that_fits=_count_that_fits(ask, layout),
        traffic=sent,
        step_s=step_s,
        hours=hours,
        usd=hours.times(ask.count * ask.price.usd_per_hour) if ask.price else None,
        energy_kwh=hours.times(ask.count * ask.device.watts / 1000),
        failures=_failures(ask, layout, hours.likely),
    )


def _update(ask: Ask, layout: Layout, kept_s: float) -> tuple[float, float, Traffic | None]:
    """Return the seconds of an update in that layout, the seconds of its arithmetic, and its traffic.

    `kept_s`: the seconds of the arithmetic without recomputing activations.
    """
    compute_s = kept_s * (RECOMPUTED if layout.recompute else 1)
    sent = traffic(ask.model, ask.device, ask.count, layout, dtype=ask.dtype, compute_s=compute_s)
    return compute_s + (sent.exposed_s if sent else 0.0), compute_s, sent


def _likely_speed(ask: Ask, peak: float) -> Speed:
    """Predict a GPU's speed from published runs, and a CPU's from a measurement of this model, else of another."""
    if ask.device.name != "cpu":
        return speed(ask.model, replace(ask.device, peak_flops=peak), ask.count)
    measured = local_speed(ask.model, batch_tokens=ask.batch_tokens)
    if measured is None or measured.device != "cpu" or measured.dtype != ask.dtype:
        return _speed_by_nearest(ask)
    share = measured.flops_per_s / peak
    return Speed(
        mfu=share,
        low=share / (1 + measured.spread),
        high=share / (1 - measured.spread),
        source=f"this very network, as measured here on {measured.date}",
    )


def _speed_by_nearest(ask: Ask) -> Speed:
    """Predict this processor's speed from the nearest measured network.

    The error is up to a factor of 2, times another 2 for each power of ten between their sizes.
    """
    near = nearest_measurement(ask.model)
    factor = 2 ** (1 + (decades(near.model, ask.model) if near else 0.0))
    source = f"carried over from {near.recipe}, nearest in size of what was measured here" if near else "not measured"
    return Speed(mfu=1.0, low=1 / factor, high=factor, source=f"{source}: up to {factor:.2g} times faster or slower")


def _check(ask: Ask) -> None:
    sequences = ask.batch_tokens // ask.model.block_size
    check_tokens(ask.tokens)
    if ask.count < 1:
        raise ConfigError("below_minimum", name="count", least=1, got=ask.count)
    if ask.count > sequences:
        raise ConfigError("too_many_gpus", recipe=ask.title, sequences=sequences, count=ask.count)
    if ask.layout == "shard" and ask.count == 1:
        raise ConfigError("nothing_to_shard")
    if not ask.device.peak(ask.dtype):
        usual = usual_dtype(ask.device)
        raise ConfigError("no_speed_in_dtype", dtype=ask.dtype, device=ask.device.title, usual=usual)
    per_gpu = -(-sequences // ask.count)
    if ask.micro_batch is not None and (ask.micro_batch < 1 or per_gpu % ask.micro_batch):
        raise ConfigError("micro_batch_per_gpu", size=ask.micro_batch, sequences=per_gpu)


def _layouts(ask: Ask, sequences: int) -> tuple[Layout, ...]:
    """Return the candidate layouts, the simplest first. `sequences`: of an update, on the busiest GPU."""
    kinds: tuple[Kind, ...] = ("data", "shard") if ask.layout == "auto" else (ask.layout,)
    if ask.count == 1:
        kinds = ("data",)
    train = TrainConfig(
        optimizer=ask.optimizer, micro_batch=ask.micro_batch, batch_tokens=sequences * ask.model.block_size
    )
    on_cpu: Literal["fast", "eager"] = "fast" if ask.model.is_gpt2 else "eager"
    machine = MachineConfig(dtype=ask.dtype, update=on_cpu if ask.device.name == "cpu" else "compiled")
    return tuple(
        place(
            Config(model=ask.model, train=train, machine=replace(machine, shard=kind == "shard", recompute=recompute)),
            ask.device,
            ask.count,
        )
        for recompute in ((False, True) if ask.recompute is None else (ask.recompute,))
        for kind in kinds
    )


def _count_that_fits(ask: Ask, chosen: Layout) -> int | None:
    """Return the smallest power of two of GPUs on which the run fits with every way to save memory."""
    most = ask.batch_tokens // ask.model.block_size
    counts = (2**power for power in range(13) if 2**power <= most)
    for count in counts:
        smaller = replace(ask, count=count, micro_batch=1, layout="auto", recompute=None)
        if any(layout.fits for layout in _layouts(smaller, 1)):
            return count
    return ask.count if chosen.fits else None


def _failures(ask: Ask, layout: Layout, hours: float) -> Failures:
    """Forecast failures. With FSDP every node writes its share of a checkpoint, otherwise one process writes all."""
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
