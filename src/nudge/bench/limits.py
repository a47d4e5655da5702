"""The limits of this machine (matrix products, reading memory), measured in turns with the contenders."""

import ctypes
import time
from collections.abc import Callable, Mapping
from functools import partial

import psutil
import torch

from nudge.bench.peers import NotHereError, Prepared
from nudge.config import MachineConfig
from nudge.fast import native_loader
from nudge.fast.huge_pages import huge_pages
from nudge.fast.weights import onednn_multiplies
from nudge.machine.device import synchronize
from nudge.machine.hardware_probe import probe

SIZES = {"cpu": (256, 512, 1024, 2048), "cuda": (4096, 8192)}
LONG_PRODUCT_S = 0.05  # after a product this long, a larger matrix is not faster, or the dtype is emulated
TRIES = 5


def machine(*, threads: int, device: str | None) -> Prepared:
    """Prepare a round that measures operations per second in both dtypes, and bytes read per second.

    Each figure is the best of several tries, because no contender may exceed a limit.
    """
    torch_device = torch.device(probe(MachineConfig(device=device, threads=threads)).device)
    products = {dtype: _products(torch_device, getattr(torch, dtype)) for dtype in ("float32", "bfloat16")}
    read = _reader(torch_device)

    def run_round() -> Mapping[str, float]:
        flops = {f"{dtype}_flops_per_s": product() for dtype, product in products.items()}
        return {**flops, "read_bytes_per_s": read()}

    return f"PyTorch {torch.__version__}", run_round


def _products(device: torch.device, dtype: torch.dtype) -> Callable[[], float]:
    """Return a function that measures the operations per second of the fastest square product of torch.mm."""
    generator = torch.Generator(device).manual_seed(0)
    cases = [
        (
            torch.randn(n, n, device=device, generator=generator).to(dtype),
            torch.randn(n, n, device=device, generator=generator).to(dtype),
            torch.empty(n, n, device=device, dtype=dtype),
        )
        for n in SIZES[device.type]
    ]

    def best() -> float:
        found = 0.0
        for a, b, out in cases:
            product_s = _fastest_s(partial(torch.mm, a, b, out=out), device)
            found = max(found, 2 * len(a) ** 3 / product_s)
            if product_s > LONG_PRODUCT_S:
                break
        return found

    return best


def _reader(device: torch.device) -> Callable[[], float]:
    """Return a function that measures the bytes per second of all threads reading a buffer too large for caches."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    n_bytes = max(1, min(1 << 30, free // 4) >> 21) << 21  # whole pages
    if device.type == "cpu":
        buffer = huge_pages(n_bytes).view(torch.float32)
    else:
        buffer = torch.empty(n_bytes // 4, device=device)
    buffer.fill_(1)
    readers: list[Callable[[], object]] = [buffer.sum]
    if device.type == "cpu":
        try:
            read = native_loader.load("memory_bandwidth").read_all
            read.argtypes = (ctypes.c_void_p, ctypes.c_int64)
            readers.append(lambda: read(buffer.data_ptr(), n_bytes))
        except native_loader.UnavailableError:
            pass  # measure only with PyTorch's sum
    return lambda: n_bytes / min(_fastest_s(reader, device) for reader in readers)


def _fastest_s(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest of several tries."""
    times = []
    for _ in range(TRIES):
        synchronize(device)
        begin = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - begin)
    return min(times)


def check_dtype(dtype: str, device: torch.device) -> None:
    """Check that the processor multiplies in `dtype` itself. Raises: NotHereError.

    PyTorch emulates bfloat16 elsewhere, so slowly that nobody would choose it: one update of GPT-2 small takes an hour.
    """
    if dtype == "bfloat16" and device.type == "cpu" and not onednn_multiplies(torch.bfloat16):
        raise NotHereError("left out: this processor has no bfloat16, and PyTorch emulates it a hundred times slower")
