"""Questions about plans: the tokens for a budget, the GPUs for a deadline, and the alternatives."""

import math
from dataclasses import dataclass, replace
from typing import Any

from nudge.errors import ConfigError
from nudge.plan import hardware
from nudge.plan.hardware import Price
from nudge.plan.layout import Kind
from nudge.plan.planner import CHINCHILLA, Ask, Plan, check_tokens, make_ask, plan, usual_dtype

NODE = ("h100", 8)  # the default machine: the lecture's
MOST_GPUS = 16_384
LADDER = (("cpu", 1), ("t4", 1), ("l4", 1), ("4090", 1), ("a100-80", 1), ("h100", 1), ("b200", 1), ("h100", 8))
GROWING = ("gpt2_small", "gpt2_medium", "gpt2_large", "gpt2_xl")


def complete_ask(
    recipe: str = "gpt2_small",
    *,
    tokens: int | str | None = None,
    budget: float | None = None,
    hours: float | None = None,
    gpu: str | None = None,
    count: int | None = None,
    **others: Any,
) -> Ask:
    """Build an ask from options, filling in what a budget or a time determines. `others`: options of make_ask.

    A budget in dollars determines the number of tokens. A time determines the number of GPUs, or, for a given count,
    the number of tokens.

    Raises: ConfigError for options that contradict each other or have no solution.
    """
    _check_limits(budget, hours)
    fixed_time = hours is not None and count is not None
    if tokens is not None and budget is not None:
        raise ConfigError("tokens_and_budget")
    if tokens is not None and fixed_time:
        raise ConfigError("tokens_and_time")
    machine, n = machine_of(gpu, count)
    ask = make_ask(recipe, tokens=tokens, gpu=machine, count=n, **others)
    if budget is not None or fixed_time:
        return replace(ask, tokens=tokens_for(ask, usd=budget, hours=hours))
    return ask if hours is None else replace(ask, count=count_for(ask, hours))


def machine_of(gpu: str | None, count: int | None) -> tuple[str, int]:
    """Return the GPU and the count, with defaults: one GPU of that name, or the lecture's node."""
    machine, n = (gpu, 1) if gpu else NODE
    return machine, n if count is None else count


def _check_limits(usd: float | None, hours: float | None) -> None:
    if usd is not None and hours is not None:
        raise ConfigError("exclusive_options", options="--budget, --hours")


def _check_hours(hours: float | None) -> float:
    if hours is None or not 0 < hours < math.inf:
        raise ConfigError("hours_not_positive", hours=hours)
    return hours


def hours_of(usd: float, count: int, price: Price | None) -> float:
    """Return the hours of the machine that a budget rents. Raises: ConfigError without a price or a positive budget."""
    if price is None:
        raise ConfigError("no_price")
    if not 0 < usd < math.inf:
        raise ConfigError("budget_not_positive", usd=usd)
    return usd / (price.usd_per_hour * count) if price.usd_per_hour else math.inf


def tokens_for(ask: Ask, *, usd: float | None = None, hours: float | None = None) -> int:
    """Return the number of tokens for a budget or a time, at the likely speed.

    Raises: ConfigError if it is not enough for a single update.
    """
    if usd is not None:
        hours = hours_of(usd, ask.count, ask.price)
    hours = _check_hours(hours)
    step_s = plan(replace(ask, tokens=ask.batch_tokens)).step_s.likely
    steps = hours * 3600 / step_s
    if steps < 1:
        seconds, machine = hours * 3600, f"{ask.count} x {ask.device.title}"
        if usd is not None:
            raise ConfigError("budget_below_one_update", usd=usd, seconds=seconds, machine=machine, step_s=step_s)
        raise ConfigError("time_below_one_update", seconds=seconds, machine=machine, step_s=step_s)
    check_tokens(steps * ask.batch_tokens)
    return int(steps) * ask.batch_tokens


def count_for(ask: Ask, hours: float) -> int:
    """Return the fewest GPUs on which the run fits and likely ends in time. Raises: ConfigError if there are none."""
    _check_hours(hours)
    node, sequences = ask.device.per_node, ask.batch_tokens // ask.model.block_size
    most = min(sequences, MOST_GPUS)
    fastest = math.inf
    for count in (*range(1, min(node, most) + 1), *range(2 * node, most + 1, node)):
        if sequences % count:
            continue  # GPUs with less work would wait for the others
        planned = plan(replace(ask, count=count))
        if planned.fits:
            fastest = min(fastest, planned.hours.likely)
            if planned.hours.likely <= hours:
                return count
    recipe, device = ask.title, ask.device.title
    if fastest == math.inf:
        raise ConfigError("fits_no_count", recipe=recipe, device=device, most=most)
    raise ConfigError("no_count_in_time", recipe=recipe, device=device, most=most, hours=hours, fastest=fastest)


