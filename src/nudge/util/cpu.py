"""The cores and the processor of this machine, by the standard library alone."""

import os
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def usable_cores() -> int:
    """Count the cores that this process may use. A container may have fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """Return the name of the processor."""
    return _cpuinfo("model name") or _platform_name()


def instruction_set() -> str:
    """Return a text that differs between processors with different instructions: on Linux, their list of features."""
    return _cpuinfo("flags", "Features") or _platform_name()


def _cpuinfo(*keys: str) -> str | None:
    """Return the value in the first line of /proc/cpuinfo that starts with one of `keys`."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(keys)), None)


def _platform_name() -> str:
    return platform.processor() or platform.machine()
