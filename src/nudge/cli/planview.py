"""How `nudge plan` shows its answers on a terminal."""

import math

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nudge.cli.live import make_console
from nudge.cli.plan import amount
from nudge.plan.explain import formulas
from nudge.plan.hardware import Device
from nudge.plan.layout import Layout
from nudge.plan.losses import published_losses
from nudge.plan.planner import CHINCHILLA, Plan
from nudge.plan.questions import changes, ladder
from nudge.util.formatting import dollars

PARTS = (  # of memory, and the colour of each
    ("weights", "dodger_blue2"),
    ("gradients", "deep_sky_blue1"),
    ("moments", "blue"),
    ("copies", "light_sky_blue1"),
    ("activations", "dark_orange"),
    ("logits", "orange1"),
    ("communication", "medium_purple"),
    ("scratch", "orchid"),
    ("CUDA", "grey50"),
)


def show(plan: Plan, answer: str = "") -> None:
    """Time, money and memory first; then where they come from, and what else there is."""
    console = wide_console()
    _show_headline(console, plan, answer)
    _show_memory(console, plan)
    _show_work(console, plan)
    _show_ladder(console, plan)
    _show_changes(console, plan)
    recipe = plan.ask.recipe
    show_next(
        console,
        ("the same with --explain", "every formula with its numbers"),
        (f"nudge plan {recipe} --budget 100", "how far it gets for $100"),
        ("nudge plan --budget 100", "what $100 trains, of every size"),
        ("nudge plan --validate", "how right such forecasts are"),
    )


def wide_console() -> Console:
    """Standard output; as wide as it needs where no person watches, so that nothing is cut for a program."""
    console = make_console()
    if not console.is_terminal:
        console.width = 1000
    return console


def _show_headline(console: Console, plan: Plan, answer: str) -> None:
    ask = plan.ask
    console.print(
        Text.assemble(
            (ask.recipe, "bold"),
            f" on {ask.count} x {ask.device.title}",
            (f": {amount(plan.tokens)} tokens, {plan.steps:,} updates, {ask.dtype}", "dim"),
        )
    )
    if answer:
        console.print(Text(answer, style="green"))
    console.print()
    table = Table.grid(padding=(0, 2))
    table.add_row(
        Text("time", style="dim"),
        Text(at_least(plan) + duration(plan.hours.likely), style="bold"),
        f"{duration(plan.hours.low)} to {duration(plan.hours.high)}",
    )
    table.add_row(Text("money", style="dim"), *_money(plan))
    table.add_row(Text("memory", style="dim"), *_memory_words(plan))
    table.add_row(Text("loss", style="dim"), *_loss(plan))
    console.print(indented(table))
    if plan.is_extrapolated:
        words = "this is the least it takes: no published run was as small, and such a network never fills a GPU"
        console.print(indented(Text(words, style="yellow")))


def _money(plan: Plan) -> tuple[Text, Text]:
    price = plan.ask.price
    if plan.usd is None or price is None:
        where = "no price of it is known here: --price 2.49@2026-11-20 gives one"
        return Text("?", style="bold"), Text(where if plan.ask.device.name != "cpu" else "your own machine")
    return Text(dollars(plan.usd.likely), style="bold"), Text(
        f"{dollars(plan.usd.low)} to {dollars(plan.usd.high)}, at ${price.usd_per_hour:.2f} per GPU-hour "
        f"({price.date}: {price.source})"
    )


def _memory_words(plan: Plan) -> tuple[Text, Text]:
    layout = plan.layout
    needed = f"{gigabytes(layout.needed_bytes)} GB"
    of = f"of {gigabytes(layout.memory_bytes)} GB" + (" on each" if plan.ask.count > 1 else "")
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
    after = f"after {amount(nearest.tokens)} tokens" if nearest.tokens else "after an unknown number of tokens"
    return Text(f"{nearest.loss:.2f}", style="bold"), Text(
        f"is what {nearest.source} reached {after}, on {nearest.data}; not a forecast"
    )


