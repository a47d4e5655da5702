"""Facts about this machine that need no library: its cores and its processor."""

import os
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def usable_cores() -> int:
    """Count the cores that this process may use (a container may be given fewer than the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """Return the processor's own name for itself."""
    return _cpuinfo("model name") or _platform_name()


def instruction_set() -> str:
    """Return what tells processors apart that run different code: the list of their features, where Linux has one."""
    return _cpuinfo("flags", "Features") or _platform_name()


def _cpuinfo(*keys: str) -> str | None:
    """Return the first processor's value of one of these lines of /proc/cpuinfo."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(keys)), None)


def _platform_name() -> str:
    return platform.processor() or platform.machine()
