"""A short probe of this machine. Its results are printed and written to run.json before update 1."""

import time
from dataclasses import asdict, dataclass, replace
from statistics import median

import torch

from nudge.config import MachineConfig, ModelConfig
from nudge.distributed.world import ALONE, World
from nudge.errors import MachineError, first_line
from nudge.fast.fused_update import why_not_fast
from nudge.fast.kernels import Kernels
from nudge.machine.device import free_memory, gpu_name, synchronize
from nudge.util import json_reader
from nudge.util.cpu import cpu_name, usable_cores

WORTHWHILE = 1.3  # bfloat16 must be this much faster to make up for its three decimal digits
LONG_PRODUCT_S = 0.02  # a product that takes longer is large enough to measure the speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The hardware of this machine and the choices that were made for it.

    Units: `peak_flops` are measured floating-point operations per second of matrix products, by dtype.
    """

    device: str
    dtype: str
    threads: int
    update: str  # fast, compiled or eager: train/update.py
    cpu: str
    gpu: str | None
    memory_bytes: int  # free now, on the device
    peak_flops: dict[str, float]
    reasons: tuple[str, ...]


def probe(
    wanted: MachineConfig, model: ModelConfig | None = None, world: World = ALONE, *, before: Machine | None = None
) -> Machine:
    """Measure this machine (about half a second on a CPU) and choose what the config leaves open.

    `model` None: a GPT-2. `before`: the probe at the start of a resumed run; reuse its speeds, and fall back to another
    update if its update is unavailable here. Several processes measure at the same time, as they will compute at the
    same time; `agree` combines their results.

    Raises: MachineError if the device is missing, or the requested fast update is unavailable.
    """
    device = _device(wanted.device)
    if world.size > 1 and (device.type == "mps" or device.index is not None):
        kind = "cpu" if device.type == "mps" else device.type  # a Mac has one GPU
        raise MachineError("device_index", size=world.size, device=str(device), kind=kind)
    threads = wanted.threads or _share_of_cores(world)
    torch.set_num_threads(threads)
    peaks = (
        before.peak_flops
        if before
        else {
            "float32": _matmul_flops(device, torch.float32),
            "bfloat16": _matmul_flops(device, torch.bfloat16),
        }
    )
    dtype = wanted.dtype or ("bfloat16" if peaks["bfloat16"] >= WORTHWHILE * peaks["float32"] else "float32")
    update, obstacle = _choose_update(wanted, device, dtype, model, world, must=before is None)
    machine = Machine(
        device=str(device),
        dtype=dtype,
        threads=threads,
        update=update,
        cpu=cpu_name(),
        gpu=gpu_name(device),
        memory_bytes=free_memory(device) // (world.local_size if device.type == "cpu" else 1),
        peak_flops=peaks,
        reasons=(),
    )
    return replace(machine, reasons=_reasons(machine, wanted, world, obstacle))


def agree(machine: Machine, world: World) -> Machine:
    """Combine the probes of all processes: add their speeds and take the least memory.

    If the processes chose differently, all use the update eager, and float32 if their dtypes differ.

    Raises: MachineError if their devices differ.
    """
    machines = [json_reader.convert(values, Machine) for values in world.gather(asdict(machine))]
    first = machines[0]
    for rank, other in enumerate(machines):
        if other.device != first.device:
            raise MachineError("devices_differ", rank=rank, device=other.device, first=first.device)
    joined = replace(
        first,
        memory_bytes=min(other.memory_bytes for other in machines),
        peak_flops={dtype: sum(other.peak_flops[dtype] for other in machines) for dtype in first.peak_flops},
    )
    if all((other.dtype, other.update) == (first.dtype, first.update) for other in machines):
        return joined
    dtype = first.dtype if all(other.dtype == first.dtype for other in machines) else "float32"
    reasons = (*first.reasons[:2], f"dtype {dtype}, update eager: the machines differ")
    return replace(joined, dtype=dtype, update="eager", reasons=reasons)


def _share_of_cores(world: World) -> int:
    """Return the number of threads of one process: its share of the cores.

    torchrun would set one thread for each process, however many cores there are.
    """
    if world.size > 1:
        return max(1, usable_cores() // world.local_size)
    return max(1, min(torch.get_num_threads(), usable_cores()))


def _choose_update(
    wanted: MachineConfig, device: torch.device, dtype: str, model: ModelConfig | None, world: World, *, must: bool
) -> tuple[str, str | None]:
    """Return the kind of update, and why it is not 'fast' (None if it is, or if the config names another kind).

    Raises: MachineError if 'fast' was requested, is unavailable, and `must`.
    """
    if wanted.update in ("compiled", "eager"):
        return wanted.update, None
    shard = wanted.shard and world.size > 1  # a single process keeps all weights
    obstacle = why_not_fast(device.type, dtype, model, replace(wanted, shard=shard))
    if obstacle is None:
        return "fast", None
    if wanted.update == "fast" and must:
        raise MachineError("no_fast_update", obstacle=obstacle)
    return "compiled" if device.type == "cuda" else "eager", obstacle


def _reasons(machine: Machine, wanted: MachineConfig, world: World, obstacle: str | None) -> tuple[str, ...]:
    """Explain each choice in one line."""
    shared = f" for {world.local_size} processes" if world.local_size > 1 else ""
    gflops = {dtype: f"{flops / 1e9:,.0f}" for dtype, flops in machine.peak_flops.items()}
    measured = f"bfloat16 {gflops['bfloat16']} against float32 {gflops['float32']} GFLOP/s measured"
    fast = "hand-written backward pass, C kernels compiled here"
    if machine.update == "fast" and Kernels(getattr(torch, machine.dtype)).is_serial:
        fast += " for one thread, without OpenMP"
    return (
        f"device {machine.device}: " + ("as asked" if wanted.device else machine.gpu or "no CUDA device here"),
        f"threads {machine.threads}: "
        + ("as asked" if wanted.threads else f"of {usable_cores()} usable cores{shared}"),
        f"dtype {machine.dtype}: " + ("as asked; " if wanted.dtype else "") + measured,
        f"update {machine.update}: " + (obstacle or ("as asked" if wanted.update else fast)),
    )


def _device(name: str | None) -> torch.device:
    """Return the device, by default the GPU if there is one. Raises: MachineError if it is missing."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise MachineError("no_device", device=name, error=first_line(error)) from error
    return device


