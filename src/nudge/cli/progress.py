"""The progress of what takes a while: a bar on a terminal, else one line for each thing that is done.

On standard error: standard output is for the answer.
"""

import sys
from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

from nudge.events import Preparing

PREPARING = {
    "downloading": "downloading text",
    "reading": "reading the text",
    "vocabulary": "learning a vocabulary",
    "tokens": "making tokens",
    "checking": "checking the tokens",
}

Made = TypeVar("Made")


def prepare_with_bar(preparing: Generator[Preparing, None, Made]) -> Made:
    """What a preparation makes in the end, with its progress."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        doing = ""
        while True:
            try:
                event = next(preparing)
            except StopIteration as finished:
                made: Made = finished.value
                return made
            if event.what != doing:
                doing = event.what
                bar.reset(task, description=PREPARING[doing], total=event.total)
                if not console.is_terminal:
                    console.print(PREPARING[doing])
            bar.update(task, completed=event.done)


def with_bar(things: Iterable[Made], total: int | None, doing: str) -> Iterator[Made]:
    """The same things one after the other, with how many of `total` (None: nobody knows) are made by then."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(doing, total=total)
        if not console.is_terminal:
            console.print(doing)
        for thing in things:
            bar.advance(task)
            yield thing
