"""A plan asked the other way round: how far a budget goes, how many GPUs an evening needs, what else there is."""

import math
from dataclasses import dataclass, replace
from typing import Any

from nudge.errors import ConfigError
from nudge.plan import hardware
from nudge.plan.hardware import Price
from nudge.plan.layout import Kind
from nudge.plan.planner import CHINCHILLA, Ask, Plan, check_tokens, make_ask, plan, usual_dtype

NODE = ("h100", 8)  # the machine that is planned with if none is named: the lecture's
MOST_GPUS = 16_384
LADDER = (("cpu", 1), ("t4", 1), ("l4", 1), ("4090", 1), ("a100-80", 1), ("h100", 1), ("b200", 1), ("h100", 8))
GROWING = ("gpt2_small", "gpt2_medium", "gpt2_large", "gpt2_xl")


def answered(
    recipe: str = "gpt2_small",
    *,
    tokens: int | str | None = None,
    budget: float | None = None,
    hours: float | None = None,
    gpu: str | None = None,
    count: int | None = None,
    **others: Any,
) -> Ask:
    """What is planned, with what a budget or a time left open filled in. `others`: make_ask's.

    A budget, in dollars, says how many tokens; a time says how many GPUs, or of a given count how many tokens.

    Raises: ConfigError for questions that contradict each other, or have no answer.
    """
    _check_limits(budget, hours)
    if tokens is not None and (budget is not None or (hours is not None and count is not None)):
        limit, also = ("the budget", "") if hours is None else ("the time", ", or the number of GPUs")
        raise ConfigError(
            f"tokens and {limit} both say how far the run goes",
            f"leave one of them out{also}: it follows from the rest",
        )
    machine, n = machine_of(gpu, count)
    ask = make_ask(recipe, tokens=tokens, gpu=machine, count=n, **others)
    if budget is not None or (hours is not None and count is not None):
        return replace(ask, tokens=tokens_for(ask, usd=budget, hours=hours))
    return ask if hours is None else replace(ask, count=count_for(ask, hours))


def machine_of(gpu: str | None, count: int | None) -> tuple[str, int]:
    """Which machines, and how many: one if it is named, else the lecture's node."""
    machine, n = (gpu, 1) if gpu else NODE
    return machine, n if count is None else count


def _check_limits(usd: float | None, hours: float | None) -> None:
    if usd is not None and hours is not None:
        raise ConfigError("a budget and a time were both given", "give one of them")


def hours_of(usd: float, count: int, price: Price | None) -> float:
    """How long that much money rents the machine. Raises: ConfigError without a price, or without money."""
    if price is None:
        raise ConfigError("no price of this machine is known here", "give one with its date: --price 2.49@2026-11-20")
    if not 0 < usd < math.inf:
        raise ConfigError(f"the budget must be above 0 dollars, got {usd:g}", "for example --budget 100")
    return usd / (price.usd_per_hour * count) if price.usd_per_hour else math.inf


def tokens_for(ask: Ask, *, usd: float | None = None, hours: float | None = None) -> int:
    """How many tokens the run can learn from for that money, or in that time, by the likely speed.

    Raises: ConfigError if not even one update is made.
    """
    if usd is not None:
        hours = hours_of(usd, ask.count, ask.price)
    if hours is None or not 0 < hours < math.inf:
        raise ConfigError(f"the time must be above 0 hours, got {hours}", "for example --hours 24")
    step_s = plan(replace(ask, tokens=ask.batch_tokens)).step_s.likely
    steps = hours * 3600 / step_s
    if steps < 1:
        given = f"{hours * 3600:.3g} s on {ask.count} x {ask.device.title}"
        if usd is not None:
            given = f"${usd:g} is {given}, which"
        raise ConfigError(
            f"{given} is too little for a single update, which takes {step_s:.3g} s",
            "give more, choose a smaller recipe, or smaller updates: --set train.batch_tokens=N",
        )
    check_tokens(steps * ask.batch_tokens)
    return int(steps) * ask.batch_tokens


def count_for(ask: Ask, hours: float) -> int:
    """The fewest GPUs on which the run fits and likely ends in that time. Raises: ConfigError if no number does."""
    if not 0 < hours < math.inf:
        raise ConfigError(f"the time must be above 0 hours, got {hours:g}", "for example --hours 24")
    node, sequences = ask.device.per_node, ask.batch_tokens // ask.model.block_size
    most = min(sequences, MOST_GPUS)
    counts = [*range(1, min(node, most) + 1), *range(2 * node, most + 1, node)]
    fastest = math.inf
    for count in counts:
        if sequences % count:
            continue  # every GPU has the same work, or those that have less would wait
        planned = plan(replace(ask, count=count))
        if planned.fits:
            fastest = min(fastest, planned.hours.likely)
            if planned.hours.likely <= hours:
                return count
    reason = f"its fastest takes {fastest:,.1f} hours" if fastest < math.inf else "it fits on none of them"
    raise ConfigError(
        f"no number of {ask.device.title} up to {most:,} trains {ask.recipe} in {hours:g} hours: {reason}",
        "fewer tokens, a faster GPU, or larger updates (--set train.batch_tokens=N), which more GPUs can divide",
    )


def affordable(
    *,
    usd: float | None = None,
    hours: float | None = None,
    gpu: str | None = None,
    count: int | None = None,
    price: str | None = None,
) -> list[Plan]:
    """What each GPT-2 reaches for that money or in that time: plans, each with the tokens that it gets to.

    Raises: ConfigError if it is too little for any of them.
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
    """Parameters and tokens that make the most of that much arithmetic: C = 6ND and D = 20N, so N = sqrt(C / 120).

    Source: Hoffmann et al. 2022 (Chinchilla). It leaves attention out, as 6ND does.
    """
    n_params = math.sqrt(flops / (6 * CHINCHILLA))
    return n_params, CHINCHILLA * n_params


def ladder(ask: Ask) -> list[Plan]:
    """The same run on other machines, each with what it costs there, the asked one among them; slowest first."""
    others = [_elsewhere(ask, name, count) for name, count in LADDER if (name, count) != (ask.device.name, ask.count)]
    sequences = ask.batch_tokens // ask.model.block_size
    plans = [plan(other) for other in [ask, *others] if other and other.count <= sequences]
    return sorted(plans, key=lambda planned: -planned.hours.likely)


def _elsewhere(ask: Ask, name: str, count: int) -> Ask | None:
    """The same run on that machine; None for a processor that was never measured."""
    if name == ask.device.name:
        return replace(ask, count=count, micro_batch=None, layout="auto")
    try:
        device = hardware.device(name, ask.model)
    except ConfigError:
        return None
    as_usual = ask.dtype == usual_dtype(ask.device) or not device.has_bfloat16
    dtype = usual_dtype(device) if as_usual else ask.dtype
    price = hardware.price(name)
    return replace(ask, device=device, count=count, price=price, dtype=dtype, micro_batch=None, layout="auto")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A plan with one thing changed."""

    name: str  # of _CHANGES
    n: int  # what the micro-batch, the number of GPUs or of tokens then is; 0 of others
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
    """The same plan with one thing changed, and what that is."""
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
