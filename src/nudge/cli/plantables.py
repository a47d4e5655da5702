"""The terminal output of `nudge plan`: budgets, the lecture's figures, the validation and the calibration."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding

from nudge.cli.output import (
    Console,
    Text,
    indent,
    make_console,
    make_facts,
    make_fitting_table,
    show_next,
    show_title,
)
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
    """Print the training of each GPT-2 that a budget or a time allows."""
    console = make_console(wide=True)
    ask = plans[0].ask
    machine = f" on {ask.count} x {ask.device.title}"
    if usd is not None and ask.price:
        console.print(Text.assemble((f"What {dollars(usd)} trains", "bold"), machine))
        rate = f"at {dollars(ask.price.usd_per_hour)} per GPU-hour ({ask.price.date}: {ask.price.source})"
        console.print(Text(rate, style="dim"))
    else:
        console.print(Text.assemble((f"What {plain(hours or 0, 6)} hours trains", "bold"), machine))
    console.print()
    names = ("recipe", ">parameters", ">tokens", ">per parameter", ">of its recipe", "a published loss")
    rows = []
    for plan in plans:
        share = plan.tokens / recipe_tokens(plan.ask.recipe)
        row = (
            Text(plan.ask.recipe, style="bold" if plan.fits else "red"),
            compact(plan.parameters.total),
            compact(plan.tokens),
            f"{plan.tokens_per_parameter:,.1f}",
            f"{share:.0%}" if share < 10 else f"{share:,.0f}x",
            _nearest_loss(plan) if plan.fits else Text("does not fit", style="red"),
        )
        rows.append(row)
    left_out = ("of its recipe", "per parameter")
    console.print(make_fitting_table(console, names, rows, wraps=names[-1], expendable=left_out, least=16, margin=0))
    n_params, tokens = compute_optimal(max(plan.flops for plan in plans))
    optimal = f"{compact(n_params)} parameters on {compact(tokens)} tokens"
    words = ("\nCompute-optimal would be about ", (optimal, "bold"), " (Chinchilla: 20 tokens a parameter).")
    console.print(Text.assemble(*words))
    reached = plans[-1].speed
    low, high = reached.low / reached.mfu - 1, reached.high / reached.mfu - 1
    console.print(Text(f"Tokens by the likely speed; the interval is {low:+.0%} to {high:+.0%}.", style="dim"))
    show_next(console, (f"nudge plan {plans[0].ask.recipe} --budget {usd or 100:g}", "one of them in full"))


def _nearest_loss(plan: Plan) -> str:
    """Return the published loss of the run nearest to the plan, or 'none'."""
    losses = published_losses(plan)
    if not losses:
        return "none"
    nearest = losses[0]
    tokens = f"{compact(nearest.tokens)} tokens" if nearest.tokens else "OpenAI's own"
    return f"{nearest.loss:.2f} on {nearest.data}, {tokens}"


def recipe_tokens(name: str) -> int:
    """Return the number of tokens that a recipe trains on by default."""
    train = recipe(name).train
    return train.steps * train.batch_tokens


def show_lecture() -> None:
    """Print what a GPT-2 costs, corrections of the lecture's figures, and today's models."""
    console = make_console(wide=True)
    costs = published.LECTURE_COSTS
    rows = []
    for cost in costs:
        times = costs[0].usd / cost.usd
        row = (
            Text(cost.when, style="bold"),
            dollars(cost.usd),
            f"{times:,.0f}x" if times > 1 else "",
            f"{cost.machine}, {about(cost.hours)}" if cost.hours else cost.machine,
            Text(cost.status, style="green" if cost.status == "measured" else "yellow"),
            Text(cost.source, style="dim"),
        )
        rows.append(row)
    names = ("when", ">cost", ">cheaper", "machine", "status", "source")
    table = make_fitting_table(console, names, rows, wraps="source", expendable=("source",), least=16)
    console.print(Text("What a GPT-2 XL costs", style="bold"))
    console.print(indent(table))
    today = gpt2_today()
    if today.usd and today.ask.price:
        shown, rate = cells(today), dollars(today.ask.price.usd_per_hour)
        words = f"{shown.time} and {shown.cost} ({shown.cost_interval}), at {rate} per GPU-hour"
        console.print(indent(Text(f"\nforecast by 'nudge plan gpt2_xl --gpu h100 --count 8': {words}")))
    show_title(console, "Claims, and what is right")
    for correction in published.CORRECTIONS:
        console.print(Text.assemble("  ", (correction.said, "dim")))
        right = Text.assemble(correction.right, (f"  [{correction.source}]", "dim"))
        console.print(Padding(right, (0, 0, 0, 6), expand=False))
    show_title(console, "GPT-2 against modern models", "in brackets: times GPT-2")
    console.print(indent(_models(console)))


def _models(console: Console) -> RenderableType:
    rows: list[list[str | Text]] = []
    for model, row in models(compact):
        row_cells = (Text.assemble(text, (f" ({ratio}x)" if ratio else "", "dark_orange")) for text, ratio in row)
        rows.append([Text(model.name, style="bold"), str(model.year), *row_cells])
    names = ("model", ">year", ">parameters", ">context", ">tokens", ">per\nparameter", ">work (FLOP)")
    left_out = ("context", "year", "tokens", "per\nparameter")
    table = make_fitting_table(console, names, rows, wraps="model", expendable=left_out, least=13)
    notes = Text("\n".join(f"{model.name}: {model.source}" for model in MODELS), style="dim")
    return Group(table, Text(), notes)


def show_validation(validation: "Validation") -> None:
    """Print each published run beside its speed as predicted from the other runs."""
    from nudge.plan.speed import WITHIN

    console = make_console(wide=True)
    names = ("run", "unit", ">published", ">predicted", ">error", ">by other codes", ">its error")
    rows: list[Sequence[str | Text]] = [forecast(row) for row in validation.rows]
    for name, reached in (("median error", validation.median_error), (f"within {WITHIN:.0%}", validation.share_within)):
        row = (name, "", "", "", f"{reached():.0%}", "", f"{reached(other_codes=True):.0%}")
        rows.append([Text(cell, style="bold") for cell in row])
    left_out = ("by other codes", "predicted", "its error")
    table = make_fitting_table(console, names, rows, wraps="run", expendable=left_out, least=22, margin=0)
    console.print(Text("Published runs, each predicted by what the others calibrate", style="bold"))
    console.print(table)
    for run in validation.left_out:
        console.print(Text(f"left out: {run.name}: {run.why_left_out}", style="dim"))
    words, color = ("the goal is met", "green") if validation.holds else ("the goal is missed", "red")
    console.print(Text(words, style=color))


def show_calibration(found: "Calibration") -> None:
    """Print how long a run will take on this machine."""
    console = make_console(wide=True)
    config = found.config
    steps = f"{config.train.steps:,} updates of {config.train.batch_tokens:,} tokens"
    console.print(Text.assemble((config.recipe, "bold"), " here", (f": {steps}, {found.machine}", "dim")))
    console.print()
    interval = about_between(found.low_s / 3600, found.high_s / 3600)
    rows = (
        ("time", Text.assemble((about(found.likely_s / 3600), "bold"), f"  {interval}")),
        ("of it", ", ".join(f"{name} {about(seconds / 3600)}" for name, seconds in found.parts() if seconds)),
        ("speed", f"{found.tokens_per_s:,.0f} tokens/s, {config.machine.dtype}"),
    )
    console.print(indent(make_facts(rows)))
    if not found.steady:
        words = "other programs were busy here: the rounds differ by more than the interval"
        console.print(indent(Text(words, style="yellow")))
    show_next(
        console,
        (f"nudge train --recipe {config.recipe}", "train it"),
        (f"nudge plan {config.recipe} --gpu cpu", "the same as a plan, next to rented machines"),
    )
