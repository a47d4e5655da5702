"""`nudge bench`: the speed of nudge, compared with other programs and with the limits of this machine."""

import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nudge.errors import ConfigError, RunError

if TYPE_CHECKING:
    from nudge.bench.suites import Suite

Command = TypeVar("Command", bound=Callable[..., Any])
PATH = click.Path(resolve_path=True, path_type=Path)


def common(command: Command) -> Command:
    """Add the options that all benchmarks share."""
    for option in reversed(
        (
            click.option("--rounds", default=7, type=click.IntRange(min=1), help="Measured turns of each contender."),
            click.option(
                "--threads", type=click.IntRange(min=1), help="Threads of each contender. [default: all cores]"
            ),
            click.option("--peer", multiple=True, metavar="NAME", help="Only this peer; can be repeated."),
            click.option("--json", "as_json", is_flag=True, help="Print all measurements as JSON."),
            click.option("--plot", type=PATH, metavar="FILE", help="Also draw the medians as a .png or .svg."),
        )
    ):
        command = option(command)
    return command


@click.group()
def bench() -> None:
    """Compare speed with other programs and with this machine's limits.

    Each contender runs in its own process, and they take turns. A peer that is not installed is skipped and named.

    \b
    Example:
      nudge bench train --recipe mini_24k --nanogpt ../nanoGPT
      nudge bench decode --dtype bfloat16 --plot decode.svg
    """


@bench.command()
@click.option("--recipe", default="gpt2_small", metavar="NAME", help="The network's sizes.")
@click.option("--batch", type=click.IntRange(min=1), help="Windows per update. [default: 4,096 tokens' worth]")
@click.option("--context", type=click.IntRange(min=1), help="Tokens per window. [default: the recipe's]")
@click.option(
    "--update",
    multiple=True,
    metavar="KIND",
    help="fast, compiled or eager; can be repeated. [default: the probe's choice]",
)
@click.option("--nanogpt", type=PATH, metavar="DIR", help="A checkout of nanoGPT.")
@click.option("--llmc", type=PATH, metavar="DIR", help="A checkout of llm.c.")
@click.option("--turn", "turn_s", default=2.0, type=click.FloatRange(min=0), help="Approximate seconds per turn.")
@click.option("--device", help="cpu or cuda. [default: the GPU if there is one]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any setting of nudge's run.")
@common
def train(
    recipe: str,
    batch: int | None,
    context: int | None,
    update: tuple[str, ...],
    nanogpt: Path | None,
    llmc: Path | None,
    turn_s: float,
    device: str | None,
    settings: tuple[str, ...],
    **measuring: Any,
) -> None:
    """Measure training: tokens per second.

    An update is forward, backward, clipping and AdamW on random tokens. The peers are nanoGPT (as shipped for a CPU,
    and with its best settings), Hugging Face transformers, and llm.c's C program.

    \b
    Example:
      nudge bench train --recipe mini_24k --nanogpt ../nanoGPT
      nudge bench train --batch 4 --context 64 --nanogpt ../nanoGPT --llmc ../llm.c --json
    """
    from nudge import config as configs
    from nudge import recipes
    from nudge.bench import suites

    _check_paths(nanogpt, llmc)
    config = configs.override(recipes.recipe(recipe), configs.parse_settings(settings))
    if device:
        config = configs.override(config, {"machine": {"device": device}})
    with tempfile.TemporaryDirectory(prefix="nudge-bench-") as work:
        suite = suites.training(
            config,
            batch=batch,
            context=context,
            threads=_threads(measuring["threads"]),
            turn_s=turn_s,
            updates=update,
            nanogpt=nanogpt,
            llmc=llmc,
            work=Path(work),
            cuda=_device(config.machine.device) != "cpu",
        )
        _measure(suite, device=config.machine.device, **measuring)


@bench.command()
@click.argument("source", required=False)
@click.option(
    "--recipe", default="gpt2_small", metavar="NAME", help="The sizes of random weights if there is no SOURCE."
)
@click.option("--batch", default=1, type=click.IntRange(min=1), help="Sequences written at once.")
@click.option("--prompt", default=32, type=click.IntRange(min=1), help="Tokens to read first.")
@click.option("--tokens", default=64, type=click.IntRange(min=1), help="Tokens to write after them.")
@click.option(
    "--dtype",
    multiple=True,
    type=click.Choice(("float32", "bfloat16", "int8")),
    help="Number type of the weights; can be repeated. [default: all]",
)
@click.option("--device", help="cpu or cuda. [default: the GPU if there is one]")
@common
def decode(
    source: str | None,
    recipe: str,
    batch: int,
    prompt: int,
    tokens: int,
    dtype: tuple[str, ...],
    device: str | None,
    **measuring: Any,
) -> None:
    """Measure writing: milliseconds per token.

    SOURCE is a run folder, a checkpoint or an imported folder. Without it, the weights are random. The peers are
    Hugging Face transformers, CTranslate2 and llama.cpp. All use the same weights and write the most likely tokens.

    \b
    Example:
      nudge bench decode --dtype float32 --dtype bfloat16
      nudge bench decode --batch 16 --json
      nudge bench decode --prompt 512 --plot prefill.png
    """
    from nudge import recipes
    from nudge.bench import decoding, suites

    if source:
        from nudge.infer.engine import load

        network, name = load(source, device="cpu").network, source
    else:
        network, name = decoding.random_network(recipes.recipe(recipe).model), recipe
    with tempfile.TemporaryDirectory(prefix="nudge-bench-") as work:
        suite = suites.decoding(
            network.config,
            name=name,
            batch=batch,
            prompt=prompt,
            tokens=tokens,
            dtypes=dtype or tuple(suites.DTYPES),
            threads=_threads(measuring["threads"]),
            device=_device(device),
            work=Path(work),
        )
        decoding.save_weights(network, Path(work))
        del network
        _measure(suite, device=device, **measuring)


