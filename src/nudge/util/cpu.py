"""The cores and the processor of this machine, by the standard library alone."""

import contextlib
import os
import platform
import subprocess
import sys
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def usable_cores() -> int:
    """Count the cores that this process may use. A container may have fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """Return the name of the processor."""
    return _cpuinfo("model name") or _sysctl("machdep.cpu.brand_string") or _platform_name()


def instruction_set() -> str:
    """Return a text that differs between processors with different instructions: on Linux, their list of features."""
    return _cpuinfo("flags", "Features") or _platform_name()


def _cpuinfo(*keys: str) -> str | None:
    """Return the value in the first line of /proc/cpuinfo that starts with one of `keys`."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(keys)), None)


def _sysctl(name: str) -> str | None:
    """Return what macOS knows about the machine; None on another system."""
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            return subprocess.check_output(["/usr/sbin/sysctl", "-n", name], text=True, timeout=5).strip()
    return None


def _platform_name() -> str:
    return platform.processor() or platform.machine()
