"""How commands print with rich: consoles, tables and progress bars. See terminal.py: what is shown is never obeyed."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import rich.console
import rich.table
import rich.text
from rich.cells import cell_len
from rich.console import ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.segment import Segment

from nudge.util.terminal_text import make_readable, one_line


class Text(rich.text.Text):
    """Text of which control and invisible characters are shown. Made readable before it is measured and wrapped."""

    def __init__(self, text: str = "", style: Any = "", **options: Any) -> None:
        super().__init__(make_readable(text), style, **options)

    def append(self, text: rich.text.Text | str, style: Any = None) -> "Text":
        super().append(make_readable(text) if isinstance(text, str) else text, style)
        return self

    @classmethod
    def assemble(cls, *parts: rich.text.Text | str | tuple[str, Any], **options: Any) -> "Text":
        text = cls(**options)
        for part in parts:
            text.append(*(part if isinstance(part, tuple) else (part,)))
        return text


class Table(rich.table.Table):
    """A table whose cells of plain text are one line each."""

    def add_row(self, *cells: RenderableType | None, style: Any = None, end_section: bool = False) -> None:
        shown = (Text(one_line(cell)) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*shown, style=style, end_section=end_section)


class Console(rich.console.Console):
    """A console that reads no markup, and sends no control characters but those of rich itself."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, markup=False, **options)

    def on_broken_pipe(self) -> None:
        raise

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        shown = Text(renderable) if isinstance(renderable, str) else renderable
        for segment in super().render(shown, options):  # all that is printed comes by here, whatever it was made of
            yield segment if segment.control else Segment(make_readable(segment.text), segment.style)


def make_console(*, wide: bool = False) -> Console:
    """Return a console on standard output. Without a terminal it never wraps lines: programs read them too.

    `wide`: without a terminal, tables are as wide as they need to be.
    """
    if sys.stdout.isatty():
        return Console()
    return Console(soft_wrap=True, width=1000 if wide else 120)


def make_bar(*columns: ProgressColumn) -> Progress:
    """Return a progress bar on standard error: standard output is for results. Without a terminal it is not drawn."""
    console = Console(stderr=True, soft_wrap=not sys.stderr.isatty())
    return Progress(
        TextColumn("{task.description}", markup=False),
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


def make_fitting_table(
    console: Console,
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    wraps: str,
    expendable: Sequence[str],
    least: int | None = None,
    margin: int = 2,
) -> Table:
    """Return a table that fits the console: as many of the `expendable` columns as needed are left out, in this order.

    `columns` and `wraps` as for `make_table`. `least`: the width to which the column that wraps may shrink before
    others are left out; by default it shrinks last. `margin`: columns of the console beside the table.
    """
    rows, unlimited = list(rows), console.options.update(width=10_000)
    wrapping = [row[[name.removeprefix(">") for name in columns].index(wraps)] for row in rows]
    longest = max((cell_len(str(cell)) for cell in wrapping), default=0)
    saved = max(0, longest - least) if least else 0
    for n_left_out in range(len(expendable) + 1):
        kept = [i for i, name in enumerate(columns) if name.removeprefix(">") not in expendable[:n_left_out]]
        table = make_table(*(columns[i] for i in kept), wraps=wraps)
        for row in rows:
            table.add_row(*(row[i] for i in kept))
        if Measurement.get(console, unlimited, table).maximum - saved <= console.width - margin:
            break
    return table


def make_facts(rows: Iterable[tuple[str, *tuple[str | Text, ...]]]) -> rich.table.Table:
    """Return a table of facts, each after its dim name."""
    table = Table.grid(padding=(0, 2))
    for name, *cells in rows:
        table.add_row(Text(name, style="dim"), *cells)
    for column in table.columns:
        column.overflow = "fold"  # a path that is too long for a line goes on in the next
    return table


def indent(shown: RenderableType) -> Padding:
    """Move a table or text two columns to the right."""
    return Padding(shown, (0, 0, 0, 2), expand=False)


def show_title(console: Console, words: str, beside: str = "") -> None:
    """Print the title of a section, below an empty line."""
    console.print()
    console.print(Text.assemble((words, "bold"), ("  " + beside if beside else "", "dim")))


def show_next(console: Console, *commands: tuple[str, str]) -> None:
    """Print the commands to type next, with the purpose of each: beside it if there is room, else below it."""
    show_title(console, "Next")
    width = max(cell_len(command) for command, _ in commands)
    fits = width + 4 + max(cell_len(words) for _, words in commands) <= console.width
    for command, words in commands:
        beside = " " * (width - cell_len(command) + 2) if fits else "\n      "
        console.print(Text.assemble(f"  {command}{beside}", (words, "dim")))


def show_legend(console: Console, items: Iterable[rich.text.Text]) -> None:
    """Print items beside each other, as many on a line as fit."""
    line = Text()
    for item in items:
        if line and line.cell_len + 3 + item.cell_len > console.width:
            console.print(line)
            line = Text()
        line.append("   " if line else "  ").append(item)
    console.print(line)
