"""What `nudge plan` shows beside a plan: budgets, the lecture's figures, and how right its forecasts were."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nudge.cli.planview import indented, show_next, title, wide_console
from nudge.plan import published
from nudge.plan.lecture import MODELS, gpt2_today
from nudge.plan.losses import published_losses
from nudge.plan.planner import Plan
from nudge.plan.questions import compute_optimal
from nudge.plan.tables import cells, forecast, models
from nudge.recipes import recipe
from nudge.util.formatting import about, about_between, compact, dollars, plain

if TYPE_CHECKING:
    from nudge.estimate.calibration import Calibration
    from nudge.plan.speed import Validation


def show_affordable(plans: Sequence[Plan], *, usd: float | None, hours: float | None) -> None:
    """What each GPT-2 reaches for a budget."""
    console = wide_console()
    ask = plans[0].ask
    machine = f"{ask.count} x {ask.device.title}"
    if usd is not None and ask.price:
        console.print(Text.assemble((f"What {dollars(usd)} trains", "bold"), f" on {machine}"))
        console.print(
            Text(
                f"at {dollars(ask.price.usd_per_hour)} per GPU-hour ({ask.price.date}: {ask.price.source})", style="dim"
            )
        )
    else:
        console.print(Text.assemble((f"What {plain(hours or 0, 6)} hours trains", "bold"), f" on {machine}"))
    console.print()
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("recipe", no_wrap=True)
    for name in ("parameters", "tokens", "per parameter", "of its recipe", "a published loss"):
        table.add_column(name, justify="right", no_wrap=True)
    table.columns[-1].justify = "left"
    for plan in plans:
        share = plan.tokens / recipe_tokens(plan.ask.recipe)
        table.add_row(
            Text(plan.ask.recipe, style="bold" if plan.fits else "red"),
            compact(plan.parameters.total),
            compact(plan.tokens),
            f"{plan.tokens_per_parameter:,.1f}",
            f"{share:.0%}" if share < 10 else f"{share:,.0f}x",
            _near(plan) if plan.fits else Text("does not fit", style="red"),
        )
    console.print(table)
    n_params, tokens = compute_optimal(max(plan.flops for plan in plans))
    console.print(
        Text.assemble(
            "\nCompute-optimal would be about ",
            (f"{compact(n_params)} parameters on {compact(tokens)} tokens", "bold"),
            " (Chinchilla: 20 tokens a parameter).",
        )
    )
    reached = plans[-1].speed
    console.print(
        Text(f"Tokens by the likely speed; the interval is {reached.low / reached.mfu - 1:+.0%} to "
             f"{reached.high / reached.mfu - 1:+.0%}.", style="dim")
    )  # fmt: skip
    show_next(console, (f"nudge plan {plans[0].ask.recipe} --budget {usd or 100:g}", "one of them in full"))


def _near(plan: Plan) -> str:
    for row in published_losses(plan)[:1]:
        return f"{row.loss:.2f} on {row.data}, " + (f"{compact(row.tokens)} tokens" if row.tokens else "OpenAI's own")
    return "none"


def recipe_tokens(name: str) -> int:
    """How many tokens a recipe is trained on by its own schedule."""
    train = recipe(name).train
    return train.steps * train.batch_tokens


def show_lecture() -> None:
    """What a GPT-2 cost, what is loose in the figures that are told of it, and how far today's models are."""
    console = wide_console()
    costs = published.LECTURE_COSTS
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("when", "cost", "cheaper", "machine", "status", "source"):
        table.add_column(name, justify="right" if name in ("cost", "cheaper") else "left", no_wrap=name != "source")
    for cost in costs:
        times = costs[0].usd / cost.usd
        table.add_row(
            Text(cost.when, style="bold"),
            dollars(cost.usd),
            f"{times:,.0f}x" if times > 1 else "",
            f"{cost.machine}, {about(cost.hours)}" if cost.hours else cost.machine,
            Text(cost.status, style="green" if cost.status == "measured" else "yellow"),
            Text(cost.source, style="dim"),
        )
    today = gpt2_today()
    shown = cells(today)
    title(console, "What a GPT-2 XL costs", first=True)
    console.print(indented(table))
    if today.usd and today.ask.price:
        console.print(
            indented(
                Text(
                    f"\nforecast by 'nudge plan gpt2_xl --gpu h100 --count 8': {shown.time} and "
                    f"{shown.cost} ({shown.cost_interval}), at {dollars(today.ask.price.usd_per_hour)} per GPU-hour"
                )
            )
        )
    title(console, "What is told, and what is right")
    for correction in published.CORRECTIONS:
        console.print(Text.assemble("  ", (correction.said, "dim")))
        console.print(
            Padding(Text.assemble(correction.right, (f"  [{correction.source}]", "dim")), (0, 0, 0, 6), expand=False)
        )
    title(console, "GPT-2 against modern models", "in brackets: times GPT-2")
    console.print(indented(_models()))


