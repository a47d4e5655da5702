"""The command line: one thin file per command, imported only when the command is typed, so that help is fast.

An expected error becomes one line, a hint below it and exit code 2: a NudgeError, or an OSError of a full disk or a
missing permission (REFUSALS). Any other exception is a bug and shows its traceback.
"""

import contextlib
import errno
import importlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from nudge.cli.help import Context
from nudge.cli.terminal import echo, echo_json, print_any_text, show_bug
from nudge.errors import AS_JSON, LostError, MachineError, NudgeError, to_json
from nudge.version import __version__

COMMANDS = {  # name: (its module in this folder, the first line of its help)
    "train": ("train", "Train a model from the start."),
    "resume": ("train", "Continue a run from its newest checkpoint."),
    "sample": ("sample", "Write text with a trained model."),
    "eval": ("eval", "Measure the loss on new text, or the score at a standard task."),
    "predict": ("predict", "Show what a model predicts: the next token's probabilities."),
    "once": ("once", "Do one real update on one example, on a copy, and show what it changes."),
    "inspect": ("inspect", "Show what is inside a checkpoint: its parameters as a tree."),
    "data": ("data", "Turn text into tokens, and show what a folder of tokens holds."),
    "tokenizer": ("tokenizer", "Train a vocabulary, and turn text into tokens and back."),
    "import": ("import_export", "Read a GPT-2 in another program's format."),
    "export": ("import_export", "Write a model in another program's format."),
    "runs": ("runs", "List the runs here."),
    "plan": ("plan", "Forecast the memory, time and money that a training run needs."),
    "launch": ("launch", "Write a job that trains on several processes or machines."),
    "sheet": ("sheet", "Draw a cheat sheet: one A4 page of pen notes."),
    "studio": ("studio", "Train, look inside, turn knobs and write, in a browser."),
    "bench": ("bench", "Compare speed with other programs and with this machine's limits."),
    "doctor": ("doctor", "Show this machine, what nudge chooses for it, and why."),
    "completion": ("completion", "Print a script that completes commands in your shell."),
}

REFUSALS = {  # what a system answers if a file cannot be read or written: no bug
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS),
    *(errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EPIPE),
}


UNREAD = 128 + 13  # what a shell reports for a program that SIGPIPE ended, as `ls | head -1` does


@contextlib.contextmanager
def ending_unread() -> Iterator[None]:
    """Exit with UNREAD if nobody reads the output any more; click itself would exit with 1."""
    try:
        yield
    except BrokenPipeError:
        sys.exit(UNREAD)


class LazyGroup(click.Group):
    """A group that lists its commands from a table and imports only the command that is typed."""

    context_class = Context

    def __init__(self, **settings: object) -> None:
        listed = {name: click.Command(name, short_help=line) for name, (_, line) in COMMANDS.items()}
        super().__init__(commands=listed, **settings)  # type: ignore[arg-type]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of the table, not of the alphabet

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with ending_unread():  # --help is printed here
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with ending_unread():
            return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed and load(listed.name or ""), rest


def load(name: str) -> click.Command:
    """Import the module of a command and return the command."""
    module = importlib.import_module(f"nudge.cli.{COMMANDS[name][0]}")
    command: click.Command = getattr(module, f"{name}_" if name == "import" else name)
    for each in (command, *getattr(command, "commands", {}).values()):
        each.context_class = Context
        each.short_help = (each.help or "").partition("\n")[0]
    return command


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100},
)
@click.version_option(__version__, message="nudge %(version)s")
def cli() -> None:
    """Train a GPT-2, watch it learn, look inside it, and use it.

    \b
    Example:
      nudge train                      learn from Python's own standard library
      nudge sample --prompt "def"      write text with the trained model
      nudge train --help               every option of one command
    """


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 done, 2 an expected error, 130 interrupted, 141 nobody reads its output."""
    sys.excepthook = show_bug
    print_any_text()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the command was started with this output closed
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (open until the end)
    if os.environ.get("WORLD_SIZE", "1") == "1":
        run(args)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # nudge itself reports a lost process
    try:
        run(args)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException as error:
        show_bug(type(error), error, error.__traceback__)
        code = 1
    # With several processes, a thread of gloo sometimes aborts an orderly exit after all work is done (torch 2.13).
    exit_at_once(code)


def run(args: Sequence[str] | None) -> NoReturn:
    """Run one command and exit in an orderly way."""
    # PyTorch's threads synchronize after every operation, and by default a waiting thread spins for milliseconds. When
    # other programs used the cores too, updates were 5 to 25 times slower; a short spin costs nothing measurable.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        sys.exit(call(args))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        message = " ".join(error.format_message().split())  # click lists choices on lines of their own
        fail(message, f"see '{context.command_path} --help'" if context else "")
    except NudgeError as error:
        # All processes on a machine fail together, and one of them reports it.
        reports = error.reports_error if isinstance(error, LostError) else os.environ.get("LOCAL_RANK", "0") == "0"
        if not reports:
            sys.exit(2)
        fail_with(error)
    except click.Abort as error:
        if isinstance(error.__cause__, EOFError):  # a bug, which click mistakes for the end of standard input
            raise error.__cause__ from None
        exit_interrupted()
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        fail_at_file(error)


def call(args: Sequence[str] | None) -> Any:
    """Run one command and write out what it printed, while an error can still be reported; return its exit code."""
    try:
        return cli.main(args, prog_name="nudge", standalone_mode=False)
    finally:
        sys.stdout.flush()


def fail_at_file(error: OSError) -> NoReturn:
    """Exit because the system refused to read or write a file: quietly if that is a pipe that nobody reads any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python tries once more to write what standard output did not take
    if error.errno == errno.EPIPE:
        sys.exit(UNREAD)
    path = error.filename or "standard output"  # of files, the name is known
    fail_with(MachineError("file_refused", path=path, error=error.strerror))


def exit_interrupted() -> NoReturn:
    """Exit after Control-C.

    A library's thread that is busy in C cannot be stopped, and an orderly exit would abort. Then the process ends at
    once; everything that had to be cleaned up was cleaned up before this call.
    """
    if any(thread.name == "busy in C" for thread in threading.enumerate()):
        exit_at_once(130)
    sys.exit(130)


def exit_at_once(code: int) -> NoReturn:
    """Exit without the orderly end of Python and its threads."""
    for flush in (sys.stdout.flush, sys.stderr.flush):
        with contextlib.suppress(OSError):
            flush()
    os._exit(code)


def fail_with(error: NudgeError) -> NoReturn:
    """Print an error as `fail` does; before that also as JSON, if the process that reads the output asks for it."""
    if os.environ.get(AS_JSON):
        with contextlib.suppress(OSError):
            echo_json(to_json(error), err=True)
    fail(error.message, error.hint)


def fail(message: str, hint: str = "") -> NoReturn:
    """Print an error and its hint on standard error, with colors on a terminal, and exit with 2."""
    with contextlib.suppress(OSError):  # standard error can be full, too
        for label, color, text in (("error: ", "red", message), (" hint: ", "cyan", hint)):
            if text:
                echo(label, err=True, nl=False, fg=color, bold=True)
                echo(text, err=True)
    sys.exit(2)
