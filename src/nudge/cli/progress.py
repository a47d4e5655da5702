"""The progress of long work on standard error: a bar on a terminal, otherwise a line at most every ten seconds."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

from nudge.events import Preparing

PREPARING = {
    "downloading": "downloading text",
    "reading": "reading the text",
    "vocabulary": "learning a vocabulary",
    "tokens": "making tokens",
    "checking": "checking the tokens",
}

LINE_EVERY_S = 10.0  # without a terminal

Made = TypeVar("Made")


def prepare_with_bar(preparing: Generator[Preparing, None, Made]) -> Made:
    """Run a preparation, show its progress, and return its result."""
    from rich.progress import DownloadColumn

    from nudge.cli.output import make_bar

    with make_bar(DownloadColumn()) as bar:
        task = bar.add_task("", total=None)
        stage = ""
        while True:
            try:
                event = next(preparing)
            except StopIteration as finished:
                made: Made = finished.value
                return made
            if event.what != stage:
                stage = event.what
                bar.reset(task, description=PREPARING[stage], total=event.total)
                if not bar.console.is_terminal:
                    bar.console.print(PREPARING[stage])
            bar.update(task, completed=event.done, total=event.total)


def with_bar(
    items: Iterable[Made], total: int | None, title: str, *, size_of: Callable[[Made], int] = lambda item: 1
) -> Iterator[Made]:
    """Yield the items and show the progress. `total`: the sum of their sizes, None if unknown."""
    from rich.progress import TextColumn

    from nudge.cli.output import make_bar

    column = "{task.percentage:.0f}%" if total else "{task.completed:,}"
    with make_bar(TextColumn(column)) as bar:
        task = bar.add_task(title, total=total)
        if not bar.console.is_terminal:
            bar.console.print(title)
        done, printed_s = 0, time.monotonic()
        for item in items:
            done += size_of(item)
            bar.update(task, completed=done)
            if not bar.console.is_terminal and time.monotonic() - printed_s >= LINE_EVERY_S:
                bar.console.print(f"{title}: {min(done / total, 1):.0%}" if total else f"{title}: {done:,}")
                printed_s = time.monotonic()
            yield item
