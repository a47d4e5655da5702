"""The terminal output of `nudge plan`: a plan."""

import math
from collections.abc import Iterator

from rich.padding import Padding

from nudge.cli.output import (
    Console,
    Text,
    indent,
    make_console,
    make_facts,
    make_fitting_table,
    show_legend,
    show_next,
    show_title,
)
from nudge.model.sizes import cache_bytes
from nudge.plan.explain import formulas
from nudge.plan.layout import Layout
from nudge.plan.losses import published_losses
from nudge.plan.planner import CHINCHILLA, Plan
from nudge.plan.questions import changes
from nudge.plan.tables import cells, rungs
from nudge.util.formatting import capacity, compact, dollars, duration, plain, scientific, significant, size

COLORS = {  # of the parts of the memory (Layout.parts)
    "weights": "dodger_blue2",
    "gradients": "deep_sky_blue1",
    "moments": "blue",
    "copies": "light_sky_blue1",
    "activations": "dark_orange",
    "logits": "orange1",
    "communication": "medium_purple",
    "scratch": "orchid",
    "reserved": "grey50",
}


def show(plan: Plan, answer: str = "", *, command: str) -> None:
    """Print time, money and memory first, then where they come from, and the alternatives.

    `command`: what plans the same network.
    """
    console = make_console(wide=True)
    _show_headline(console, plan, answer)
    _show_memory(console, plan)
    _show_work(console, plan)
    _show_ladder(console, plan)
    _show_changes(console, plan)
    show_next(
        console,
        ("the same with --explain", "every formula with its numbers"),
        (f"{command} --budget 100", "how far it gets for $100"),
        ("nudge plan --budget 100", "what $100 trains, of every size"),
        ("nudge plan --validate", "how right such forecasts are"),
    )


def _show_headline(console: Console, plan: Plan, answer: str) -> None:
    ask, shown = plan.ask, cells(plan)
    console.print(
        Text.assemble(
            (ask.title, "bold"),
            f" on {ask.count} x {ask.device.title}",
            (f": {compact(plan.tokens)} tokens, {plan.steps:,} updates, {ask.dtype}", "dim"),
        )
    )
    if answer:
        console.print(Text(answer, style="green"))
    console.print()
    rows = (
        ("time", Text(at_least(plan) + shown.time, style="bold"), shown.time_interval),
        ("money", *_money(plan)),
        ("memory", *_memory_words(plan)),
        ("loss", *_loss(plan)),
    )
    console.print(indent(make_facts(rows)))
    if plan.is_extrapolated:
        words = "this is the least it takes: no published run was as small, and such a network never fills a GPU"
        console.print(indent(Text(words, style="yellow")))


def _money(plan: Plan) -> tuple[Text, Text]:
    price = plan.ask.price
    if plan.usd is None or price is None:
        where = "its price is not known; give one with --price 2.49@2026-11-20"
        return Text("?", style="bold"), Text(where if plan.ask.device.name != "cpu" else "your own machine")
    rate = f"at {dollars(price.usd_per_hour)} per GPU-hour ({price.date}: {price.source})"
    return Text(cells(plan).cost, style="bold"), Text(f"{cells(plan).cost_interval}, {rate}")


def _memory_words(plan: Plan) -> tuple[Text, Text]:
    layout = plan.layout
    needed = size(layout.needed_bytes)
    of = f"of {capacity(layout.memory_bytes)}" + (" on each" if plan.ask.count > 1 else "")
    if layout.fits:
        return Text(needed, style="bold"), Text(f"{of}: it fits")
    if plan.count_that_fits:
        way = f"{plan.count_that_fits} of them can hold it (--count {plan.count_that_fits})"
    else:
        way = "no number of them can hold it"
    return Text(needed, style="bold red"), Text(f"{of}: it does not fit; {way}", style="red")