def _models() -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("model", no_wrap=True)
    for name in ("year", "parameters", "context", "tokens", "per\nparameter", "work (FLOP)"):
        table.add_column(name, justify="right", no_wrap=True)
    for model, compared in models(compact):
        beside = (Text.assemble(shown, (f" ({times}x)" if times else "", "dark_orange")) for shown, times in compared)
        table.add_row(Text(model.name, style="bold"), str(model.year), *beside)
    notes = Text("\n".join(f"{model.name}: {model.source}" for model in MODELS), style="dim")
    return Group(table, Text(), notes)


def show_validation(validation: "Validation") -> None:
    """Every published run beside what the others predict of it."""
    from nudge.plan.speed import WITHIN

    console = wide_console()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for position, name in enumerate(("run", "unit", "published", "predicted", "error", "by other codes", "error")):
        table.add_column(name, justify="left" if position < 2 else "right", no_wrap=position > 0)
    for row in validation.rows:
        table.add_row(*forecast(row))
    for name, reached in (("median error", validation.median_error), (f"within {WITHIN:.0%}", validation.share_within)):
        table.add_row(name, "", "", "", f"{reached():.0%}", "", f"{reached(strangers=True):.0%}", style="bold")
    console.print(Text("Published runs, each predicted by what the others calibrate", style="bold"))
    console.print(table)
    for run in validation.left_out:
        console.print(Text(f"left out: {run.name}: {run.why_left_out}", style="dim"))
    console.print(
        Text(
            "the goal is kept" if validation.holds else "the goal is missed",
            style="green" if validation.holds else "red",
        )
    )


def show_calibration(found: "Calibration") -> None:
    """How long a run will take here, by what was measured."""
    console = wide_console()
    config = found.config
    steps = f"{config.train.steps:,} updates of {config.train.batch_tokens:,} tokens"
    console.print(Text.assemble((config.recipe, "bold"), " here", (f": {steps}, {found.machine}", "dim")))
    console.print()
    table = Table.grid(padding=(0, 2))
    interval = about_between(found.low_s / 3600, found.high_s / 3600)
    parts = ", ".join(f"{name} {about(seconds / 3600)}" for name, seconds in found.parts() if seconds)
    table.add_row(Text("time", style="dim"), Text.assemble((about(found.likely_s / 3600), "bold"), f"  {interval}"))
    table.add_row(Text("of it", style="dim"), Text(parts))
    table.add_row(Text("speed", style="dim"), Text(f"{found.tokens_per_s:,.0f} tokens/s, {config.machine.dtype}"))
    console.print(indented(table))
    if not found.steady:
        words = "other programs were busy here: the rounds differ by more than the interval says"
        console.print(indented(Text(words, style="yellow")))
    show_next(
        console,
        (f"nudge train --recipe {config.recipe}", "train it"),
        (f"nudge plan {config.recipe} --gpu cpu", "the same as a plan, beside rented machines"),
    )