def _show_memory(console: Console, plan: Plan) -> None:
    layout = plan.layout
    batch = f"{layout.micro_batch} x {plan.ask.model.block_size:,} tokens a pass"
    passes = f"{layout.passes:,} pass{'es' if layout.passes > 1 else ''} per update"
    place = "this machine" if plan.ask.device.name == "cpu" else "one GPU"
    title(console, "Memory", f"{place}, {batch}, {passes}, {layout.name}")
    parts = [(name, part_bytes(layout, name), color) for name, color in PARTS]
    total, room = max(layout.memory_bytes, layout.needed_bytes), min(64, console.width - 20)
    bar, used = Text("  "), 0
    for _, size, color in parts:
        width = round(room * (used + size) / total) - round(room * used / total)
        bar.append("█" * width, style=color)
        used += size
    bar.append("░" * (room - round(room * used / total)), style="grey30")
    bar.append(f"  {gigabytes(layout.needed_bytes)} of {gigabytes(layout.memory_bytes)} GB", style="dim")
    console.print(bar)
    shown = [Text.assemble(("■ ", color), f"{name} ", (gigabytes(size), "bold")) for name, size, color in parts if size]
    for start in range(0, len(shown), 4):
        console.print(Text("  ") + Text("   ").join(shown[start : start + 4]))
    for other in plan.layouts:
        if other is not layout:
            words = f"{other.name}: " + (
                f"{gigabytes(other.needed_bytes)} GB, {other.micro_batch} x {plan.ask.model.block_size:,} tokens a pass"
                if other.fits
                else f"{gigabytes(other.needed_bytes)} GB, does not fit"
            )
            console.print(Text(f"  or {words}", style="dim"))


def part_bytes(layout: Layout, name: str) -> int:
    """One part of a GPU's memory, by its name in PARTS."""
    return layout.reserved_bytes if name == "CUDA" else int(getattr(layout.memory, name))


def _show_work(console: Console, plan: Plan) -> None:
    counts = plan.parameters
    components = (("embeddings", counts.wte + counts.wpe), ("attention", counts.attention), ("MLP", counts.mlp),
                  ("norms", counts.norms), ("head", counts.head))  # fmt: skip
    ratio = plan.tokens_per_parameter
    beside = {"more": "more than", "less": "less than", "close": "close to"}[plan.beside_optimal]
    rows = [
        (
            "parameters",
            f"{counts.total:,}: " + ", ".join(f"{name} {amount(size)}" for name, size in components if size),
        ),
        ("work", f"{scientific(plan.flops)} FLOP, {plan.flops_per_token / 1e9:.3g} GFLOP per token (6N + 12LTC)"),
        ("tokens", f"{ratio:.3g} per parameter, {beside} the compute-optimal {CHINCHILLA} (Chinchilla)"),
        ("speed", _speed(plan)),
        (
            "update",
            f"{seconds(plan.step_s.likely)} ({seconds(plan.step_s.low)} to {seconds(plan.step_s.high)}), "
            f"{amount(plan.tokens_per_s.likely)} tokens/s",
        ),
    ]
    if plan.traffic:
        said = plan.traffic
        waiting = f"{seconds(said.exposed_s)} of it waited for" if said.exposed_s else "hidden under the arithmetic"
        rows.append(("traffic", f"{seconds(said.seconds)} per update {said.link}, {waiting}"))
    if plan.ask.device.name != "cpu":
        rows.append(("energy", f"{plan.energy_kwh.likely:,.3g} kWh at most by the GPUs; hosts and cooling come on top"))
        rows.append(("failures", _failures(plan)))
    title(console, "Where it comes from")
    table = Table.grid(padding=(0, 2))
    for name, words in rows:
        table.add_row(Text(name, style="dim"), Text(words))
    console.print(indented(table))


def _speed(plan: Plan) -> str:
    reached = plan.speed
    if plan.ask.device.name == "cpu":
        low, likely, high = (share * plan.peak_flops / 1e9 for share in (reached.low, reached.mfu, reached.high))
        return f"{likely:,.3g} GFLOP/s ({low:,.3g} to {high:,.3g}): {reached.source}"
    return f"{reached.mfu:.0%} of the peak ({reached.low:.0%} to {reached.high:.0%}), from {reached.source}"


def _failures(plan: Plan) -> str:
    failures = plan.failures
    every = failures.save_every_s / 3600
    saving = f"save every {duration(every)}, which takes {failures.lost_share:.1%} of the time"
    if every > plan.hours.likely:
        saving = "one checkpoint at the end would do"
    return f"{failures.expected:.2g} expected, as often as Llama 3's; {saving}"


