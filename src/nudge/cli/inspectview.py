"""The terminal output of `nudge inspect`."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nudge.cli.output import Console, Table, Text, show_legend
from nudge.util.formatting import count, percent, significant, size
from nudge.util.terminal_text import bar, one_line

if TYPE_CHECKING:
    from nudge.look.changes import Difference
    from nudge.look.inspection import Weights
    from nudge.look.parameters import Node
    from nudge.look.values import Histogram, Neighbour

    Nearest = list[tuple[int, str, tuple[tuple[Neighbour, str], ...]]]  # a token of the text, its text, its neighbors

BAR = 10  # cells of a full bar
ROWS = 7  # lines of a histogram
EIGHTHS = " ▁▂▃▄▅▆▇█"
COLORS = {"embedding": "dark_orange", "attention": "blue", "mlp": "cyan", "norm": "magenta", "head": "yellow"}
MOST_MOVED = 10
NARROW, WIDE, WIDEST = 66, 126, 160  # widths of a terminal from which the tree has a longer bar, and more columns


def show_head(console: Console, found: "Weights") -> None:
    """Print the file's name, format and size."""
    facts = [f"{found.total:,} parameters in {len(found.parameters)} tensors", size(found.n_bytes)]
    facts.append(", ".join(sorted({parameter.dtype for parameter in found.parameters})) or "empty")
    if found.step is not None:
        facts.append(f"step {found.step:,}")
    console.print(Text(one_line(str(found.path)), style="bold"))
    console.print(Text(" · ".join(facts)))
    words = {"verified": "SHA-256 verified", "not recorded": "not verified: no SHA-256 of it was recorded"}
    console.print(Text(words.get(found.checksum, "not verified: --no-verify"), style="dim"))
    for note in found.notes:
        console.print(Text(one_line(note), style="yellow"))
    renamed = next((p for p in found.parameters if p.stored_as != p.name and p.block is not None), None)
    if renamed:
        example = f"names are nudge's: {renamed.name} is {renamed.stored_as} in the file"
        console.print(Text(example, style="dim"))
    console.print()


def show_tree(console: Console, found: "Weights", every: bool) -> None:
    """Print the parameters as a tree. `every`: with all blocks expanded."""
    show_legend(
        console,
        (
            Text.assemble(("■ ", COLORS.get(group, "dim")), f"{group} ", (percent(share), "bold"))
            for group, share in found.groups.items()
        ),
    )
    console.print()
    renamed = any(p.stored_as != p.name for p in found.parameters)
    with_names = renamed and console.width >= WIDE
    with_roles = console.width >= (WIDEST if renamed else WIDE)
    bar_width = BAR if console.width >= NARROW else 4
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("name", no_wrap=True, overflow="ellipsis")
    if with_names:
        table.add_column("in the file", no_wrap=True, overflow="ellipsis")
    if with_roles:
        table.add_column("role", no_wrap=True, overflow="ellipsis", style="dim")
    table.add_column("shape", justify="right", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True, min_width=6)
    table.add_column("share", no_wrap=True, min_width=bar_width)
    table.add_column("", justify="right", no_wrap=True, min_width=6)
    for depth, node in _rows(found.tree, 0, every):
        parameter = node.parameter
        cells: list[str | Text] = [Text("  " * depth + one_line(node.label), style="" if parameter else "bold")]
        if with_names:
            cells.append(parameter.stored_as if parameter else "")
        if with_roles:
            cells.append(node.role)
        color = COLORS.get(parameter.group, "dim") if parameter else "dim"
        cells.append(_shape(parameter.shape) if parameter else "")
        cells += [count(node.n), Text(bar(node.share, bar_width), style=color), percent(node.share)]
        table.add_row(*cells)
    console.print(table)


def _rows(node: "Node", depth: int, every: bool) -> "Iterator[tuple[int, Node]]":
    """Yield the lines of the tree. The blocks are alike, so only the first is expanded."""
    yield depth, node
    opened = False
    for child in node.children:
        if child.kind == "block" and opened and not every:
            yield depth + 1, child
        else:
            yield from _rows(child, depth + 1, every)
            opened = opened or child.kind == "block"


def show_beside(console: Console, found: "Weights") -> None:
    """Print the contents of the file besides the parameters."""
    rows = [
        (stored.name, f"{count(stored.n)} {stored.dtype}", size(stored.n_bytes), stored.role) for stored in found.stored
    ]
    title = "Also in this file" if rows or found.step is not None else "Nothing else is in this file"
    console.print(Text(f"\n{title}", style="bold"))
    grid = Table.grid(padding=(0, 3))
    for _ in range(3):
        grid.add_column(no_wrap=True)
    for name, *cells, role in rows:
        grid.add_row(f"  {name}", *cells, Text(role, style="dim"))
    if found.tokens_seen is not None and found.step is not None and found.config is not None:
        model = found.config.model
        tokens = f"{count(found.tokens_seen)} tokens seen"
        sizes = f"n_layer {model.n_layer}, n_head {model.n_head}, n_embd {model.n_embd}"
        grid.add_row("  updates", f"{found.step:,}", "", Text(tokens, style="dim"))
        grid.add_row("  config", found.config.recipe, "", Text(sizes, style="dim"))
    console.print(grid)