def affordable_plans(
    *,
    usd: float | None = None,
    hours: float | None = None,
    gpu: str | None = None,
    count: int | None = None,
    price: str | None = None,
) -> list[Plan]:
    """Plan each GPT-2 with as many tokens as a budget or a time allows.

    Raises: ConfigError if it is too little for all of them.
    """
    _check_limits(usd, hours)
    machine, n = machine_of(gpu, count)
    plans: list[Plan] = []
    refused: ConfigError | None = None
    for name in GROWING:
        ask = make_ask(name, gpu=machine, count=n, price=price)
        try:
            plans.append(plan(replace(ask, tokens=tokens_for(ask, usd=usd, hours=hours))))
        except ConfigError as error:
            refused = refused or error
    if refused and not plans:
        raise refused
    return plans


def compute_optimal(flops: float) -> tuple[float, float]:
    """Return the compute-optimal parameters and tokens: C = 6ND and D = 20N, so N = sqrt(C / 120).

    Attention is not counted. Source: Hoffmann et al. 2022 (Chinchilla).
    """
    n_params = math.sqrt(flops / (6 * CHINCHILLA))
    return n_params, CHINCHILLA * n_params


def ladder(ask: Ask) -> list[Plan]:
    """Plan the same run on the ask's machine and on other machines, slowest first."""
    others = [_move_to(ask, name, count) for name, count in LADDER if (name, count) != (ask.device.name, ask.count)]
    sequences = ask.batch_tokens // ask.model.block_size
    plans = [plan(other) for other in [ask, *others] if other and other.count <= sequences]
    return sorted(plans, key=lambda planned: -planned.hours.likely)


def _move_to(ask: Ask, name: str, count: int) -> Ask | None:
    """Return the same run on that machine; None for a processor without measurements."""
    if name == ask.device.name:
        return replace(ask, count=count, micro_batch=None, layout="auto")
    try:
        device = hardware.device(name, ask.model)
    except ConfigError:
        return None
    use_default = ask.dtype == usual_dtype(ask.device) or not device.has_bfloat16
    dtype = usual_dtype(device) if use_default else ask.dtype
    price = hardware.price(name)
    return replace(ask, device=device, count=count, price=price, dtype=dtype, micro_batch=None, layout="auto")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A plan with one setting changed."""

    name: str  # of _CHANGES
    n: int  # the new micro-batch, number of GPUs or number of tokens; 0 for other changes
    plan: Plan

    @property
    def words(self) -> str:
        return _CHANGES[self.name].format(n=self.n)


_CHANGES = {
    "micro_batch": "micro-batch {n}",
    "keep": "keep activations",
    "recompute": "recompute activations",
    "shard": "divide the state (FSDP)",
    "data": "whole state on each",
    "count": "{n} GPUs",
    "tokens": "a quarter of the tokens",
}


def changes(ask: Ask) -> list[Change]:
    """Return plans that each change one setting of the plan for `ask`."""
    now = plan(ask).layout
    sequences = ask.batch_tokens // ask.model.block_size
    fixed = replace(ask, layout=now.kind, recompute=now.recompute, micro_batch=now.micro_batch)
    others = [
        ("micro_batch", size, replace(fixed, micro_batch=size))
        for size in (2 * now.micro_batch, now.micro_batch // 2)
        if size and -(-sequences // ask.count) % size == 0
    ]
    others.append(("keep" if now.recompute else "recompute", 0, replace(fixed, recompute=not now.recompute)))
    if ask.count > 1:
        kind: Kind = "shard" if now.kind == "data" else "data"
        others.append((kind, 0, replace(fixed, layout=kind)))
    if sequences % (2 * ask.count) == 0 and ask.device.name != "cpu":
        others.append(("count", 2 * ask.count, replace(ask, count=2 * ask.count, micro_batch=None)))
    fewer = plan(replace(ask, tokens=-(-ask.tokens // 4)))
    found = [Change(name=name, n=n, plan=plan(other)) for name, n, other in others]
    return [*found, Change(name="tokens", n=fewer.tokens, plan=fewer)]
