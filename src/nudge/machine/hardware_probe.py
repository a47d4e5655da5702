"""Ask the machine, never guess: a short probe whose answers are printed and fixed in run.json before update 1."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import psutil
import torch

from nudge.config import MachineConfig, ModelConfig
from nudge.distributed.world import ALONE, World
from nudge.errors import MachineError, first_line
from nudge.fast.fused_update import why_not_fast
from nudge.util.cpu import cpu_name, usable_cores

WORTHWHILE = 1.3  # bfloat16 must be this much faster to be worth its three decimal digits
LONG_PRODUCT_S = 0.02  # a square product that takes longer is large enough to be measured by


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this machine has and what was chosen. `peak_flops` is measured: matrix products per second by dtype."""

    device: str
    dtype: str
    threads: int
    update: str = "eager"  # fast, compiled or eager: train/update.py
    cpu: str
    gpu: str | None
    memory_bytes: int  # free for us now, on the device
    peak_flops: dict[str, float]
    reasons: tuple[str, ...]


def probe(machine: MachineConfig, model: ModelConfig | None = None, world: World = ALONE) -> Machine:
    """Measure (about half a second on a CPU) and decide what the config leaves open. `model` None: a GPT-2.

    Of several processes each asks at the same time, as they will compute, and what they find is put together.

    Raises: MachineError for a device that is not there.
    """
    device = _device(machine.device)
    if world.size > 1 and device.index is not None:
        raise MachineError(
            f"{world.size} processes cannot all compute on {device}", f"--set machine.device={device.type}: one each"
        )
    # torchrun sets one thread for each process, whatever there is.
    shared = usable_cores() // world.local_size if world.size > 1 else min(torch.get_num_threads(), usable_cores())
    threads = machine.threads or max(1, shared)
    shared_by = f" for {world.local_size} processes" if world.local_size > 1 else ""
    torch.set_num_threads(threads)
    peaks = {"float32": _matmul_flops(device, torch.float32), "bfloat16": _matmul_flops(device, torch.bfloat16)}
    ratio = peaks["bfloat16"] / peaks["float32"]
    dtype = machine.dtype or ("bfloat16" if ratio >= WORTHWHILE else "float32")
    machine = replace(machine, shard=machine.shard and world.size > 1)  # one process has everything
    update, why = _update(machine, device, dtype, model)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return Machine(
        device=str(device),
        dtype=dtype,
        threads=threads,
        update=update,
        cpu=cpu_name(),
        gpu=gpu,
        memory_bytes=_free_memory(device) // (world.local_size if device.type == "cpu" else 1),
        peak_flops=peaks,
        reasons=(
            f"device {device}: " + ("as asked" if machine.device else gpu or "no CUDA device here"),
            f"threads {threads}: "
            + ("as asked" if machine.threads else f"of {usable_cores()} usable cores{shared_by}"),
            f"dtype {dtype}: " + ("as asked; " if machine.dtype else "") + _compared(peaks),
            f"update {update}: {why}",
        ),
    )


def agreed(machine: Machine, world: World) -> Machine:
    """What several processes found, as one: they choose alike, and their speeds add up."""
    all_ = world.gather(machine)
    first = all_[0]
    alike = all((other.dtype, other.update) == (first.dtype, first.update) for other in all_)
    for rank, other in enumerate(all_):
        if other.device != first.device:
            raise MachineError(
                f"process {rank} computes on {other.device}, process 0 on {first.device}",
                "start them on machines of one kind, or --set machine.device=cpu",
            )
    peaks = {dtype: sum(other.peak_flops[dtype] for other in all_) for dtype in first.peak_flops}
    least = min(other.memory_bytes for other in all_)
    return replace(
        first,
        dtype=first.dtype if alike else "float32",
        update=first.update if alike else "eager",
        memory_bytes=least,
        peak_flops=peaks,
        reasons=first.reasons if alike else (*first.reasons[:2], "dtype float32, update eager: the machines differ"),
    )


def _update(machine: MachineConfig, device: torch.device, dtype: str, model: ModelConfig | None) -> tuple[str, str]:
    """How updates are computed, and why. Raises: MachineError if the fast way was asked for and cannot be had."""
    if machine.update in ("compiled", "eager"):
        return machine.update, "as asked"
    obstacle = why_not_fast(device.type, dtype, model, machine)
    if obstacle is None:
        return "fast", "as asked" if machine.update else "written out, with C kernels compiled here"
    if machine.update == "fast":
        raise MachineError(f"no fast update here: {obstacle}", "leave it out, or --set machine.update=eager")
    return "compiled" if device.type == "cuda" else "eager", obstacle


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise MachineError(
            f"no device '{name}' here: {first_line(error)}", "leave it out, or --set machine.device=cpu"
        ) from error
    return device


def _matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a square product in this dtype.

    The squares grow until one takes a while: a processor that has no bfloat16 emulates it, a hundred times slower, and
    seconds of that would tell nothing more.
    """
    for n in (128, 256, 512, 1024) if device.type == "cpu" else (8192,):
        product_s = _product_s(n, device, dtype)
        if product_s > LONG_PRODUCT_S:
            break
    return 2 * n**3 / product_s


def _product_s(n: int, device: torch.device, dtype: torch.dtype) -> float:
    """Seconds of a product of two [n, n] matrices: the median of a few."""
    a, b = (torch.randn(n, n, device=device, generator=_generator(device)).to(dtype) for _ in range(2))
    out = torch.empty(n, n, device=device, dtype=dtype)
    seconds: list[float] = []
    started = time.perf_counter()
    while len(seconds) < 9 and (len(seconds) < 3 or time.perf_counter() - started < 1):
        begin = time.perf_counter()
        torch.mm(a, b, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return median(seconds[1:])


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)  # the global generator is the person's


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    limit = Path("/sys/fs/cgroup/memory.max")  # a container's own limit (cgroup v2)
    used = Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, int(text) - int(used.read_text()))
    return max(0, free)


def _compared(peaks: dict[str, float]) -> str:
    return f"bfloat16 {peaks['bfloat16'] / 1e9:,.0f} against float32 {peaks['float32'] / 1e9:,.0f} GFLOP/s measured"
