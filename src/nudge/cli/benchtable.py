"""The terminal output of `nudge bench`: the progress while it measures, and tables at the end."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nudge.bench.runner import Event
    from nudge.bench.suites import Suite
    from nudge.cli.output import Table


def show_progress(events: "Iterator[Event]", suite: "Suite", rounds: int) -> "Iterator[Event]":
    """Yield the events and show the progress on standard error: a bar on a terminal, else a line for each round."""
    from nudge.bench.runner import Absent, Turn
    from nudge.cli.output import make_bar

    with make_bar() as bar:
        task = bar.add_task("starting", total=(rounds + 1) * (1 + len(suite.contenders)))
        shown = ""
        for event in events:
            if isinstance(event, Turn):
                stage = f"round {event.number + 1} of {rounds}" if event.number >= 0 else "getting ready"
                bar.update(task, description=f"{stage}: {event.contender.name}")
                if not bar.console.is_terminal and stage != shown:
                    bar.console.print(f"{stage} ...")
                shown = stage
            else:
                bar.advance(task, 1 + rounds if isinstance(event, Absent) and not event.began else 1)
            yield event


def show(found: Mapping[str, Any]) -> None:
    """Print the limits of the machine, the results of each contender, and nudge's speed relative to the others."""
    from nudge.bench.samples import FEW
    from nudge.cli.output import make_console

    console = make_console(wide=True)
    machine = found["machine"]
    console.print(found["title"], style="bold")
    console.print(
        f"{machine['gpu'] or machine['processor']}, {machine['threads']} threads, PyTorch {machine['pytorch']}, "
        f"{found['rounds']} rounds, {found['time']}",
        style="dim",
        markup=False,
    )
    if found["limits"]:
        console.print(limits_line(found["limits"]))
    console.print()
    console.print(_figures(found))
    if found["comparisons"]:
        console.print()
        console.print(_ratios(found))
        if found["rounds"] < FEW:
            console.print(f"(fewer than {FEW} rounds: from the lowest to the highest)", style="dim")
    console.print()
    for contender in found["contenders"]:
        if missed := _missed(contender):
            words = "not compared" if contender["ours"] else "counted with its whole recipe's time, which favors it"
            console.print(f"{contender['name']} missed the target in {missed}: {words}", style="yellow")
    for contender in found["contenders"]:
        if contender["absent"]:
            console.print(f"{contender['name']}: {contender['absent']}", style="yellow")
    versions = dict.fromkeys(c["version"] for c in found["contenders"] if not c["absent"])
    console.print(f"measured: {', '.join(versions)}", style="dim")


def limits_line(limits: Mapping[str, float]) -> str:
    """Return the measured limits as one line."""
    return (
        f"limits here: matrix products {limits['bfloat16_flops_per_s'] / 1e9:,.0f} GFLOP/s in bfloat16, "
        f"{limits['float32_flops_per_s'] / 1e9:,.0f} in float32; reading memory "
        f"{limits['read_bytes_per_s'] / 1e9:.1f} GB/s"
    )


def _missed(contender: Mapping[str, Any]) -> str:
    """Return a note on the runs in which a contender missed the target; "" without such runs or a target."""
    reached = [] if contender["absent"] else contender["figures"].get("reached", {}).get("rounds", [])
    missed = sum(not there for there in reached)
    return f"{missed} of {len(reached)} runs" if missed else ""


def _figures(found: Mapping[str, Any]) -> "Table":
    from nudge.cli.output import Text, make_table

    measured = [contender for contender in found["contenders"] if not contender["absent"]]
    measures = [(measure["key"], measure["digits"]) for measure in found["measures"]]
    also = [(measure["key"], measure["digits"]) for measure in found["also"]]
    has_share = any("share_of_limit" in contender for contender in measured)
    has_agreement = any(contender["agreement"] is not None for contender in measured)
    columns = [""]
    for measure in found["measures"]:
        columns += [_two_lines(measure["label"]), ">lowest -\nhighest"]
    columns += [_two_lines(measure["label"]) for measure in found["also"]]
    if has_share:
        columns.append(">" + found["limit_label"].replace("of the ", "of the\n"))
    columns.append(">peak\nmemory")
    if has_agreement:
        columns.append(">same\noutput")
    table = make_table(*columns)
    for contender in measured:
        figures, style = contender["figures"], "bold" if contender["ours"] else ""
        cells = [Text(contender["name"], style="bold green" if contender["ours"] else "")]
        for key, digits in measures:
            figure = figures[key]
            cells.append(Text(f"{figure['median']:,.{digits}f}", style=style))
            cells.append(Text(f"{figure['low']:,.{digits}f} - {figure['high']:,.{digits}f}", style="dim"))
        cells += [Text(f"{figures[key]['median']:,.{digits}f}") for key, digits in also]
        if has_share:
            cells.append(Text(f"{contender['share_of_limit']:.0%}" if "share_of_limit" in contender else ""))
        cells.append(Text(f"{contender['peak_bytes'] / 1e9:.2f} GB"))
        if has_agreement:
            agreement = contender["agreement"]
            cells.append(Text("" if agreement is None else f"{agreement:.0%}"))
        table.add_row(*cells)
    return table


def _two_lines(label: str) -> str:
    return ">" + label.replace(" ", "\n", 1)


def _ratios(found: Mapping[str, Any]) -> "Table":
    from nudge.bench.samples import FEW
    from nudge.cli.output import Text, make_table

    table = make_table("", ">times as fast", ">95% interval" if found["rounds"] >= FEW else ">range", "")
    labels = {measure["key"]: measure["label"] for measure in found["measures"]}
    for comparison in found["comparisons"]:
        of = f" ({labels[comparison['measure']]})" if len(labels) > 1 else ""
        low, high = comparison["low"], comparison["high"]
        verdict, style = ("", "green") if low > 1 else ("slower", "red") if high < 1 else ("a tie", "yellow")
        table.add_row(
            Text(f"{comparison['ours']} beside {comparison['peer']}{of}"),
            Text(f"{comparison['ratio']:.2f}x", style=f"bold {style}"),
            Text(f"{low:.2f} - {high:.2f}", style="dim"),
            Text(verdict, style=style),
        )
    return table
