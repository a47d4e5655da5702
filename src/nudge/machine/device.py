"""What differs between a CPU, a CUDA GPU and the GPU of a Mac (mps)."""

from pathlib import Path

import psutil
import torch

from nudge.util.cpu import cpu_name


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all submitted work, to read the clock. A CPU has nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def gpu_name(device: torch.device) -> str | None:
    """Return the name of a GPU; None for a CPU. A Mac's GPU is a part of its processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name() if device.type == "mps" else None


def free_memory(device: torch.device) -> int:
    """Return the free bytes of the device's memory, within a container's limit. A Mac has one memory for both."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    if device.type == "mps":
        return max(0, min(free, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()))
    limit = Path("/sys/fs/cgroup/memory.max")  # a container's own limit (cgroup v2)
    used = Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text("ascii").strip()) != "max":
        free = min(free, int(text) - int(used.read_text("ascii")))
    return max(0, free)
