"""`nudge launch`: write the job that trains on several processes or machines, and hand it to what runs it."""

import dataclasses
import glob
import inspect
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from nudge import config as configs
from nudge.cli.train import make_config
from nudge.cli.train import train as train_command
from nudge.errors import ConfigError, MachineError
from nudge.launch import local, skypilot, slurm
from nudge.launch.job import ANY_GPU, Job, LocalPath, check
from nudge.util import files
from nudge.util.cpu import usable_cores
from nudge.version import __version__

if TYPE_CHECKING:
    from nudge.config import Config

ENGINES = {"local": local.ENGINE, "slurm": slurm.ENGINE, "skypilot": skypilot.ENGINE}
MARK = "# Made by nudge launch"  # in each file
ONLY = {  # options that only some engines look at
    "gpu": ("slurm", "skypilot"),
    "cpus": ("slurm", "skypilot"),
    "partition": ("slurm",),
    "spot": ("skypilot",),
    "package": ("skypilot",),
}
OURS = {"--run", "--continue"}  # of nudge train's options, those that every job has
PATHS = {"data", "more_data", "tokenizer", "init", "config_file"}  # those that may name something on this machine


@click.command()
@click.option("--on", required=True, type=click.Choice(list(ENGINES)), help="What runs the job.")
@click.option("--nodes", default=1, metavar="N", help="Machines.")
@click.option("--per-node", default=1, metavar="N", help="Processes on each, one for each GPU.")
@click.option(
    "--gpu", default=ANY_GPU, metavar="NAME", help="h100, a100-80, 4090 ...; any: as Slurm gives; none: CPUs."
)
@click.option("--cpus", default=4, metavar="N", help="CPU cores for each process.")
@click.option("--hours", type=float, metavar="H", help="Save and stop after so long.  [default: on Slurm 24]")
@click.option("--restarts", default=3, metavar="N", help="How often torchrun starts all again after one died.")
@click.option("--partition", metavar="NAME", help="Slurm's queue.  [default: the cluster's]")
@click.option("--spot", is_flag=True, help="SkyPilot: cheap machines that may be taken away, and are then replaced.")
@click.option(
    "--package", metavar="SPEC", help="SkyPilot: what pip installs there.  [default: this version of nudge-lm]"
)
@click.option("--name", metavar="NAME", help="Of the job.  [default: its run's]")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the job there instead of printing it."
)
@click.option("--submit", is_flag=True, help="Start it now (local), or hand it to sbatch or sky.")
@click.option("--json", "as_json", is_flag=True, help="Print what was made as JSON.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="-- OPTIONS OF NUDGE TRAIN")
def launch(
    *, on: str, name: str | None, out: Path | None, submit: bool, as_json: bool, options: tuple[str, ...], **asked: Any
) -> None:
    """Write the job that trains on several processes or machines.

    What follows -- is handed to 'nudge train', and is checked now, so that a mistake does not wait in a queue. Every
    job goes on from its run's newest checkpoint when it is started again. Without --out it is printed.

    \b
    Example:
      nudge launch --on local --per-node 2 --submit -- --data book.txt
      nudge launch --on slurm --nodes 2 --per-node 8 --out job.sh -- --recipe gpt2_xl --data tokens --run runs/xl
      nudge launch --on skypilot --gpu h100 --per-node 8 --spot --out job.yaml -- --recipe gpt2_small --data tokens
    """
    engine = ENGINES[on]
    check_meant(on, asked)
    job = make_job(on, name, options, **asked)
    check(job)
    text = engine.write(job)
    if submit and not shutil.which(engine.submit[0]):
        raise MachineError(f"there is no '{engine.submit[0]}' here", engine.install)
    if submit and out is None:
        out = Path(job.name + engine.suffix)
    if out:
        save(out, text)
    command = [*engine.submit, str(out or "FILE")]
    if as_json:
        made = {"on": on, "name": job.name, "run": job.run, "file": out and str(out), "submit": command, "text": text}
        click.echo(json.dumps(made, ensure_ascii=False))
    elif out:
        click.echo(f"wrote {out}" + ("" if submit else f", to be submitted with: {shlex.join(command)}"), err=True)
    else:
        click.echo(text, nl=False)
    if submit:
        sys.stdout.flush()
        if as_json:
            os.dup2(2, 1)  # what the engine says is no JSON
        os.execvp(command[0], command)


def check_meant(on: str, asked: dict[str, Any]) -> None:
    """Refuse an option that the engine would not look at. Raises: ConfigError."""
    default = {field.name: field.default for field in dataclasses.fields(Job)}
    for option, engines in ONLY.items():
        if on not in engines and asked[option] not in (None, default[option]):
            raise ConfigError(f"--{option} says nothing to --on {on}", f"it is for {' and '.join(engines)}")
    if on == "local" and asked["per_node"] > (here := len(list(Path("/dev").glob("nvidia[0-9]*"))) or usable_cores()):
        click.echo(f"note: {asked['per_node']} processes, and this machine has {here} GPUs or cores for them", err=True)


def make_job(on: str, name: str | None, typed: tuple[str, ...], *, package: str | None, **asked: Any) -> Job:
    """The job, after `nudge train` would take what was typed for it. Raises: ConfigError, DataError."""
    context = train_command.make_context("nudge train", list(typed))
    config = check_training(context.params)
    run = context.params["folder"]
    if not run:
        name = name or free_name(config.recipe)
        run = f"runs/{name}"
    options = tuple(given_options(context))
    if on == "skypilot":
        check_carried(config, options)
    return Job(
        name=name or Path(run).resolve().name,
        run=run,
        options=options,
        folder=str(Path.cwd()),
        python=sys.executable,
        package=local_path(package) if package else f"nudge-lm=={__version__}",
        **asked,
    )


def check_training(params: dict[str, Any]) -> "Config":
    """What `nudge train` checks before it touches text. Raises: ConfigError, DataError."""
    if params["more_data"] and not params["data"]:
        raise ConfigError(f"unexpected {params['more_data'][0]!r}", "text to learn from is given as --data PATH")
    known = inspect.signature(make_config).parameters
    settings = {name: value for name, value in params.items() if name in known}
    config = make_config(paths=(*params["data"], *params["more_data"]), **settings)
    if not config.init:  # otherwise the sizes come from the checkpoint
        configs.check(config)
    elif not Path(config.init).exists():
        raise ConfigError(f"no such run or checkpoint: {config.init}", "'nudge runs' lists the runs here")
    check_text(config.data.paths)
    return config


def check_text(paths: tuple[str, ...]) -> None:
    """Raises: DataError for text that is not here."""
    from nudge.data.prepare import find_text

    find_text(paths)


def free_name(recipe: str) -> str:
    """`tiny`, or `tiny-2` and so on: a job begins a run of its own if none was named to go on with."""
    names = [recipe, *(f"{recipe}-{n}" for n in range(2, 10_000))]
    return next(name for name in names if not Path("runs", name).exists())


def given_options(context: click.Context) -> Iterator[tuple[str, ...]]:
    """What was typed for nudge train, each option with one value, and paths of this machine marked as such."""
    for parameter in context.command.params:
        value = context.params[parameter.name or ""]
        if (
            OURS.intersection(parameter.opts)
            or context.get_parameter_source(parameter.name or "") is ParameterSource.DEFAULT
        ):
            continue
        option = "--data" if parameter.name == "more_data" else parameter.opts[0]
        for one in value if isinstance(value, tuple) else (value,):
            if one is True:
                yield (option,)
            elif parameter.name in PATHS:
                yield option, local_path(str(one))
            else:
                yield option, str(one)


def local_path(word: str) -> str:
    """The word, marked if it names something on this machine."""
    return LocalPath(word) if glob.glob(str(Path(word).expanduser()), recursive=True) else word  # noqa: PTH207


def check_carried(config: "Config", options: tuple[tuple[str, ...], ...]) -> None:
    """Raises: ConfigError for a path that no option names: a config file's paths are not looked for in its text."""
    carried = {word for option in options for word in option}
    for path in (*config.data.paths, config.init, config.data.tokenizer):
        if path and path not in carried and isinstance(local_path(path), LocalPath):
            raise ConfigError(
                f"rented machines will not have {path}, which a config file or --set names",
                "name it by an option of its own (--data, --init, --tokenizer): then it is copied there",
            )


def save(path: Path, text: str) -> None:
    """Raises: ConfigError instead of writing over what is no job; MachineError if it cannot be written."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder", "name a file in it")
    try:
        if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace")[:200]:
            raise ConfigError(f"{path} exists, and is no job that nudge wrote", "choose another --out")
        files.write_text(path, text)
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror}", "give --out another place") from error
