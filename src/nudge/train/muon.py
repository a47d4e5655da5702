"""Muon's heart."""

import torch
from torch import Tensor

MOMENTUM = 0.95


def scale(n_in: int, n_out: int) -> float:
    """AdamW's."""
    return 0.2 * max(n_in, n_out) ** 0.5


def orthogonalize(update: Tensor, steps: int = 5, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Newton-Schulz."""
    x = update.to(dtype)
    if transposed := x.size(-2) > x.size(-1):
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        b = torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, b, x, beta=3.4445)
    return x.mT if transposed else x
