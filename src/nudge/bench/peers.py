"""Parts that contenders share. Without torch, because some contenders start their own threads."""

import contextlib
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

Figures = Mapping[str, Any]  # of one round: numbers, and perhaps "output", which can be compared
Prepared = tuple[str, Callable[[], Figures]]  # the version, and a function that runs one round


class NotHereError(Exception):
    """This contender cannot run here; the message gives the user the reason."""


WEIGHTS = "weights.safetensors"  # in the work folder: float32, by our names


def decoding_figures(
    batch: int, tokens: int, *, prefill_s: float, decode_s: float, output: list[int]
) -> dict[str, Any]:
    """Return the figures of a round of decoding. `output`: the tokens of the first sequence."""
    return {
        "prefill_ms": 1000 * prefill_s,
        "ms_per_token": 1000 * decode_s / tokens / batch,
        "tokens_per_s": batch * tokens / decode_s,
        "output": output,
    }


def peak_bytes(pid: int | str = "self") -> int:
    """Return the peak of the resident memory of a process, in bytes."""
    with contextlib.suppress(OSError):
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
        if found:
            return 1024 * int(found[1])
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))  # Windows keeps the peak; elsewhere use the current size


def checkout(name: str, folder: str) -> str:
    """Return the name of a checkout, with its commit if it is a Git repository."""
    try:
        command = ["git", "-C", folder, "rev-parse", "--short", "HEAD"]
        return f"{name} {subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()}"
    except (OSError, subprocess.CalledProcessError):
        return name