def _show_ladder(console: Console, plan: Plan) -> None:
    plans, dtype = ladder(plan.ask), plan.ask.dtype
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("machine", no_wrap=True)
    for name in ("", "time", "per hour", "cost", ""):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    room = min(30, max(6, console.width - 66))  # what the other columns leave
    longest, shortest = (edge(p.hours.likely for p in plans) for edge in (max, min))
    for other in plans:
        chosen = (other.ask.device, other.ask.count) == (plan.ask.device, plan.ask.count)
        style, color = ("bold dark_orange", "dark_orange") if chosen else ("", "dodger_blue2")
        machine = f"{other.ask.count} x {short(other.ask.device)}"
        rent = other.ask.price.usd_per_hour * other.ask.count if other.ask.price else None
        table.add_row(
            Text(machine if other.ask.dtype == dtype else machine + " *", style=style),
            Text(_log_bar(other.hours.likely, shortest, longest, room), style=color),
            Text(at_least(other) + duration(other.hours.likely), style=style),
            Text(f"${rent:.2f}" if rent is not None else "-"),
            Text(dollars(other.usd.likely) if other.usd else "-", style=style),
            Text("" if other.fits else "does not fit", style="red"),
        )
    note = f"; *: {others.pop()}" if (others := {other.ask.dtype for other in plans} - {dtype}) else ""
    title(console, "The same run on other machines", "time on a log scale" + note)
    console.print(indented(table))


def _log_bar(hours: float, shortest: float, longest: float, room: int) -> str:
    span = math.log(longest / shortest) or 1.0
    return "█" * round(2 + (room - 2) * math.log(hours / shortest) / span)


def _show_changes(console: Console, plan: Plan) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("change", no_wrap=True)
    for name in ("memory", "time", "cost", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for words, other in changes(plan.ask):
        fits = other.fits
        table.add_row(
            words,
            Text(f"{gigabytes(other.layout.needed_bytes)} GB", style="" if fits else "red"),
            duration(other.hours.likely),
            dollars(other.usd.likely) if other.usd else "-",
            Text("" if fits else "does not fit", style="red"),
        )
    title(
        console,
        "If you change one thing",
        "of a micro-batch: its memory and the traffic of each pass, not how well it fills a GPU",
    )
    console.print(indented(table))


def show_formulas(plan: Plan, answer: str = "") -> None:
    """Every formula with its numbers put in, a source below each."""
    console = wide_console()
    _show_headline(console, plan, answer)
    console.print()
    for formula in formulas(plan):
        unit = f" {formula.unit}" if formula.unit else ""
        value = f"{formula.value:,.0f}" if formula.value >= 1e4 and formula.value < 1e15 else f"{formula.value:.4g}"
        console.print(
            Text.assemble((formula.name, "bold"), f" = {formula.expression} = ", (value + unit, "dark_orange"))
        )
        console.print(Padding(Text(formula.source, style="dim"), (0, 0, 0, 4), expand=False))


def indented(shown: RenderableType) -> Padding:
    """Two spaces to the right."""
    return Padding(shown, (0, 0, 0, 2), expand=False)


def title(console: Console, words: str, beside: str = "", *, first: bool = False) -> None:
    """The line above a part."""
    if not first:
        console.print()
    console.print(Text.assemble((words, "bold"), ("  " + beside if beside else "", "dim")))


def show_next(console: Console, *commands: tuple[str, str]) -> None:
    """What to type next, and what for."""
    title(console, "Next")
    for command, words in commands:
        console.print(Text.assemble(f"  {command:<34}  ", (words, "dim")))


def short(device: Device) -> str:
    """A device's title without its maker."""
    return device.title.removeprefix("NVIDIA ").removeprefix("Google Cloud ")


def at_least(plan: Plan) -> str:
    """A sign before a time that is only a lower bound."""
    return "> " if plan.is_extrapolated else ""


def gigabytes(n_bytes: float) -> str:
    """0.0123, 6.54, 65.4, 141: as exact as the studio shows them."""
    size = n_bytes / 1e9
    return f"{size:,.0f}" if size >= 100 else f"{size:.3g}"


def duration(hours: float) -> str:
    """3.2 s, 46 min, 24.2 h, 3.1 days, 2.1 years."""
    for size, name in ((8766.0, "years"), (48.0, "days"), (1.0, "h"), (1 / 60, "min")):
        if hours >= size:
            value = hours / {48.0: 24.0}.get(size, size)
            return f"{value:,.0f} {name}" if value >= 100 or name == "min" else f"{value:.1f} {name}"
    return seconds(hours * 3600)


def seconds(value: float) -> str:
    """24.3 ms, 3.40 s."""
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:,.3g} s"


def scientific(value: float) -> str:
    """8.77e18 rather than 8.77e+18."""
    return f"{value:.2e}".replace("e+", "e")
