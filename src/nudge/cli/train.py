"""`nudge train` and `nudge resume`: train a model and print its progress."""

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nudge.cli import complete
from nudge.cli.prompts import Count, FilePath, note_hidden_names, system_language
from nudge.cli.terminal import echo, echo_json
from nudge.errors import ConfigError, RunError

if TYPE_CHECKING:
    from nudge.config import Config, DataConfig
    from nudge.events import Event


LENGTHS = {"steps", "tokens", "minutes"}  # how long to train
MINUTES = {"tiny": 4.0, "modern": 4.0}  # if the user says no length: on any machine, about as long as a person waits
SETTINGS = {  # option: the setting that it changes
    "seed": "seed",
    "init": "init",
    "paths": "data.paths",
    "tokenizer": "data.tokenizer",
    "field": "data.field",
    "steps": "train.steps",
    "minutes": "train.minutes",
    "sample_every": "sample.every",
    "eval_every": "eval.every",
    "save_every": "save.every",
    "shard": "machine.shard",
}


@click.command()
@click.option(
    "--recipe",
    shell_complete=complete.recipes,
    default="tiny",
    metavar="NAME",
    help="llm_viz, tiny, modern, mini_24k, gpt2_small, gpt2_medium, gpt2_large, gpt2_xl.",
)
@click.option(
    "--data",
    type=FilePath(),
    multiple=True,
    metavar="PATH...",
    help="Text files, folders, globs, a name of 'nudge data list', hf:OWNER/NAME, or a folder of tokens. "
    "[default: Python's standard library]",
)
@click.argument("more_data", type=FilePath(), nargs=-1, metavar="")
@click.option("--field", metavar="NAME", help="The field or column that holds the text (.jsonl, .parquet).")
@click.option(
    "--tokenizer",
    type=FilePath(),
    metavar="NAME|FILE",
    help="bytes, chars, gpt2, cl100k, bpe-N (learned from the text), or a file. [default: the recipe's]",
)
@click.option(
    "--run", "folder", type=FilePath(), metavar="DIR", help="The run's folder. [default: a new one under runs/]"
)
@click.option(
    "--steps",
    type=int,
    metavar="N",
    help="Number of updates. [default: as many as fit into 4 minutes for tiny and modern, else the recipe's]",
)
@click.option("--tokens", type=Count(), metavar="N", help="Run length in tokens, e.g. 10M, instead of --steps.")
@click.option(
    "--minutes",
    type=float,
    metavar="M",
    help="Training time on this machine instead of --steps. [default for tiny and modern: 4]",
)
@click.option("--init", type=FilePath(), metavar="SOURCE", help="Start from another model's weights (fine-tuning).")
@click.option("--seed", type=int, metavar="N", help="Seed for initial weights and data order. [default: 1337]")
@click.option("--sample-every", type=int, metavar="N", help="Updates between samples; 0: none. [default: 20]")
@click.option("--eval-every", type=int, metavar="N", help="Updates between measurements on validation text.")
@click.option("--save-every", type=int, metavar="N", help="Updates between checkpoints.")
@click.option("--shard", is_flag=True, help="With several processes, each keeps only a part of the weights (FSDP).")
@click.option("--continue", "or_resume", is_flag=True, help="Continue the run if the folder of --run holds one.")
@click.option("--config", "config_file", type=FilePath(), metavar="FILE.toml", help="A file with settings.")
@complete.set_option("Any setting, such as train.lr=3e-4.")
@click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON instead.")
def train(as_json: bool, folder: str | None, or_resume: bool, **options: Any) -> None:
    """Train a model from the start.

    With torchrun, several processes share every update: torchrun --nproc-per-node 8 -m -- nudge train.

    \b
    Example:
      nudge train                                            Python's standard library, a few minutes
      nudge train --data book.txt --tokenizer chars --minutes 1
      nudge train --data shakespeare                         a text that is downloaded once
      nudge train --recipe mini_24k --data reviews.jsonl --field document
      nudge train --data notes/*.md --init runs/tiny --steps 200 --set train.lr=1e-4
    """
    config = make_config(**options, default_minutes=MINUTES)
    if is_first_process():
        note_hidden_names(config.data.paths)
    check_start(config, folder, or_resume=or_resume)
    if is_first_process() and not (config.data.paths or or_resume or as_json):
        _propose_text()
    from nudge.train.run import run

    watch(run(config, folder, or_resume=or_resume), as_json=as_json)