def show_histogram(console: Console, found: "Weights", histogram: "Histogram") -> None:
    """Print the histogram and the statistics of one parameter."""
    parameter = found.parameter(histogram.name)
    console.print(
        Text.assemble((one_line(parameter.name), "bold"), f"  {_shape(parameter.shape)}  ", (parameter.role, "dim"))
    )
    console.print()
    for line in _columns(histogram.counts):
        console.print(Text("  " + line, style="blue"))
    low, high = (significant(edge) for edge in (histogram.edges[0], histogram.edges[-1]))
    console.print(Text(f"  {low}{high:>{len(histogram.counts) - len(low)}}", style="dim"))
    console.print()
    grid = Table.grid(padding=(0, 1))
    for label, value in {
        "mean": histogram.mean,
        "std": histogram.std,
        "lowest": histogram.low,
        "highest": histogram.high,
        "norm": histogram.norm,
    }.items():
        grid.add_row(Text(f"  {label}", style="dim"), significant(value))
    n = histogram.n_not_finite
    grid.add_row(Text("  not finite", style="dim"), Text(f"{n:,}", style="red bold" if n else ""))
    console.print(grid)
    console.print(Text(f"counted over all {histogram.n:,} values\n", style="dim"))


def _columns(counts: Sequence[int]) -> list[str]:
    """Return a histogram as lines of block characters, from top to bottom. A count above 0 is always visible."""
    most = max(max(counts), 1)
    heights = [max(round(8 * ROWS * n / most), 1 if n else 0) for n in counts]
    return ["".join(EIGHTHS[min(max(height - 8 * row, 0), 8)] for height in heights) for row in reversed(range(ROWS))]


def show_nearest(console: Console, nearest: "Nearest") -> None:
    """Print the nearest neighbors of each token of a text."""
    console.print(Text("Nearest tokens, by the angle between their rows of wte", style="bold"))
    for token, text, near in nearest:
        console.print(Text.assemble("\n  ", (repr(one_line(text)), "bold"), (f"  token {token:,}", "dim")))
        grid = Table.grid(padding=(0, 3))
        for neighbor, its in near:
            cosine = neighbor.cosine
            grid.add_row(
                "    " + repr(one_line(its)),
                Text(f"{neighbor.token:,}", style="dim"),
                Text(bar(cosine, BAR), style="blue"),
                f"{cosine:.2f}",
            )
        console.print(grid if near else Text("    its row is zero or not finite, and has no direction", style="yellow"))
    console.print()


def show_difference(console: Console, against: str, moved: "Difference") -> None:
    """Print the change of the parameters since another checkpoint."""
    console.print(Text.assemble(("Moved", "bold"), " since ", one_line(against), ("   |dW|/|W|", "dim")))
    grid = Table.grid(padding=(0, 2))
    most = max((value for value in moved.parts.values() if math.isfinite(value)), default=0.0)
    for part, value in moved.parts.items():
        grid.add_row(
            f"  {part}", Text(bar(value / most if most else 0.0, BAR), style="dark_orange"), significant(value)
        )
    grid.add_row(Text("  all", style="bold"), "", Text(significant(moved.total), style="bold"))
    console.print(grid)
    console.print(Text("\nMoved most", style="bold"))
    grid = Table.grid(padding=(0, 2))
    ranked = sorted(
        (change for change in moved.changes if math.isfinite(change.relative)), key=lambda change: -change.relative
    )
    for change in ranked[:MOST_MOVED]:
        largest = f"largest change of a value {significant(change.largest)}"
        grid.add_row(f"  {change.name}", significant(change.relative), Text(largest, style="dim"))
    console.print(grid)
    from_zero = sum(change.relative == math.inf for change in moved.changes)
    not_finite = sum(math.isnan(change.relative) for change in moved.changes)
    if from_zero:
        console.print(Text(f"{from_zero:,} more were zero before", style="dim"))
    if not_finite:
        console.print(Text(f"{not_finite:,} hold values that are not finite", style="red"))
    for words, names in (
        ("only there", moved.only_before),
        ("only here", moved.only_after),
        ("of another shape", [f"{name} {_shape(old)} -> {_shape(new)}" for name, old, new in moved.other_shape]),
    ):
        if names:
            more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
            console.print(Text(f"{words}: {', '.join(map(one_line, names[:5]))}{more}", style="yellow"))


def _shape(shape: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
