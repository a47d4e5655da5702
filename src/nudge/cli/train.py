"""`nudge train` and `nudge resume`: make updates and watch them."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nudge.errors import ConfigError, RunError

if TYPE_CHECKING:
    from nudge.config import Config
    from nudge.events import Event


class Count(click.ParamType[int]):
    """A number of tokens as people write it: 500000, 5e5, 10M, 33.5B."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        from nudge.config import parse_count

        try:
            return parse_count(value)
        except ConfigError as error:
            self.fail(f"{error.message}: {error.hint}", param, ctx)


@click.command()
@click.option(
    "--recipe",
    default="tiny",
    metavar="NAME",
    help="tiny, modern, mini_24k, gpt2_small, gpt2_medium, gpt2_large, gpt2_xl.",
)
@click.option(
    "--data",
    multiple=True,
    metavar="PATH...",
    help="Text files, folders, globs, hf:OWNER/NAME, or a folder of tokens. [default: Python's standard library]",
)
@click.argument("more_data", nargs=-1, metavar="")
@click.option("--field", metavar="NAME", help="The field or column that holds the text (.jsonl, .parquet).")
@click.option(
    "--tokenizer",
    metavar="NAME|FILE",
    help="bytes, chars, gpt2, cl100k, bpe-N (its own), or a file. [default: the recipe's]",
)
@click.option("--run", "folder", metavar="DIR", help="The run's folder. [default: a new one under runs/]")
@click.option("--steps", type=int, metavar="N", help="Updates. [default: the recipe's]")
@click.option("--tokens", type=Count(), metavar="N", help="The same as tokens to learn from: 10M, 33.5B.")
@click.option("--minutes", type=float, metavar="M", help="The same as time on this machine.")
@click.option("--init", metavar="SOURCE", help="Start from another model's weights (fine-tuning).")
@click.option("--seed", type=int, metavar="N", help="Of the first weights and the order of the text. [default: 1337]")
@click.option("--sample-every", type=int, metavar="N", help="Updates between two samples; 0: none. [default: 20]")
@click.option("--eval-every", type=int, metavar="N", help="Updates between two measurements on validation text.")
@click.option("--save-every", type=int, metavar="N", help="Updates between two checkpoints.")
@click.option("--shard", is_flag=True, help="Of several processes, each keeps a part of the weights only (FSDP).")
@click.option("--continue", "or_resume", is_flag=True, help="Go on with the run if the folder of --run holds one.")
@click.option("--config", "config_file", type=click.Path(), metavar="FILE.toml", help="Settings as a file.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any setting, such as train.lr=3e-4.")
@click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON instead.")
def train(
    more_data: tuple[str, ...],
    data: tuple[str, ...],
    as_json: bool,
    folder: str | None,
    or_resume: bool,
    **options: Any,
) -> None:
    """Train a model from the start.

    Started several times by torchrun, the processes share every update: torchrun --nproc-per-node 8 -m -- nudge train.

    \b
    Example:
      nudge train                                            Python's standard library, a few minutes
      nudge train --data book.txt --tokenizer chars --minutes 1
      nudge train --recipe mini_24k --data reviews.jsonl --field document
      nudge train --data notes/*.md --init runs/tiny --steps 200 --set train.lr=1e-4
    """
    if more_data and not data:
        raise ConfigError(f"unexpected {more_data[0]!r}", f"text to learn from is given as --data {more_data[0]}")
    config = make_config(paths=(*data, *more_data), **options)
    from nudge.train.run import run

    watch(run(config, folder, or_resume=or_resume), as_json=as_json)


@click.command()
@click.argument("run", required=False)
@click.option("--steps", type=int, metavar="N", help="Updates in all, if more than planned.")
@click.option("--minutes", type=float, metavar="M", help="Go on for that long.")
@click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON instead.")
def resume(run: str | None, steps: int | None, minutes: float | None, as_json: bool) -> None:
    """Go on with a run from its newest checkpoint.

    RUN is a run folder; left out, the newest under runs/. The newest checkpoint whose checksum agrees is used.

    \b
    Example:
      nudge resume
      nudge resume runs/tiny --steps 2000
    """
    if steps is not None and minutes is not None:
        raise ConfigError("--steps and --minutes were both given", "give one of them")
    from nudge.train.run import resume as go_on

    watch(go_on(run, steps=steps, minutes=minutes), as_json=as_json)