def _loss(plan: Plan) -> tuple[Text, Text]:
    known = published_losses(plan)
    if not known:
        return Text("?", style="bold"), Text("no run of this size was published, and it is not computed")
    nearest = known[0]
    after = f"after {compact(nearest.tokens)} tokens" if nearest.tokens else "after an unknown number of tokens"
    return Text(f"{nearest.loss:.2f}", style="bold"), Text(
        f"is what {nearest.source} reached {after}, on {nearest.data}; not a forecast"
    )


def _show_memory(console: Console, plan: Plan) -> None:
    layout = plan.layout
    batch = f"{layout.micro_batch} x {plan.ask.model.block_size:,} tokens a pass"
    passes = f"{layout.passes:,} pass{'es' if layout.passes > 1 else ''} per update"
    place = "this machine" if plan.ask.device.name == "cpu" else "one GPU"
    show_title(console, "Memory", f"{place}, {batch}, {passes}, {layout.name}")
    console.print(_memory_bar(layout, room=min(64, console.width - 20)))
    shown = [
        Text.assemble(("■ ", COLORS[name]), f"{'CUDA' if name == 'reserved' else name} ", (size(n_bytes), "bold"))
        for name, n_bytes in layout.parts.items()
        if n_bytes
    ]
    show_legend(console, shown)
    for other in plan.layouts:
        if other is not layout:
            batch = f"{other.micro_batch} x {plan.ask.model.block_size:,} tokens a pass"
            words = f"{other.name}: {size(other.needed_bytes)}, {batch if other.fits else 'does not fit'}"
            console.print(Text(f"  or {words}", style="dim"))


def _memory_bar(layout: Layout, *, room: int) -> Text:
    """Return the parts of the memory as a colored bar of `room` characters, and the total."""
    total = max(layout.memory_bytes, layout.needed_bytes)
    bar, used = Text("  "), 0
    for name, n_bytes in layout.parts.items():
        width = round(room * (used + n_bytes) / total) - round(room * used / total)
        bar.append("█" * width, style=COLORS[name])
        used += n_bytes
    bar.append("░" * (room - round(room * used / total)), style="grey30")
    return bar.append(f"  {size(layout.needed_bytes)} of {capacity(layout.memory_bytes)}", style="dim")


def _show_work(console: Console, plan: Plan) -> None:
    show_title(console, "Where it comes from")
    console.print(indent(make_facts(_work(plan))))


