"""The rows of a plan's tables as text, for both the terminal and the studio."""

from collections.abc import Callable
from dataclasses import dataclass

from nudge.plan.lecture import MODELS, LanguageModel, tokens_per_parameter
from nudge.plan.planner import Plan
from nudge.plan.questions import ladder
from nudge.plan.speed import Row
from nudge.util import formatting

NONE = "–"  # if no price is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """A plan's memory, time, cost and speed as text."""

    memory: str  # of one GPU
    time: str
    time_interval: str
    cost: str
    cost_interval: str
    tokens_per_s: str


def cells(plan: Plan, language: str = "en") -> Cells:
    """Return the cells of a plan in a language."""
    hours, usd, speed = plan.hours, plan.usd, plan.tokens_per_s.likely
    return Cells(
        memory=formatting.size(plan.layout.needed_bytes),
        time=formatting.about(hours.likely, language),
        time_interval=formatting.about_between(hours.low, hours.high, language),
        cost=formatting.dollars(usd.likely) if usd else NONE,
        cost_interval=formatting.dollars_between(usd.low, usd.high) if usd else NONE,
        tokens_per_s=formatting.count(speed, language) if speed >= 10 else formatting.significant(speed, 2),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A machine that the run could use."""

    plan: Plan
    machine: str  # 8 x H100 80 GB; with a star if its dtype is not the ask's
    is_asked: bool  # the ask's machine
    other_dtype: str  # its dtype if that is not the ask's, or ""
    price: str  # of one GPU for an hour
    rent: str  # of all GPUs for an hour
    cells: Cells


def rungs(plan: Plan, language: str = "en") -> list[Rung]:
    """Return the same run on the ask's machine and on other machines, slowest first."""
    found = []
    for other in ladder(plan.ask):
        ask, usd = other.ask, other.ask.price.usd_per_hour if other.ask.price else None
        other_dtype = "" if ask.dtype == plan.ask.dtype else ask.dtype
        found.append(
            Rung(
                plan=other,
                machine=f"{ask.count:,} x {ask.device.short_title}" + " *" * bool(other_dtype),
                is_asked=(ask.device, ask.count) == (plan.ask.device, plan.ask.count),
                other_dtype=other_dtype,
                price=NONE if usd is None else formatting.dollars(usd),
                rent=NONE if usd is None else formatting.dollars(usd * ask.count),
                cells=cells(other, language),
            )
        )
    return found


def forecast(row: Row) -> tuple[str, ...]:
    """Return the cells of a published run: name, unit, figure; then twice a prediction and its error in percent.

    The first prediction uses all other runs, the second only runs of other codes.
    """
    shown = [row.run.name, row.run.unit, formatting.plain(row.run.figure)]
    for predicted, error in ((row.predicted, row.error), (row.predicted_by_other_codes, row.error_by_other_codes)):
        shown += [formatting.plain(predicted), f"{formatting.fixed(100 * error, 0, sign=True)}%"]
    return tuple(shown)


def models(count: Callable[[float], str]) -> list[tuple[LanguageModel, list[tuple[str, str]]]]:
    """Return GPT-2 and today's models with parameters, context, tokens, tokens per parameter and work.

    Each cell is (text, ratio to GPT-2 or "" if equal or not compared). `count` formats large numbers.
    """
    gpt2, rows = MODELS[0], []
    for model in MODELS:
        cells = (
            (count(model.n_params), model.n_params / gpt2.n_params),
            (formatting.whole(model.context), model.context / gpt2.context),
            (count(model.tokens), model.tokens / gpt2.tokens),
            (formatting.plain(tokens_per_parameter(model)), None),
            (formatting.scientific(model.flops), model.flops / gpt2.flops),
        )
        rows.append(
            (model, [(text, formatting.plain(ratio, 2) if ratio not in (None, 1) else "") for text, ratio in cells])
        )
    return rows