def _matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the floating-point operations per second of multiplying square matrices.

    On a CPU the size grows until one product is slow enough. A processor that emulates bfloat16 is a hundred times
    slower, so it stops at a small size. 0 for a Mac too old for bfloat16.
    """
    for n in (128, 256, 512, 1024) if device.type == "cpu" else (8192,):
        try:
            product_s = _product_s(n, device, dtype)
        except (RuntimeError, TypeError):
            if device.type != "mps" or dtype == torch.float32:
                raise
            return 0.0
        if product_s > LONG_PRODUCT_S:
            break
    return 2 * n**3 / product_s


def _product_s(n: int, device: torch.device, dtype: torch.dtype) -> float:
    """Return the seconds of a product of two [n, n] matrices: the median of a few measurements."""
    a, b = (torch.randn(n, n, device=device, generator=_generator(device)).to(dtype) for _ in range(2))
    out = torch.empty(n, n, device=device, dtype=dtype)
    seconds: list[float] = []
    started = time.perf_counter()
    while len(seconds) < 9 and (len(seconds) < 3 or time.perf_counter() - started < 1):
        begin = time.perf_counter()
        torch.mm(a, b, out=out)
        synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return median(seconds[1:])


def _generator(device: torch.device) -> torch.Generator:
    """Return a generator, so that the probe does not change the state of torch's global one."""
    return torch.Generator(device).manual_seed(0)