def _work(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield (name, words) for each fact about the work of a plan."""
    counts, step_s = plan.parameters, plan.step_s
    components = {
        "embeddings": counts.wte + counts.wpe,
        "attention": counts.attention,
        "MLP": counts.mlp,
        "norms": counts.norms,
        "head": counts.head,
    }
    yield "parameters", f"{counts.total:,}: " + ", ".join(f"{name} {compact(n)}" for name, n in components.items() if n)
    yield "work", f"{scientific(plan.flops)} FLOP, {plain(plan.flops_per_token / 1e9)} GFLOP per token (6N + 12LTC)"
    cache = size(cache_bytes(plan.ask.model))
    yield "KV cache", f"{cache} in 16 bits for a context of {plan.ask.model.block_size:,} tokens, to write text"
    beside = {"more": "more than", "less": "less than", "close": "close to"}[plan.tokens_vs_optimal]
    ratio = plain(plan.tokens_per_parameter)
    yield "tokens", f"{ratio} per parameter, {beside} the compute-optimal {CHINCHILLA} (Chinchilla)"
    yield "speed", _speed(plan)
    interval = f"({duration(step_s.low)} to {duration(step_s.high)})"
    yield "update", f"{duration(step_s.likely)} {interval}, {compact(plan.tokens_per_s.likely)} tokens/s"
    if traffic := plan.traffic:
        exposed_s = traffic.exposed_s
        waiting = f"{duration(exposed_s)} of it waited for" if exposed_s else "hidden under the arithmetic"
        yield "traffic", f"{duration(traffic.seconds)} per update {traffic.link}, {waiting}"
    if plan.ask.device.name != "cpu":
        energy = plain(plan.energy_kwh.likely)
        yield "energy", f"{energy} kWh at most by the GPUs; hosts and cooling come on top"
        yield "failures", _failures(plan)


def _speed(plan: Plan) -> str:
    reached = plan.speed
    if plan.ask.device.name == "cpu":
        low, likely, high = (plain(share * plan.peak_flops / 1e9) for share in (reached.low, reached.mfu, reached.high))
        return f"{likely} GFLOP/s ({low} to {high}): {reached.source}"
    return f"{reached.mfu:.0%} of the peak ({reached.low:.0%} to {reached.high:.0%}), from {reached.source}"


def _failures(plan: Plan) -> str:
    failures = plan.failures
    saving = f"save every {duration(failures.save_every_s)}, which takes {failures.lost_share:.1%} of the time"
    if failures.save_every_s > 3600 * plan.hours.likely:
        saving = "one checkpoint at the end would do"
    return f"{significant(failures.expected, 2)} expected, as often as Llama 3's; {saving}"


def _show_ladder(console: Console, plan: Plan) -> None:
    shown = rungs(plan)
    room = min(30, max(6, console.width - 66))  # the other columns leave this
    longest, shortest = (edge(rung.plan.hours.likely for rung in shown) for edge in (max, min))
    rows = []
    for rung in shown:
        style, color = ("bold dark_orange", "dark_orange") if rung.is_asked else ("", "dodger_blue2")
        row = (
            Text(rung.machine, style=style),
            Text(_log_bar(rung.plan.hours.likely, shortest, longest, room), style=color),
            Text(at_least(rung.plan) + rung.cells.time, style=style),
            Text(rung.rent),
            Text(rung.cells.cost, style=style),
            Text("" if rung.plan.fits else "does not fit", style="red"),
        )
        rows.append(row)
    names = ("machine", " ", ">time", ">per hour", ">cost", "")
    table = make_fitting_table(console, names, rows, wraps="machine", expendable=(" ", "per hour"))
    other_dtype = next((f"; *: {rung.other_dtype}" for rung in shown if rung.other_dtype), "")
    has_bar = any(column.header == " " for column in table.columns)
    beside = ("; time on a log scale" if has_bar else "") + other_dtype
    show_title(console, "The same run on other machines", beside.removeprefix("; "))
    console.print(indent(table))


def _log_bar(hours: float, shortest: float, longest: float, room: int) -> str:
    span = math.log(longest / shortest) or 1.0
    return "█" * round(2 + (room - 2) * math.log(hours / shortest) / span)


def _show_changes(console: Console, plan: Plan) -> None:
    rows = []
    for change in changes(plan.ask):
        shown, fits = cells(change.plan), change.plan.fits
        memory = Text(shown.memory, style="" if fits else "red")
        rows.append((change.words, memory, shown.time, shown.cost, Text("" if fits else "does not fit", style="red")))
    names = ("change", ">memory", ">time", ">cost", "")
    table = make_fitting_table(console, names, rows, wraps="change", expendable=("cost",), least=12)
    beside = "a micro-batch changes memory and the traffic of each pass; how well it fills a GPU is not modeled"
    show_title(console, "If you change one thing", beside)
    console.print(indent(table))


def show_formulas(plan: Plan, answer: str = "") -> None:
    """Print every formula with its numbers, and its source below it."""
    console = make_console(wide=True)
    _show_headline(console, plan, answer)
    console.print()
    for formula in formulas(plan):
        words = (f" = {formula.expression} = ", (formula.shown, "dark_orange"))
        console.print(Text.assemble((formula.name, "bold"), *words))
        console.print(Padding(Text(formula.source, style="dim"), (0, 0, 0, 4), expand=False))


def at_least(plan: Plan) -> str:
    """Return the sign before a time, which marks it if it is only a lower bound."""
    return "> " if plan.is_extrapolated else ""
