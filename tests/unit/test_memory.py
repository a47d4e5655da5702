import mmap

import pytest
import torch

from nudge.fast.huge_pages import HUGE_PAGE, huge_pages


@pytest.mark.parametrize("n_bytes", [0, 4, HUGE_PAGE, 3 * HUGE_PAGE + 64])
def test_memory_is_empty_and_one_s_own(n_bytes: int):
    memory, other = huge_pages(n_bytes), huge_pages(n_bytes)
    assert (memory.shape, memory.dtype) == ((n_bytes,), torch.uint8)
    assert memory.data_ptr() % mmap.PAGESIZE == 0
    memory.fill_(1)
    assert memory.sum() == n_bytes
    assert other.sum() == 0
    assert memory.view(torch.float32).numel() == n_bytes // 4


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system knows no advice about huge pages")
def test_a_system_without_huge_pages_gives_small_ones(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 12345)  # advice that this kernel does not know either
    with pytest.raises(OSError, match="Invalid argument"):
        mmap.mmap(-1, HUGE_PAGE).madvise(mmap.MADV_HUGEPAGE)
    assert huge_pages(HUGE_PAGE).fill_(1).sum() == HUGE_PAGE
