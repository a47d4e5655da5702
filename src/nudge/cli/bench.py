"""`nudge bench`: the speed of nudge, compared with other programs and with the limits of this machine."""

import functools
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nudge.cli import complete
from nudge.cli.prompts import FilePath
from nudge.cli.terminal import echo_json
from nudge.errors import ConfigError, RunError

if TYPE_CHECKING:
    from nudge.bench.suites import Suite

PATH = FilePath(resolve_path=True, path_type=Path)
COMMON = (
    click.option("--rounds", default=7, type=click.IntRange(min=1), help="Measured turns of each contender."),
    click.option("--threads", type=click.IntRange(min=1), help="Threads of each contender. [default: all cores]"),
    click.option("--peer", multiple=True, metavar="NAME", help="Only this peer; can be repeated."),
    click.option("--json", "as_json", is_flag=True, help="Print all measurements as JSON."),
    click.option("--plot", type=PATH, metavar="FILE", help="Also draw the medians as a .png or .svg."),
)


def measuring(make: Callable[..., tuple["Suite", str | None]]) -> Callable[..., None]:
    """Turn a function that builds a suite into one that measures it, with the options that all benchmarks share.

    The function gets a temporary folder and the number of threads, and returns the suite and its device.
    """

    @functools.wraps(make)
    def measure(
        *, rounds: int, threads: int | None, peer: tuple[str, ...], as_json: bool, plot: Path | None, **options: Any
    ) -> None:
        from nudge.bench import pictures, reports, runner, suites
        from nudge.cli import benchtable
        from nudge.util.cpu import usable_cores

        if plot:
            pictures.check(plot)  # before minutes of measuring
        threads = threads or usable_cores()
        with tempfile.TemporaryDirectory(prefix="nudge-bench-") as work:
            suite, device = make(work=Path(work), threads=threads, **options)
            suite = suite.select_peers(peer)
            machine = suites.machine(threads=threads, device=device)
            report = reports.Report(suite, machine)
            events = runner.interleave((machine, *suite.contenders), rounds, threads=threads)
            for event in benchtable.show_progress(events, suite, rounds):
                report.add(event)
        found = report.as_dict(_about(threads, rounds))
        if not any(contender["ours"] and not contender["absent"] for contender in found["contenders"]):
            reason = next(contender["absent"] for contender in found["contenders"] if contender["ours"])
            raise RunError("nothing_measured", reason=reason)
        if plot:
            pictures.draw(found, plot)
        if as_json:
            echo_json(found, indent=2)
        else:
            benchtable.show(found)

    for option in reversed(COMMON):
        measure = option(measure)
    return measure


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
@click.option(
    "--recipe", shell_complete=complete.recipes, default="gpt2_small", metavar="NAME", help="The network's sizes."
)
@click.option("--batch", type=click.IntRange(min=1), help="Windows per update. [default: 4,096 tokens' worth]")
@click.option("--context", type=click.IntRange(min=1), help="Tokens per window. [default: the recipe's]")
@click.option(
    "--update",
    "updates",
    multiple=True,
    metavar="KIND",
    help="fast, compiled or eager; can be repeated. [default: the probe's choice]",
)
@click.option("--nanogpt", type=PATH, metavar="DIR", help="A checkout of nanoGPT.")
@click.option("--llmc", type=PATH, metavar="DIR", help="A checkout of llm.c.")
@click.option("--turn", "turn_s", default=2.0, type=click.FloatRange(min=0), help="Approximate seconds per turn.")
@click.option("--device", help="cpu or cuda. [default: the GPU if there is one]")
@complete.set_option("Any setting of nudge's run.")
@measuring
def train(
    recipe: str, settings: tuple[str, ...], device: str | None, nanogpt: Path | None, llmc: Path | None, **options: Any
) -> tuple["Suite", str | None]:
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
    device = config.machine.device
    cuda = _device(device) != "cpu"
    return suites.training(config, nanogpt=nanogpt, llmc=llmc, cuda=cuda, **options), device


@bench.command()
@click.argument("source", type=FilePath(), required=False)
@click.option(
    "--recipe",
    shell_complete=complete.recipes,
    default="gpt2_small",
    metavar="NAME",
    help="The sizes of random weights if there is no SOURCE.",
)
@click.option("--batch", default=1, type=click.IntRange(min=1), help="Sequences written at once.")
@click.option("--prompt", default=32, type=click.IntRange(min=1), help="Tokens to read first.")
@click.option("--tokens", default=64, type=click.IntRange(min=1), help="Tokens to write after them.")
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    type=click.Choice(("float32", "bfloat16", "int8")),
    help="Number type of the weights; can be repeated. [default: all]",
)
@click.option("--device", help="cpu or cuda. [default: the GPU if there is one]")
@measuring
def decode(
    source: str | None, recipe: str, dtypes: tuple[str, ...], device: str | None, work: Path, **options: Any
) -> tuple["Suite", str | None]:
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
    dtypes = dtypes or tuple(suites.DTYPES)
    suite = suites.decoding(network.config, name=name, dtypes=dtypes, device=_device(device), work=work, **options)
    decoding.save_weights(network, work)
    return suite, device


@bench.command()
@click.argument("files", type=FilePath(), nargs=-1, required=True, metavar="FILE...")
@click.option("--field", default="text", help="The field of .jsonl lines that holds the text.")
@click.option(
    "--cores", multiple=True, type=click.IntRange(min=1), help="Number of cores; can be repeated. [default: 1 and 2]"
)
@measuring
def tokenize(
    files: tuple[str, ...], field: str, cores: tuple[int, ...], threads: int, work: Path
) -> tuple["Suite", str | None]:
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
    paths = [str(Path(file).resolve()) for file in files]
    counts = cores or range(1, min(2, threads) + 1)
    return suites.tokenizing(paths, field_name=field, cores=counts, n_bytes=n_bytes), "cpu"


@bench.command("time-to-loss")
@click.option(
    "--text",
    type=PATH,
    required=True,
    metavar="FILE",
    help="Text to learn by characters; its last tenth validates.",
)
@click.option("--target", default=1.91, help="The validation loss to reach, in nats per character.")
@click.option(
    "--recipe",
    shell_complete=complete.recipes,
    default="tiny",
    metavar="NAME",
    help="nudge's recipe, with the sizes of nanoGPT's network.",
)
@complete.set_option("Any setting of nudge's run.")
@click.option("--every", default=100, type=click.IntRange(min=1), help="Updates between measurements of the loss.")
@click.option("--nanogpt", type=PATH, metavar="DIR", help="A checkout of nanoGPT.")
@click.option("--nanogpt-lr", "tuned_lr", default=4e-3, help="The tuned learning rate of nanoGPT.")
@click.option(
    "--nanogpt-steps",
    "tuned_steps",
    default=1000,
    type=click.IntRange(min=101),
    help="The tuned number of its updates.",
)
@measuring
def time_to_loss(
    text: Path, recipe: str, settings: tuple[str, ...], nanogpt: Path | None, **options: Any
) -> tuple["Suite", str | None]:
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
    return suites.time_to_loss(config, text, nanogpt=nanogpt, **options), "cpu"


def _check_paths(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and not path.exists():
            raise ConfigError("no_such_path", path=path)


def _device(device: str | None) -> str:
    import torch

    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def _about(threads: int, rounds: int) -> dict[str, Any]:
    """Return the machine, the command and the versions of the measurements."""
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
