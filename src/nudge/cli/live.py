"""A run on the terminal: a line per update above a progress bar. Without a terminal there are only the lines."""

import contextlib
import shlex
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.rule import Rule

from nudge.cli.output import Console, Text, make_console
from nudge.cli.progress import PREPARING
from nudge.events import Evaluation, Event, Preparing, Sample, Saved, Skipped, Started, Step, Stopped
from nudge.runs.pace import Pace
from nudge.runs.summary import share_of_peak
from nudge.util.formatting import clock
from nudge.util.terminal_text import one_line

COLUMNS = {  # of the line of an update: width, style
    "step": (5, ""),
    "loss": (7, "bold dark_orange"),
    "val": (7, "bold blue"),
    "lr": (8, ""),
    "|g|": (6, ""),
    "ms/step": (7, ""),
    "tokens/s": (8, ""),
    "of peak": (7, "dim"),
    "ETA": (8, "dim"),
    "cost": (9, "green"),
}
EXPENDABLE = ("of peak", "lr", "|g|", "ms/step")  # in this order, on a narrow terminal
GAP = "  "
HEADER_EVERY = 20


@contextlib.contextmanager
def printing() -> Iterator[Callable[[Event], None]]:
    """Yield a function that prints one event of a run, above a progress bar."""
    console = make_console()
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None, complete_style="dark_orange", finished_style="dark_orange"),
        TextColumn("{task.fields[status]}", markup=False),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        yield View(console, bar).show


class View:
    """The state for printing that is kept between two events."""

    def __init__(self, console: Console, bar: Progress) -> None:
        self.console = console
        self.bar = bar
        self.task: TaskID = bar.add_task("", total=None, status="")
        self.preparing = ""
        self.started: Started | None = None
        self.pace = Pace()
        self.held: Step | None = None  # not printed yet: its line waits for the validation loss of the same update
        self.n_lines = 0

    def show(self, event: Event) -> None:
        """Print one event."""
        if not isinstance(event, Preparing):
            self.pace.take(event)
        if self.held and not isinstance(event, Saved):
            self._print_step(self.held, event if isinstance(event, Evaluation) else None)
            self.held = None
        elif isinstance(event, Evaluation):
            words = f"validation loss {event.loss:.3f}, {event.bits_per_byte:.3f} bits per byte"
            self.console.print(f"before update {event.step + 1}: {words}", style="blue")
        match event:
            case Preparing():
                self._prepare(event)
            case Started():
                self._start(event)
            case Step():
                self.held = event
                self._advance(event)
                if not self._will_be_evaluated(event.step):
                    self._print_step(event, None)
                    self.held = None
            case Skipped():
                self._advance(event)
                words = f"update {event.step} skipped: loss {event.loss}, gradient norm {event.grad_norm}"
                self.console.print(f"{words} ({event.in_a_row} in a row; the weights are as before)", style="bold red")
            case Sample():
                self._print_sample(event)
            case Stopped(reason="interrupted"):
                run = self.started.run if self.started else ""
                self.console.print(
                    f"stopped after update {event.step}, which is saved. Go on: nudge resume {shlex.quote(run)}"
                )
            case Stopped(reason="finished", hint=hint) if hint:
                self.console.print(f"this run is finished after {event.step} updates ({hint})")
            case _:
                pass

    def _prepare(self, event: Preparing) -> None:
        words = PREPARING[event.what]
        if self.preparing != event.what:
            self.preparing = event.what
            if not self.console.is_terminal:
                self.console.print(words)
        status = f"{event.done / 1e6:,.1f} of {event.total / 1e6:,.1f} MB"
        self.bar.update(self.task, description=words, completed=event.done, total=event.total or None, status=status)

    def _start(self, event: Started) -> None:
        self.started = event
        out = self.console.print
        words = (
            f": {event.n_params:,} parameters, {event.steps:,} updates of {event.batch_tokens:,} tokens "
            f"({event.micro_batch} windows a pass)"
        )
        out(Text.assemble((one_line(event.run), "bold"), words))
        if event.resumed_from:
            out(f"  resumed from {one_line(event.resumed_from)}, {event.step:,} updates are made")
        for note in event.notes:
            out(f"  {one_line(note)}", style="dim")
        out(f"  tokens in {one_line(event.data)}", style="dim")
        if event.forecast_s is not None:
            out(f"  forecast: {clock(event.forecast_s)}, {event.forecast_bytes / 1e9:.1f} GB of memory", style="dim")
        self.bar.update(self.task, description="training", completed=event.step, total=event.steps, status="")

    def _will_be_evaluated(self, step: int) -> bool:
        started = self.started
        return started is not None and (
            step == started.steps or (started.eval_every > 0 and step % started.eval_every == 0)
        )

    def _advance(self, event: Step | Skipped) -> None:
        if self.started:
            status = f"{event.step:,}/{self.started.steps:,}"
            if isinstance(event, Step):
                status += f"  {self._left()} left"
            self.bar.update(self.task, completed=event.step, status=status)

    def _print_step(self, step: Step, evaluation: Evaluation | None) -> None:
        started = self.started
        if started is None:
            return
        columns = self._columns(started)
        if self.n_lines % HEADER_EVERY == 0:
            self.console.print(GAP.join(f"{name:>{width}}" for name, width in columns.items()), style="dim")
        self.n_lines += 1
        cells = self._cells(started, step, evaluation)
        line = (Text(f"{cells[name]:>{width}}", style=COLUMNS[name][1]) for name, width in columns.items())
        self.console.print(Text(GAP).join(line))

    def _columns(self, started: Started) -> dict[str, int]:
        """Return the width of each column. On a terminal, only as many columns as fit it."""
        columns = {name: width for name, (width, _) in COLUMNS.items()}
        columns["step"] = max(columns["step"], len(f"{started.steps:,}"))
        if started.usd_per_hour is None:
            del columns["cost"]
        for name in EXPENDABLE:
            if not self.console.is_terminal or len(GAP.join(" " * w for w in columns.values())) <= self.console.width:
                break
            del columns[name]
        return columns

    def _cells(self, started: Started, step: Step, evaluation: Evaluation | None) -> dict[str, str]:
        """Return the text of each column of the line of an update."""
        share = share_of_peak(started, step.tokens_per_s)
        return {
            "step": f"{step.step:,}",
            "loss": f"{step.loss:.4f}",
            "val": f"{evaluation.loss:.4f}" if evaluation else "",
            "lr": f"{step.lr:.2e}",
            "|g|": f"{step.grad_norm:.2f}",
            "ms/step": f"{1e3 * step.step_s:,.0f}",
            "tokens/s": f"{step.tokens_per_s:,.0f}",
            "of peak": "> peak" if share is None else f"{share:.1%}",
            "ETA": self._left(),
            "cost": f"${step.train_s / 3600 * (started.usd_per_hour or 0):.4f}",
        }

    def _left(self) -> str:
        return clock(self.pace.left_s or 0.0)

    def _print_sample(self, sample: Sample) -> None:
        self._print_rule(f"after update {sample.step:,}" if sample.step else "before any update")
        self.console.print(Text.assemble((sample.prompt, "bold"), sample.text))
        self._print_rule()

    def _print_rule(self, title: str = "") -> None:
        rule = Rule(title, align="left", style="dim") if self.console.is_terminal else f"--- {title}".rstrip()
        self.console.print(rule)
