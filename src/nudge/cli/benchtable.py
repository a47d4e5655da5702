"""What `nudge bench` shows on a terminal: the progress while it measures, and tables at the end."""

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from nudge.bench.runner import Event
    from nudge.bench.suites import Suite


def watched(events: "Iterator[Event]", suite: "Suite", rounds: int) -> "Iterator[Event]":
    """The events, with a line on standard error that says how far it is; a line of its own for who is missing."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from nudge.bench.runner import Absent, Measured

    console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("getting ready", total=(rounds + 1) * (1 + len(suite.contenders)))
        for event in events:
            doing = f"round {event.number + 1} of {rounds}" if isinstance(event, Measured) else "getting ready"
            gone = 1 + rounds if isinstance(event, Absent) and not event.began else 1
            bar.update(task, description=f"{doing}: {event.contender.name}", advance=gone)
            yield event


def show(found: Mapping[str, Any]) -> None:
    """The limits of the machine, what everybody reached, and how many times as fast ours is."""
    from nudge.bench.samples import FEW
    from nudge.cli.live import make_console

    console = make_console()
    if not console.is_terminal:
        console.width = 1000
    machine = found["machine"]
    console.print(found["title"], style="bold", markup=False)
    console.print(
        f"{machine['gpu'] or machine['processor']}, {machine['threads']} threads, PyTorch {machine['pytorch']}, "
        f"{found['rounds']} rounds, {found['time']}",
        style="dim",
        markup=False,
    )
    if found["limits"]:
        console.print(limits_line(found["limits"]), markup=False)
    console.print()
    console.print(_figures(found))
    if found["comparisons"]:
        console.print()
        console.print(_ratios(found))
        if found["rounds"] < FEW:
            console.print(f"(fewer than {FEW} rounds: from the lowest to the highest)", style="dim", markup=False)
    console.print()
    for contender in found["contenders"]:
        if missed := _missed(contender):
            said = "not compared" if contender["ours"] else "counted with its whole recipe's time, which favours it"
            console.print(f"{contender['name']} missed the target in {missed}: {said}", style="yellow", markup=False)
    for contender in found["contenders"]:
        if contender["absent"]:
            console.print(f"{contender['name']}: {contender['absent']}", style="yellow", markup=False)
    versions = dict.fromkeys(c["version"] for c in found["contenders"] if not c["absent"])
    console.print(f"measured: {', '.join(versions)}", style="dim", markup=False)


def limits_line(limits: Mapping[str, float]) -> str:
    """The measured limits in words."""
    return (
        f"limits here: matrix products {limits['bfloat16_flops_per_s'] / 1e9:,.0f} GFLOP/s in bfloat16, "
        f"{limits['float32_flops_per_s'] / 1e9:,.0f} in float32; reading memory "
        f"{limits['read_bytes_per_s'] / 1e9:.1f} GB/s"
    )


def _missed(contender: Mapping[str, Any]) -> str:
    """In how many of its runs a contender did not reach the target; empty if it did in all, or there is none."""
    reached = [] if contender["absent"] else contender["figures"].get("reached", {}).get("rounds", [])
    missed = sum(not there for there in reached)
    return f"{missed} of {len(reached)} runs" if missed else ""


def _figures(found: Mapping[str, Any]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    measured = [contender for contender in found["contenders"] if not contender["absent"]]
    has_share = any("share_of_limit" in contender for contender in measured)
    has_agreement = any(contender["agreement"] is not None for contender in measured)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    for measure in found["measures"]:
        table.add_column(measure["label"].replace(" ", "\n", 1), justify="right", no_wrap=True)
        table.add_column("lowest -\nhighest", justify="right", no_wrap=True, style="dim")
    for measure in found["also"]:
        table.add_column(measure["label"].replace(" ", "\n", 1), justify="right", no_wrap=True)
    if has_share:
        table.add_column(found["limit_label"].replace("of the ", "of the\n"), justify="right", no_wrap=True)
    table.add_column("peak\nmemory", justify="right", no_wrap=True)
    if has_agreement:
        table.add_column("same\noutput", justify="right", no_wrap=True)
    for contender in measured:
        cells: list[Text] = [Text(contender["name"], style="bold green" if contender["ours"] else "")]
        for measure in found["measures"]:
            figure, digits = contender["figures"][measure["key"]], measure["digits"]
            cells.append(Text(f"{figure['median']:,.{digits}f}", style="bold" if contender["ours"] else ""))
            cells.append(Text(f"{figure['low']:,.{digits}f} - {figure['high']:,.{digits}f}"))
        also = [(contender["figures"][measure["key"]]["median"], measure["digits"]) for measure in found["also"]]
        cells += [Text(f"{value:,.{digits}f}") for value, digits in also]
        if has_share:
            cells.append(Text(f"{contender['share_of_limit']:.0%}" if "share_of_limit" in contender else ""))
        cells.append(Text(f"{contender['peak_bytes'] / 1e9:.2f} GB"))
        if has_agreement:
            agreement = contender["agreement"]
            cells.append(Text("" if agreement is None else f"{agreement:.0%}"))
        table.add_row(*cells)
    return table


def _ratios(found: Mapping[str, Any]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    from nudge.bench.samples import FEW

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    table.add_column("times as fast", justify="right", no_wrap=True)
    table.add_column("95% interval" if found["rounds"] >= FEW else "range", justify="right", no_wrap=True, style="dim")
    table.add_column("", no_wrap=True)
    labels = {measure["key"]: measure["label"] for measure in found["measures"]}
    for comparison in found["comparisons"]:
        of = f" ({labels[comparison['measure']]})" if len(labels) > 1 else ""
        low, high = comparison["low"], comparison["high"]
        verdict, style = ("", "green") if low > 1 else ("slower", "red") if high < 1 else ("a tie", "yellow")
        table.add_row(
            Text(f"{comparison['ours']} beside {comparison['peer']}{of}"),
            Text(f"{comparison['ratio']:.2f}x", style=f"bold {style}"),
            Text(f"{low:.2f} - {high:.2f}"),
            Text(verdict, style=style),
        )
    return table
