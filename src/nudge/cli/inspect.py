"""`nudge inspect`: the parameters of a checkpoint as a tree, and their values."""

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from nudge.errors import ConfigError
from nudge.util.formatting import count, percent, significant, size
from nudge.util.terminal_text import bar, readable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from nudge.data.tokenizer import Tokenizer
    from nudge.look.changes import Difference
    from nudge.look.inspection import Weights
    from nudge.look.parameters import Node
    from nudge.look.values import Histogram, Neighbour

    Nearest = list[tuple[int, str, tuple[tuple[Neighbour, str], ...]]]  # a token of the text, its text, its neighbours

BAR = 10  # cells of a full bar
BINS = 51
ROWS = 7  # of a histogram, in lines
EIGHTHS = " ▁▂▃▄▅▆▇█"
COLORS = {"embedding": "dark_orange", "attention": "blue", "mlp": "cyan", "norm": "magenta", "head": "yellow"}
MOST_MOVED = 10
WIDE, WIDEST = 126, 160  # widths of a terminal from which the tree has more columns


@click.command()
@click.argument("source", required=False)
@click.option("--tensor", "name", metavar="NAME", help="Show statistics and a histogram of one parameter.")
@click.option("--neighbours", "text", metavar="TEXT", help="Show the tokens nearest to those of TEXT in wte.")
@click.option("--against", metavar="OTHER", help="Show how far each part moved from OTHER to SOURCE.")
@click.option("--all", "every", is_flag=True, help="Expand every block, not only the first.")
@click.option("--verify/--no-verify", default=True, help="Check the SHA-256, which reads the whole file.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def inspect(
    source: str | None,
    name: str | None,
    text: str | None,
    against: str | None,
    every: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Show what is inside a checkpoint: its parameters as a tree.

    SOURCE is a run folder, a checkpoint, an imported folder, or a model.safetensors of a GPT-2 (or its folder). Without
    it, the newest run under runs/ is used. Besides its parameters, a checkpoint holds what training needs to continue.

    \b
    Example:
      nudge inspect runs/first
      nudge inspect runs/first --tensor wte.weight
      nudge inspect runs/first --neighbours "def"
      nudge inspect runs/first --against runs/first/checkpoints/step_00000000.pt
    """
    from nudge.cli.output import finite, make_console
    from nudge.look.changes import difference
    from nudge.look.inspection import weights

    found = weights(source, verify=verify)
    histogram = found.histogram(name, BINS) if name is not None else None
    nearest = _nearest(found, text) if text is not None else None
    moved = difference(weights(against, verify=verify), found) if against is not None else None
    if as_json:
        values = finite(_described(found, histogram, nearest, moved))
        click.echo(_clean(json.dumps(values, indent=2, ensure_ascii=False)))
        return
    console = make_console()
    _show_head(console, found)
    if histogram is not None:
        _show_histogram(console, found, histogram)
    if nearest is not None:
        _show_nearest(console, nearest)
    if moved is not None:
        _show_difference(console, against or "", moved)
    if histogram is None and nearest is None and moved is None:
        _show_tree(console, found, every)
        _show_beside(console, found)


def _nearest(found: "Weights", text: str) -> "Nearest":
    """Return the nearest neighbors in wte of each token of the text."""
    from nudge.look.values import neighbours

    tokenizer, table = found.tokenizer(), found.tensor("wte.weight")
    tokens = tokenizer.encode(text)
    if not tokens:
        raise ConfigError("no_token_in_text")
    return [
        (
            token,
            _text(tokenizer, token),
            tuple((near, _text(tokenizer, near.token)) for near in neighbours(table, token)),
        )
        for token in dict.fromkeys(tokens)
    ]


def _text(tokenizer: "Tokenizer", token: int) -> str:
    """Return the text of a token, or its bytes if they are part of a character, or its id if it has no text."""
    text = tokenizer.token_bytes(token) if token < tokenizer.vocab_size else None
    if text is None:
        return f"<{token}>"
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<{byte:02x}>" for byte in text)


def _described(
    found: "Weights", histogram: "Histogram | None", nearest: "Nearest | None", moved: "Difference | None"
) -> dict[str, Any]:
    """Return all findings for a program."""
    described: dict[str, Any] = {
        "source": str(found.path),
        "format": found.format,
        "n_bytes": found.n_bytes,
        "checksum": found.checksum,
        "verified": found.verified,
        "step": found.step,
        "tokens_seen": found.tokens_seen,
        "total": found.total,
        "groups": found.groups,
        "parameters": [{**dataclasses.asdict(p), "role": p.role} for p in found.parameters],
        "stored": [{**dataclasses.asdict(stored), "role": stored.role} for stored in found.stored],
        "config": found.config and dataclasses.asdict(found.config),
        "notes": found.notes,
    }
    if histogram is not None:
        described["tensor"] = dataclasses.asdict(histogram)
    if nearest is not None:
        described["neighbours"] = [
            {
                "token": token,
                "text": text,
                "nearest": [{"token": near.token, "text": its, "cosine": near.cosine} for near, its in found_near],
            }
            for token, text, found_near in nearest
        ]
    if moved is not None:
        described["difference"] = dataclasses.asdict(moved)
    return described


def _clean(text: str) -> str:
    """Replace what cannot be printed: a name in a file may contain half a character."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _line(text: str) -> str:
    """Return a name or a token as one visible line."""
    return readable(_clean(text)).replace("\n", "⏎").replace("\t", "⇥")


def _show_head(console: "Console", found: "Weights") -> None:
    from rich.text import Text

    facts = [f"{found.total:,} parameters in {len(found.parameters)} tensors", size(found.n_bytes)]
    facts.append(", ".join(sorted({parameter.dtype for parameter in found.parameters})) or "empty")
    if found.step is not None:
        facts.append(f"step {found.step:,}")
    console.print(Text(_line(str(found.path)), style="bold"))
    console.print(Text(" · ".join(facts)))
    words = {"verified": "SHA-256 verified", "not recorded": "not verified: no SHA-256 of it was recorded"}
    console.print(Text(words.get(found.checksum, "not verified: --no-verify"), style="dim"))
    for note in found.notes:
        console.print(Text(_line(note), style="yellow"))
    renamed = next((p for p in found.parameters if p.stored_as != p.name and p.block is not None), None)
    if renamed:
        example = f"names are nudge's: {renamed.name} is {renamed.stored_as} in the file"
        console.print(Text(example, style="dim"))
    console.print()


def _show_tree(console: "Console", found: "Weights", every: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    legend = Text()
    for group, share in found.groups.items():
        legend.append("■ ", style=COLORS.get(group, "dim")).append(f"{group} ").append(percent(share), style="bold")
        legend.append("   ")
    console.print(legend)
    console.print()
    renamed = any(p.stored_as != p.name for p in found.parameters)
    with_names = renamed and console.width >= WIDE
    with_roles = console.width >= (WIDEST if renamed else WIDE)
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("name", no_wrap=True, overflow="ellipsis")
    if with_names:
        table.add_column("in the file", no_wrap=True, overflow="ellipsis")
    if with_roles:
        table.add_column("role", no_wrap=True, overflow="ellipsis", style="dim")
    table.add_column("shape", justify="right", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True, min_width=6)
    table.add_column("share", no_wrap=True, min_width=BAR)
    table.add_column("", justify="right", no_wrap=True, min_width=6)
    for depth, node in _rows(found.tree, 0, every):
        parameter = node.parameter
        cells = [Text("  " * depth + _line(node.label), style="" if parameter else "bold")]
        if with_names:
            cells.append(Text(_line(parameter.stored_as) if parameter else ""))
        if with_roles:
            cells.append(Text(node.role))
        color = COLORS.get(parameter.group, "dim") if parameter else "dim"
        cells.append(Text(_shape(parameter.shape) if parameter else ""))
        cells += [Text(count(node.n)), Text(bar(node.share, BAR), style=color), Text(percent(node.share))]
        table.add_row(*cells)
    console.print(table)


def _rows(node: "Node", depth: int, every: bool) -> "Iterable[tuple[int, Node]]":
    """Yield the lines of the tree. The blocks are alike, so only the first is expanded."""
    yield depth, node
    opened = False
    for child in node.children:
        if child.kind == "block" and opened and not every:
            yield depth + 1, child
        else:
            yield from _rows(child, depth + 1, every)
            opened = opened or child.kind == "block"


def _show_beside(console: "Console", found: "Weights") -> None:
    """Print what the file holds besides the parameters."""
    from rich.text import Text

    rows = [
        (stored.name, f"{count(stored.n)} {stored.dtype}", size(stored.n_bytes), stored.role) for stored in found.stored
    ]
    console.print(
        Text(
            "\nAlso in this file" if rows or found.step is not None else "\nNothing else is in this file", style="bold"
        )
    )
    grid = _grid(3)
    for name, *cells, role in rows:
        grid.add_row(Text("  " + _line(name)), *map(Text, cells), Text(role, style="dim"))
    if found.tokens_seen is not None and found.step is not None and found.config is not None:
        model = found.config.model
        tokens = f"{count(found.tokens_seen)} tokens seen"
        sizes = f"n_layer {model.n_layer}, n_head {model.n_head}, n_embd {model.n_embd}"
        grid.add_row("  updates", f"{found.step:,}", "", Text(tokens, style="dim"))
        grid.add_row("  config", Text(_line(found.config.recipe)), "", Text(sizes, style="dim"))
    console.print(grid)


def _show_histogram(console: "Console", found: "Weights", histogram: "Histogram") -> None:
    from rich.text import Text

    parameter = found.parameter(histogram.name)
    console.print(
        Text.assemble((_line(parameter.name), "bold"), f"  {_shape(parameter.shape)}  ", (parameter.role, "dim"))
    )
    console.print()
    for line in _columns(histogram.counts):
        console.print(Text("  " + line, style="blue"))
    low, high = (significant(edge) for edge in (histogram.edges[0], histogram.edges[-1]))
    console.print(Text(f"  {low}{high:>{BINS - len(low)}}", style="dim"))
    console.print()
    grid = _grid(1)
    for label, value in (
        ("mean", histogram.mean),
        ("std", histogram.std),
        ("lowest", histogram.low),
        ("highest", histogram.high),
        ("norm", histogram.norm),
    ):
        grid.add_row(Text(f"  {label}", style="dim"), significant(value))
    grid.add_row(
        Text("  not finite", style="dim"),
        Text(f"{histogram.n_not_finite:,}", style="red bold" if histogram.n_not_finite else ""),
    )
    console.print(grid)
    console.print(Text(f"counted over all {histogram.n:,} values\n", style="dim"))


def _columns(counts: Sequence[int]) -> list[str]:
    """Return a histogram as lines of block characters, from top to bottom. A count above 0 is always visible."""
    most = max(max(counts), 1)
    heights = [max(round(8 * ROWS * n / most), 1 if n else 0) for n in counts]
    return ["".join(EIGHTHS[min(max(height - 8 * row, 0), 8)] for height in heights) for row in reversed(range(ROWS))]


def _show_nearest(console: "Console", nearest: "Nearest") -> None:
    from rich.text import Text

    console.print(Text("Nearest tokens, by the angle between their rows of wte", style="bold"))
    for token, text, near in nearest:
        console.print(Text.assemble("\n  ", (repr(_line(text)), "bold"), (f"  token {token:,}", "dim")))
        grid = _grid(3)
        for neighbour, its in near:
            cosine = neighbour.cosine
            grid.add_row(
                Text("    " + repr(_line(its))),
                Text(f"{neighbour.token:,}", style="dim"),
                Text(bar(cosine, BAR), style="blue"),
                f"{cosine:.2f}",
            )
        console.print(grid if near else Text("    its row is zero or not finite, and has no direction", style="yellow"))
    console.print()


def _show_difference(console: "Console", against: str, moved: "Difference") -> None:
    from rich.text import Text

    console.print(Text.assemble(("Moved", "bold"), " since ", _line(against), ("   |dW|/|W|", "dim")))
    grid = _grid(2)
    most = max((value for value in moved.parts.values() if math.isfinite(value)), default=0.0)
    for part, value in moved.parts.items():
        grid.add_row(
            Text(f"  {part}"), Text(bar(value / most if most else 0.0, BAR), style="dark_orange"), significant(value)
        )
    grid.add_row(Text("  all", style="bold"), "", Text(significant(moved.total), style="bold"))
    console.print(grid)
    console.print(Text("\nMoved most", style="bold"))
    grid = _grid(2)
    ranked = sorted(
        (change for change in moved.changes if math.isfinite(change.relative)), key=lambda change: -change.relative
    )
    for change in ranked[:MOST_MOVED]:
        largest = f"largest change of a value {significant(change.largest)}"
        grid.add_row(Text(f"  {_line(change.name)}"), Text(significant(change.relative)), Text(largest, style="dim"))
    console.print(grid)
    from_zero = sum(change.relative == math.inf for change in moved.changes)
    not_finite = sum(math.isnan(change.relative) for change in moved.changes)
    if from_zero:
        console.print(Text(f"beside them, {from_zero:,} that were zero are not any more", style="dim"))
    if not_finite:
        console.print(Text(f"{not_finite:,} hold values that are not finite", style="red"))
    for words, names in (
        ("only there", moved.only_before),
        ("only here", moved.only_after),
        ("of another shape", [f"{name} {_shape(old)} -> {_shape(new)}" for name, old, new in moved.other_shape]),
    ):
        if names:
            more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
            console.print(Text(f"{words}: {', '.join(map(_line, names[:5]))}{more}", style="yellow"))


def _grid(gap: int) -> "Table":
    from rich.table import Table

    return Table.grid(padding=(0, gap))


def _shape(shape: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
