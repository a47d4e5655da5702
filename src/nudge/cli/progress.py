"""The progress of long work on standard error: a bar on a terminal, otherwise one line per stage."""

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


def with_bar(items: Iterable[Made], total: int | None, title: str) -> Iterator[Made]:
    """Yield the items and show the progress; `total` is their number, None if unknown."""
    from rich.progress import MofNCompleteColumn

    from nudge.cli.output import make_bar

    with make_bar(MofNCompleteColumn()) as bar:
        task = bar.add_task(title, total=total)
        if not bar.console.is_terminal:
            bar.console.print(title)
        for item in items:
            bar.advance(task)
            yield item
