"""`nudge doctor`: this machine, what nudge chooses for it, and what is missing."""

import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import click

from nudge.cli.terminal import echo_json
from nudge.errors import SheetError

EXTRAS = {
    "vocab": "GPT-2's vocabulary without a network",
    "data": ".zst and .parquet files",
    "hub": "nudge import OWNER/NAME, --data hf:OWNER/NAME",
    "formats": "nudge export --to gguf",
    "studio": "nudge studio",
    "sheet": "nudge sheet",
}


class Fact(NamedTuple):
    """One finding: its value for a program, and a text for the user."""

    name: str
    value: Any
    words: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
def doctor(as_json: bool) -> None:
    """Show this machine, what nudge chooses for it, and why.

    The choices come from the same short measurement that 'nudge train' makes before its first update. To override them:
    nudge train --set machine.dtype=float32 (or machine.device, machine.threads, machine.update).

    \b
    Example:
      nudge doctor
      nudge doctor --json
    """
    report = examine()
    if as_json:
        echo_json({title: {f.name: f.value for f in facts} for title, facts in report.items()}, indent=2)
        return
    from nudge.cli.output import Text, indent, make_console, make_facts

    console = make_console(wide=True)
    for title, facts in report.items():
        console.print(Text(f"{title.replace('_', ' ')}:", style="bold"))
        rows = [(f"{fact.name.replace('_', ' '):<10}", fact.words) for fact in facts]
        console.print(indent(make_facts(rows)))


def examine() -> dict[str, list[Fact]]:
    """Return all findings by title."""
    import torch

    from nudge.config import MachineConfig
    from nudge.machine.hardware_probe import probe

    machine = probe(MachineConfig())
    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return {
        "this_machine": [
            Fact("processor", machine.cpu, machine.cpu),
            _cores(),
            _memory(),
            Fact("gpu", machine.gpu, machine.gpu or _other_gpu()),
            _disk(),
            Fact("python", platform.python_version(), f"{platform.python_version()} on {platform.platform()}"),
            Fact("pytorch", torch.__version__, f"{torch.__version__}, {build}"),
        ],
        "nudge_chooses": [
            Fact(name, getattr(machine, name), reason.removeprefix(f"{name} "))
            for name, reason in zip(("device", "threads", "dtype", "update"), machine.reasons, strict=True)
        ],
        "installed": [*map(_extra, EXTRAS), _pen_font()],
        "vocabularies": [_vocabulary(name) for name in ("gpt2", "cl100k")],
        "prepared_text": [_cache()],
    }


def _other_gpu() -> str:
    import torch

    on_a_mac = torch.backends.mps.is_available()
    return "the Mac's, if you ask for it: --set machine.device=mps" if on_a_mac else "none that PyTorch can use"


def _cores() -> Fact:
    from nudge.util.cpu import usable_cores

    return Fact("cores", usable_cores(), f"{usable_cores()} of {os.cpu_count()} for this process")


def _memory() -> Fact:
    import psutil

    memory = psutil.virtual_memory()
    words = f"{memory.total / 1e9:.1f} GB, {memory.available / 1e9:.1f} GB free"
    return Fact("memory", {"total_bytes": memory.total, "free_bytes": memory.available}, words)


def _disk() -> Fact:
    free = shutil.disk_usage(Path.cwd()).free
    return Fact("disk", {"free_bytes": free}, f"{free / 1e9:.1f} GB free in {Path.cwd()}")


def _extra(name: str) -> Fact:
    """Check whether every package of an extra, by nudge's metadata, is installed."""
    needed = [
        re.split(r"[^\w.-]", line)[0]
        for line in metadata.requires("nudge-lm") or ()
        if re.search(rf"extra == ['\"]{name}['\"]", line)
    ]
    installed = all(_is_installed(package) for package in needed)
    install = f'pip install -e ".[{name}]"'
    words = f"yes: {EXTRAS[name]}" if installed else f"no: {EXTRAS[name]} needs {install} in the checkout of nudge"
    return Fact(name, installed, words)


def _is_installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def _pen_font() -> Fact:
    """Find the system's font for nudge sheet."""
    from nudge.sheet import fonts

    try:
        path = fonts.find_system_font()
    except SheetError as error:
        return Fact("pen_font", None, f"no: nudge sheet needs one. {error.hint}")
    return Fact("pen_font", str(path), f"yes: {path}")


def _vocabulary(name: str) -> Fact:
    from nudge.data import published_vocab

    _, path = published_vocab.local_copy(name)
    words = f"here, no network needed ({path})" if path else "not here: downloaded when it is first used"
    return Fact(name, path and str(path), words)


def _cache() -> Fact:
    from nudge.util.files import cache_folder

    folder = cache_folder()
    n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    words = f"{folder} ({n_bytes / 1e6:,.0f} MB; another place: NUDGE_CACHE)"
    return Fact("folder", {"path": str(folder), "n_bytes": n_bytes}, words)