@click.command()
@click.argument("run", type=FilePath(), required=False)
@click.option("--steps", type=int, metavar="N", help="Total number of updates, if more than planned.")
@click.option("--minutes", type=float, metavar="M", help="Continue for this time.")
@click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON instead.")
def resume(run: str | None, steps: int | None, minutes: float | None, as_json: bool) -> None:
    """Continue a run from its newest checkpoint.

    RUN is a run folder, by default the newest under runs/. The newest checkpoint with a valid checksum is used.

    \b
    Example:
      nudge resume
      nudge resume runs/tiny --steps 2000
    """
    if steps is not None and minutes is not None:
        raise ConfigError("exclusive_options", options="--steps, --minutes")
    from nudge.runs.folder import RunFolder, newest_run
    from nudge.util import files

    target = RunFolder(Path(run) if run else newest_run())
    if not files.exists(target.run_json):
        raise RunError("no_run", path=target.path)
    from nudge.train.run import resume as continue_run

    watch(continue_run(run, steps=steps, minutes=minutes), as_json=as_json)


def make_config(*, default_minutes: Mapping[str, float] | None = None, **options: Any) -> "Config":
    """Return the recipe, changed by the file, then by --set, then by the other options of `nudge train`.

    `default_minutes`: for each recipe, the time to train if the user does not say how long.

    Raises: ConfigError.
    """
    from nudge import config as configs
    from nudge import recipes

    settings = set(configs.keys())
    for word in options["more_data"]:
        if word.partition("=")[0] in settings and not Path(word).exists():
            raise ConfigError("setting_without_set", setting=word, typed=shlex.quote(word))
    if options["more_data"] and not options["data"]:
        raise ConfigError("text_without_data", path=Path(options["more_data"][0]))
    if sum(options[name] is not None for name in LENGTHS) > 1:
        raise ConfigError("exclusive_options", options="--steps, --tokens, --minutes")
    if options["init"] and options["tokenizer"]:
        raise ConfigError("tokenizer_with_init")
    config = recipes.recipe(options["recipe"])
    from_file = configs.read_toml(Path(options["config_file"])) if options["config_file"] else {}
    for table in (from_file, given := configs.parse_settings(options["settings"])):
        config = configs.override(config, table)
    lengths = {*from_file.get("train", {}), *given.get("train", {}), *(n for n in LENGTHS if options[n] is not None)}
    if not lengths & LENGTHS:
        options["minutes"] = (default_minutes or {}).get(config.recipe)
    if options["tokens"] is not None:
        options["steps"] = max(1, -(-options["tokens"] // max(1, config.train.batch_tokens)))
    options["paths"] = (*options["data"], *options["more_data"]) or None
    options["shard"] = options["shard"] or None
    for option, setting in SETTINGS.items():
        if options[option] is not None:
            section, _, name = setting.rpartition(".")
            change = {name: options[option]}
            config = configs.override(config, {section: change} if section else change)
    return config


def _propose_text() -> None:
    """Print what the text is without --data, and the name of another one, in the user's language."""
    from nudge.data import named_texts

    first = next(iter(named_texts.table(system_language())))
    echo(f"text: Python's standard library; for another: --data {first} ('nudge data list')", err=True)


def check_start(config: "Config", folder: str | None, *, or_resume: bool) -> None:
    """Refuse what the run would refuse, before torch is imported, which takes seconds. Raises: NudgeError.

    Of several processes, another one may have begun the run already; then only the run's own checks count.
    """
    from nudge import config as configs
    from nudge.runs.disk import check_disk
    from nudge.runs.folder import RunFolder, find_source
    from nudge.util import files

    if os.environ.get("WORLD_SIZE", "1") != "1":
        return
    if folder and files.exists(RunFolder(Path(folder)).run_json):
        if not or_resume:
            raise RunError("folder_taken", path=Path(folder))
        return
    check_text(config.data)
    if config.init:  # the sizes and the tokenizer come from its checkpoint
        find_source(config.init)
        return
    configs.check(config)
    smallest = replace(config.model, vocab_size=1)  # the text decides on the real one
    check_disk(replace(config, model=smallest), Path(folder or "runs"))


def check_text(data: "DataConfig") -> None:
    """Check that the text and the tokenizer's file are here. Raises: DataError, TokenizerError."""
    from nudge.data import tokenizer as tokenizers
    from nudge.data.prepare import find_text

    spec = data.tokenizer
    if find_text(data.paths) and spec not in tokenizers.NAMES and not tokenizers.is_learned(spec):
        tokenizers.get(spec)  # a file; those with a name are found where the run is


def watch(stream: Generator["Event", None, None], *, as_json: bool) -> None:
    """Print the events of a run until it ends; then exit or raise, depending on how it ended."""
    from nudge.events import Started, Stopped

    last: Event | None = None
    # The stream is closed, and so the run is saved, before an error of the printing (a full disk) ends the command.
    with Interrupt() as interrupt, contextlib.closing(stream), _printing(as_json) as show:
        for last in stream:
            if isinstance(last, Started):
                interrupt.listen(last.run)
            show(last)
    if interrupt.signal:
        sys.exit(128 + interrupt.signal)
    if not isinstance(last, Stopped) or not is_first_process():
        return
    if last.reason == "diverged":
        raise RunError("diverged", step=last.step, hint=last.hint)
    if last.reason == "finished" and interrupt.run and not as_json:
        from nudge.cli import run_report

        run_report.show(Path(interrupt.run))


@contextlib.contextmanager
def _printing(as_json: bool) -> Iterator[Callable[["Event"], None]]:
    """Yield a function that prints one event."""
    from nudge import events

    if not is_first_process():
        yield lambda event: None
    elif as_json:
        yield lambda event: echo_json(events.to_json(event))
    else:
        from nudge.cli import live

        with live.printing() as show:
            yield show


def is_first_process() -> bool:
    """Return whether this is the only or the first process of the run. Only the first process prints."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


class Interrupt:
    """Stops the run on Control-C or SIGTERM: after saving the last finished update; at once on a second signal.

    A signal can come in the middle of anything, also of printing or of another handler. So its handler only notes it:
    the loop reads the note before its next pass, and a thread prints the message.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.run = ""
        self._before: dict[int, Any] = {}
        self._ended = threading.Event()

    def listen(self, run: str) -> None:
        """Handle signals from now on: there is a run to save."""
        from nudge.train.control import Control

        self.run, self._control = run, Control
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        if os.environ.get("LOCAL_RANK", "0") == "0":
            threading.Thread(target=self._announce, daemon=True).start()

    def __enter__(self) -> "Interrupt":
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)
            self._control.stop_asked = False

    def _note(self, number: int, frame: object) -> None:
        self.signal = number
        self._control.stop_asked = True
        if "TORCHELASTIC_RUN_ID" not in os.environ:  # torchrun repeats the signal, and kills what does not end in time
            for each in self._before:
                signal.signal(each, signal.SIG_DFL)  # a second signal ends the process, even in a save that hangs

    def _announce(self) -> None:
        while not self._ended.wait(0.1):
            if self.signal:
                with contextlib.suppress(OSError):
                    echo(err=True)
                    echo("stopping: the last finished update is being saved (once more: stop at once)", err=True)
                return
