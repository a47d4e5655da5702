"""How commands print: consoles, tables, progress bars, and JSON."""

import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text


def make_console(*, wide: bool = False) -> Console:
    """Return a console on standard output. Without a terminal it never wraps lines: programs read them too.

    `wide`: without a terminal, tables are as wide as they need to be.
    """
    if sys.stdout.isatty():
        return Console(highlight=False, emoji=False)
    return Console(highlight=False, emoji=False, soft_wrap=True, width=1000 if wide else 120)


def make_bar(*columns: ProgressColumn) -> Progress:
    """Return a progress bar on standard error: standard output is for results. Without a terminal it is not drawn."""
    console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def make_table(*columns: str, wraps: str = "") -> Table:
    """Return a table without rows. A column named `>tokens` is called `tokens` and right-aligned.

    `wraps`: the column whose cells may have several lines.
    """
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(
            name.removeprefix(">"),
            justify="right" if name.startswith(">") else "left",
            no_wrap=name != wraps,
            overflow="fold" if name == wraps else "ellipsis",
        )
    return table


def make_facts(rows: Iterable[tuple[str, *tuple[str | Text, ...]]]) -> Table:
    """Return a table of facts, each after its dim name. Nothing in it is read as markup."""
    table = Table.grid(padding=(0, 2))
    for name, *cells in rows:
        table.add_row(Text(name, style="dim"), *(Text(cell) if isinstance(cell, str) else cell for cell in cells))
    return table


def finite(value: Any) -> Any:
    """Return the value with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def indent(shown: RenderableType) -> Padding:
    """Move a table or text two columns to the right."""
    return Padding(shown, (0, 0, 0, 2), expand=False)


def show_title(console: Console, words: str, beside: str = "") -> None:
    """Print the title of a section, below an empty line."""
    console.print()
    console.print(Text.assemble((words, "bold"), ("  " + beside if beside else "", "dim")))


def show_next(console: Console, *commands: tuple[str, str], width: int = 34) -> None:
    """Print the commands to type next, with the purpose of each."""
    show_title(console, "Next")
    for command, words in commands:
        console.print(Text.assemble(f"  {command:<{width}}  ", (words, "dim")))