def make_config(
    *,
    recipe: str,
    paths: tuple[str, ...],
    config_file: str | None,
    settings: tuple[str, ...],
    steps: int | None,
    tokens: int | None,
    minutes: float | None,
    init: str | None,
    tokenizer: str | None,
    field: str | None,
    seed: int | None,
    sample_every: int | None,
    eval_every: int | None,
    save_every: int | None,
    shard: bool = False,
) -> "Config":
    """The recipe, changed by the file, then by --set, then by the options of their own. Raises: ConfigError."""
    from nudge import config as configs
    from nudge import recipes

    if sum(option is not None for option in (steps, tokens, minutes)) > 1:
        raise ConfigError("only one of --steps, --tokens and --minutes can say how long to train", "give one of them")
    if init and tokenizer:
        raise ConfigError("--init brings its own tokenizer", "leave --tokenizer out")
    config = recipes.recipe(recipe)
    if config_file:
        config = configs.override(config, configs.read_toml(Path(config_file)))
    config = configs.override(config, configs.parse_settings(settings))
    if tokens is not None:
        steps = max(1, -(-tokens // max(1, config.train.batch_tokens)))
    named = {
        "seed": seed,
        "init": init,
        "data": {"paths": paths or None, "tokenizer": tokenizer, "field": field},
        "train": {"steps": steps, "minutes": minutes},
        "sample": {"every": sample_every},
        "eval": {"every": eval_every},
        "save": {"every": save_every},
        "machine": {"shard": shard or None},
    }
    return configs.override(config, _given(named))


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Only what a person typed."""
    tables = {key: _given(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in tables.items() if value is not None}


def watch(told: Iterator["Event"], *, as_json: bool) -> None:
    """Show a run until it ends, and end this process as the run ended."""
    from nudge import events

    with Interrupt() as interrupt:
        last: Event | None = None

        def listened() -> Iterator["Event"]:
            nonlocal last
            for last in told:
                if isinstance(last, events.Started):
                    interrupt.listen(last.run)
                yield last

        if not is_first_process():
            for _ in listened():
                pass
        elif as_json:
            import json

            for event in listened():
                click.echo(json.dumps(events.to_json(event), ensure_ascii=False))
        else:
            from nudge.cli import live

            live.show(listened())
    if interrupt.signal:
        sys.exit(128 + interrupt.signal)
    if not is_first_process():
        return
    reason = last.reason if isinstance(last, events.Stopped) else ""
    if reason == "diverged" and isinstance(last, events.Stopped):
        raise RunError(f"the run stopped after update {last.step}", last.hint)
    if reason == "finished" and interrupt.run and not as_json:
        from nudge.cli import run_report

        run_report.show(Path(interrupt.run))


def is_first_process() -> bool:
    """Whether this process speaks: of several that share a run, the first one does."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


class Interrupt:
    """Control-C and SIGTERM ask the run to stop after saving its last finished update; a second one ends it at once."""

    def __init__(self) -> None:
        self.signal = 0
        self.run = ""
        self._before: dict[int, Any] = {}

    def listen(self, run: str) -> None:
        """From now on there is a run to save."""
        self.run = run
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._heard)

    def __enter__(self) -> "Interrupt":
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: object) -> None:
        if self.signal and "TORCHELASTIC_RUN_ID" in os.environ:
            return  # a launcher hands on what the process was told already, and kills what does not end in time
        if self.signal:
            os._exit(128 + number)
        self.signal = number
        from nudge.runs.folder import RunFolder
        from nudge.train import control

        folder = RunFolder(Path(self.run))
        if os.environ.get("LOCAL_RANK", "0") == "0" and folder.run_json.exists():  # on a machine that sees the folder
            control.tell(folder, "stop")
            click.echo("\nstopping: the last finished update is being saved (once more: stop at once)", err=True)