@bench.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--field", default="text", help="The field of .jsonl lines that holds the text.")
@click.option(
    "--cores", multiple=True, type=click.IntRange(min=1), help="Number of cores; can be repeated. [default: 1 and 2]"
)
@common
def tokenize(files: tuple[str, ...], field: str, cores: tuple[int, ...], **measuring: Any) -> None:
    """Measure encoding: megabytes of text per second.

    Each contender turns text into GPT-2's ids. FILE is text as for 'nudge data prepare': files, folders and globs. The
    peers are tiktoken and tokenizers with the same vocabulary; their ids are compared with nudge's.

    \b
    Example:
      nudge bench tokenize book.txt
      nudge bench tokenize "reviews/*.jsonl" --field review --cores 1 --cores 4
    """
    from nudge.bench import suites, tokenizing

    n_bytes = tokenizing.check(files, field)
    available = _threads(measuring["threads"])
    suite = suites.tokenizing(
        [str(Path(file).resolve()) for file in files],
        field_name=field,
        cores=cores or range(1, min(2, available) + 1),
        n_bytes=n_bytes,
    )
    _measure(suite, device="cpu", **measuring)


@bench.command("time-to-loss")
@click.option(
    "--text",
    type=PATH,
    required=True,
    metavar="FILE",
    help="Text to learn by characters; its last tenth validates.",
)
@click.option("--target", default=1.91, help="The validation loss to reach, in nats per character.")
@click.option("--recipe", default="tiny", metavar="NAME", help="nudge's recipe, with the sizes of nanoGPT's network.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any setting of nudge's run.")
@click.option("--every", default=100, type=click.IntRange(min=1), help="Updates between measurements of the loss.")
@click.option("--nanogpt", type=PATH, metavar="DIR", help="A checkout of nanoGPT.")
@click.option("--nanogpt-lr", default=4e-3, help="The tuned learning rate of nanoGPT.")
@click.option("--nanogpt-steps", default=1000, type=click.IntRange(min=101), help="The tuned number of its updates.")
@common
def time_to_loss(
    text: Path,
    target: float,
    recipe: str,
    settings: tuple[str, ...],
    every: int,
    nanogpt: Path | None,
    nanogpt_lr: float,
    nanogpt_steps: int,
    **measuring: Any,
) -> None:
    """Measure learning: seconds until a loss is reached.

    The peer is nanoGPT's recipe for a CPU (4 layers, 4 heads, 128 channels, 64 characters), as shipped and with a tuned
    learning rate. Only the time of updates counts. A round is a whole run with its own seed.

    \b
    Example:
      nudge bench time-to-loss --text shakespeare.txt --nanogpt ../nanoGPT --rounds 3
    """
    from nudge import config as configs
    from nudge import recipes
    from nudge.bench import suites

    _check_paths(text, nanogpt)
    config = configs.override(recipes.recipe(recipe), {"model": suites.shape(suites.NANOGPT_MODEL)})
    config = configs.override(config, configs.parse_settings(settings))
    with tempfile.TemporaryDirectory(prefix="nudge-bench-") as work:
        suite = suites.time_to_loss(
            config,
            text,
            target=target,
            every=every,
            threads=_threads(measuring["threads"]),
            nanogpt=nanogpt,
            tuned_lr=nanogpt_lr,
            tuned_steps=nanogpt_steps,
            work=Path(work),
        )
        _measure(suite, device="cpu", **measuring)


def _check_paths(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and not path.exists():
            raise ConfigError("no_such_path", path=path)


def _threads(threads: int | None) -> int:
    from nudge.util.cpu import usable_cores

    return threads or usable_cores()


def _device(device: str | None) -> str:
    import torch

    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def _measure(
    suite: "Suite",
    *,
    rounds: int,
    threads: int | None,
    peer: tuple[str, ...],
    as_json: bool,
    plot: Path | None,
    device: str | None,
) -> None:
    """Run the contenders in turns and print the results."""
    from nudge.bench import pictures, reports, runner, suites
    from nudge.cli import benchtable

    if plot:
        pictures.check(plot)  # before minutes of measuring
    suite, threads = suite.only(peer), _threads(threads)
    machine = suites.machine(threads=threads, device=device)
    report = reports.Report(suite, machine)
    events = runner.interleave((machine, *suite.contenders), rounds, threads=threads)
    for event in benchtable.watched(events, suite, rounds):
        report.add(event)
    found = report.as_dict(_about(threads, rounds))
    if not any(contender["ours"] and not contender["absent"] for contender in found["contenders"]):
        reason = next(contender["absent"] for contender in found["contenders"] if contender["ours"])
        raise RunError("nothing_measured", reason=reason)
    if plot:
        pictures.draw(found, plot)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        benchtable.show(found)


def _about(threads: int, rounds: int) -> dict[str, Any]:
    """Return the machine, the command and the versions that belong to the measurements."""
    import psutil
    import torch

    from nudge.util.cpu import cpu_name, usable_cores
    from nudge.version import __version__

    return {
        "nudge": __version__,
        "command": ["nudge", *sys.argv[1:]],
        "rounds": rounds,
        "machine": {
            "processor": cpu_name(),
            "cores": usable_cores(),
            "threads": threads,
            "memory_bytes": psutil.virtual_memory().total,
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "pytorch": torch.__version__,
        },
    }
