"""`nudge launch`: write a job that trains on several processes or machines, and submit it."""

import dataclasses
import glob
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
from nudge.cli import complete
from nudge.cli.prompts import FilePath
from nudge.cli.terminal import echo, echo_json, write
from nudge.cli.train import check_text, make_config
from nudge.cli.train import train as train_command
from nudge.distributed.share import check_share
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
ONLY = {  # options that only some engines use
    "gpu": ("slurm", "skypilot"),
    "cpus": ("slurm", "skypilot"),
    "partition": ("slurm",),
    "spot": ("skypilot",),
    "package": ("skypilot",),
}
OURS = {"--run", "--continue"}  # the options of nudge train that a job sets
PATHS = {"data", "more_data", "tokenizer", "init", "config_file"}  # those that may name a file on this machine


@click.command()
@click.option("--on", required=True, type=click.Choice(list(ENGINES)), help="What runs the job.")
@click.option("--nodes", default=1, metavar="N", help="Number of machines.")
@click.option("--per-node", default=1, metavar="N", help="Processes per machine, one per GPU.")
@click.option(
    "--gpu",
    shell_complete=complete.gpus,
    default=ANY_GPU,
    metavar="NAME",
    help="h100, a100-80, 4090, ...; any: Slurm's choice; none: CPUs.",
)
@click.option("--cpus", default=4, metavar="N", help="CPU cores per process.")
@click.option("--hours", type=float, metavar="H", help="Save and stop after this time.  [default: 24 on Slurm]")
@click.option("--restarts", default=3, metavar="N", help="How often torchrun restarts all processes after one died.")
@click.option("--partition", metavar="NAME", help="Slurm's queue.  [default: the cluster's]")
@click.option("--spot", is_flag=True, help="SkyPilot: cheaper machines that can be taken away and are then replaced.")
@click.option("--package", metavar="SPEC", help="SkyPilot: what pip installs.  [default: this version of nudge-lm]")
@click.option("--name", metavar="NAME", help="The job's name.  [default: its run's]")
@click.option(
    "--out",
    type=FilePath(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the job to a file instead of printing it.",
)
@click.option("--submit", is_flag=True, help="Start it now (local), or submit it with sbatch or sky.")
@click.option("--json", "as_json", is_flag=True, help="Print the job as JSON.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="-- OPTIONS OF NUDGE TRAIN")
def launch(
    *, on: str, name: str | None, out: Path | None, submit: bool, as_json: bool, options: tuple[str, ...], **place: Any
) -> None:
    """Write a job that trains on several processes or machines.

    The options after -- are those of 'nudge train'. They are checked now, so that a mistake does not wait in a queue.
    A job that is started again continues from its run's newest checkpoint. Without --out the job is printed.

    \b
    Example:
      nudge launch --on local --per-node 2 --submit -- --data book.txt
      nudge launch --on slurm --nodes 2 --per-node 8 --out job.sh -- --recipe gpt2_xl --data tokens --run runs/xl
      nudge launch --on skypilot --gpu h100 --per-node 8 --spot --out job.yaml -- --recipe gpt2_small --data tokens
    """
    engine = ENGINES[on]
    check_options(on, place)
    job = make_job(on, name, options, **place)
    check(job)
    text = engine.file_text(job)
    if submit and not shutil.which(engine.submit[0]):
        raise MachineError("no_such_program", program=engine.submit[0], install=engine.install)
    if submit and out is None:
        out = Path(job.name + engine.suffix)
    if out:
        save(out, text)
    command = [*engine.submit, str(out or "FILE")]
    if as_json:
        made = {"on": on, "name": job.name, "run": job.run, "file": out and str(out), "submit": command, "text": text}
        echo_json(made)
    elif out:
        echo(f"wrote {out}" + ("" if submit else f", to be submitted with: {shlex.join(command)}"), err=True)
    else:
        write(text.encode())
    if submit:
        if as_json:
            os.dup2(2, 1)  # the engine's own output is not JSON
        os.execvp(command[0], command)


def check_options(on: str, place: dict[str, Any]) -> None:
    """Check that the engine uses every given option. Raises: ConfigError."""
    default = {field.name: field.default for field in dataclasses.fields(Job)}
    for option, engines in ONLY.items():
        if on not in engines and place[option] not in (None, default[option]):
            raise ConfigError("option_of_other_engine", option=option, engine=on, engines=" or ".join(engines))
    if on == "local" and place["per_node"] > (here := len(list(Path("/dev").glob("nvidia[0-9]*"))) or usable_cores()):
        echo(f"note: {place['per_node']} processes, but this machine has {here} GPUs or cores for them", err=True)


def make_job(on: str, name: str | None, words: tuple[str, ...], *, package: str | None, **place: Any) -> Job:
    """Build the job. `words`: options of `nudge train`. Raises: ConfigError, DataError, as `nudge train`."""
    context = train_command.make_context("nudge train", list(words))
    config = check_training(context.params, max(1, place["nodes"] * place["per_node"]))  # `check` refuses fewer
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
        **place,
    )


def check_training(params: dict[str, Any], n_processes: int) -> "Config":
    """Make the checks that `nudge train` makes before it reads text, by the same functions.

    Raises: ConfigError, DataError, TokenizerError, CheckpointError.
    """
    typed = config = make_config(**params)
    if config.init:  # the sizes come from the checkpoint, which needs torch
        from nudge.runs import checkpoint
        from nudge.train.resolve import resolve_parent

        config = resolve_parent(config, checkpoint.find(config.init, verify=False))
    configs.check(config)
    check_share(config, n_processes)
    check_text(config.data)
    return typed


def free_name(recipe: str) -> str:
    """Return `tiny`, or else `tiny-2` and so on: without a name a job starts a new run."""
    names = [recipe, *(f"{recipe}-{n}" for n in range(2, 10_000))]
    return next(name for name in names if not Path("runs", name).exists())


def given_options(context: click.Context) -> Iterator[tuple[str, ...]]:
    """Yield the given options of nudge train, each with one value. Paths on this machine are LocalPaths."""
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
    """Return the word, as a LocalPath if it names something on this machine."""
    return LocalPath(word) if glob.glob(str(Path(word).expanduser()), recursive=True) else word  # noqa: PTH207


def check_carried(config: "Config", options: tuple[tuple[str, ...], ...]) -> None:
    """Check that no path is in a config file or --set: only paths in other options are copied. Raises: ConfigError."""
    carried = {word for option in options for word in option}
    for path in (*config.data.paths, config.init, config.data.tokenizer):
        if path and path not in carried and isinstance(local_path(path), LocalPath):
            raise ConfigError("path_not_carried", path=path)


def save(path: Path, text: str) -> None:
    """Write the job. Raises: ConfigError if the file exists and is not a job; MachineError if it cannot be written."""
    with files.writing(path, lambda error: MachineError("cannot_write_out", path=path, error=error)):
        if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace")[:200]:
            raise ConfigError("not_a_job", path=path)
        files.write_text(path, text)
