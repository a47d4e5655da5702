"""Muon against the singular value decomposition, and against PyTorch's own."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from nudge.fast import gram_steps
from nudge.optim import muon
from nudge.optim.muon import Muon, orthogonalize

SHAPES = [(16, 48), (16, 64), (64, 16), (16, 16)]
YES = torch.tensor(True)
# The iteration whose fixed point is 1 (Source: Higham 2008, chapter 8). After this many steps all singular values have
# converged.
TO_THE_END = 30 * ((1.875, -1.25, 0.375),)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_singular_values(shape: tuple[int, int], values: Sequence[float]) -> Tensor:
    U, _, Vh = torch.linalg.svd(random(*shape), full_matrices=False)
    return U @ torch.diag(torch.tensor(values)) @ Vh


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_directions_stay_and_sizes_become_one(shape: tuple[int, int], size: float) -> None:
    matrix = size * with_singular_values(shape, [2.0 ** (-i / 3) for i in range(16)])  # the smallest is 1/32
    U, _, Vh = torch.linalg.svd(matrix, full_matrices=False)
    sizes = U.T @ orthogonalize(matrix[None])[0] @ Vh.T
    assert ((sizes.diagonal() > 0.7) & (sizes.diagonal() < 1.3)).all()
    torch.testing.assert_close(sizes, sizes.diagonal().diag(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bfloat16_is_close_enough(shape: tuple[int, int]) -> None:
    matrix = random(3, *shape)
    exact, low = orthogonalize(matrix), orthogonalize(matrix, dtype=torch.bfloat16)
    assert low.dtype == torch.bfloat16
    assert (exact - low.float()).norm() / exact.norm() < 0.06
    assert torch.linalg.matrix_norm(low.float(), 2).max() < 1.4


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_matrix_in_a_stack_is_as_alone_and_the_other_layout_is_the_transpose(shape: tuple[int, int]) -> None:
    stack = random(3, *shape) * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    together = orthogonalize(stack)
    for one, expected in zip(stack, together, strict=True):
        torch.testing.assert_close(orthogonalize(one[None])[0], expected)
    torch.testing.assert_close(orthogonalize(stack.mT), together.mT)


@pytest.mark.parametrize("rank", [1, 9, 16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_steps_on_the_gram_matrix_are_the_same(shape: tuple[int, int], rank: int) -> None:
    stack = (
        random(3, shape[0], rank) @ random(3, rank, shape[1], seed=1) * torch.tensor([1e-6, 1.0, 1e6])[:, None, None]
    )
    fast = gram_steps.orthogonalize(stack, torch.float32)
    assert fast.is_contiguous()
    torch.testing.assert_close(fast, orthogonalize(stack), atol=2e-4, rtol=0)
    in_bfloat16 = gram_steps.orthogonalize(stack, torch.bfloat16)
    torch.testing.assert_close(in_bfloat16, orthogonalize(stack, dtype=torch.bfloat16), atol=0, rtol=0)


def test_nothing_stays_nothing() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert not orthogonalize(torch.zeros(2, 8, 4), dtype=dtype).any()


def train(shapes: Sequence[tuple[int, int]], n_steps: int, ours: bool, dtype: torch.dtype) -> list[Parameter]:
    parameters = [Parameter(random(*shape, seed=i)) for i, shape in enumerate(shapes)]
    a, b, c = TO_THE_END[0]
    if ours:
        optimizer = Muon(parameters, 0.1, dtype, TO_THE_END)
    else:
        reference = torch.optim.Muon(
            parameters, weight_decay=0.1, ns_coefficients=(a, b, c), ns_steps=30, adjust_lr_fn="match_rms_adamw"
        )
    for step in range(n_steps):
        lr = 0.1 / (step + 1)
        for i, parameter in enumerate(parameters):
            parameter.grad = random(*parameter.shape, seed=100 * step + i)
        if ours:
            optimizer.step(lr, YES)
        else:
            reference.param_groups[0]["lr"] = lr
            reference.step()
    return parameters


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_several_updates_are_those_of_pytorch(dtype: torch.dtype) -> None:
    """PyTorch's products are in bfloat16, so its updates are exact to about 1%."""
    shapes = [(16, 64), (16, 64), (64, 16), (16, 48), (16, 16), (16, 64)]
    for ours, reference in zip(train(shapes, 8, True, dtype), train(shapes, 8, False, dtype), strict=True):
        start = random(*ours.shape, seed=0)
        assert (ours - reference).norm() / (reference - start).norm() < 0.02


def test_three_steps_come_as_close_as_pytorchs_five() -> None:
    """Compare the directions of both with the polar factor that they approximate."""
    matrix = with_singular_values((64, 256), [1.05**-i for i in range(64)])
    U, _, Vh = torch.linalg.svd(matrix, full_matrices=False)
    cosines = [
        torch.nn.functional.cosine_similarity((U @ Vh).flatten(), orthogonalize(matrix[None], steps).flatten(), dim=0)
        for steps in (muon.STEPS, muon.JORDAN)
    ]
    assert min(cosines) > 0.97


def test_an_update_has_the_size_that_adamw_gives_it() -> None:
    """0.2 to 0.4 of the learning rate for each weight (Source: Liu et al. 2025, section 2.2)."""
    for shape in SHAPES:
        (parameter,) = parameters = [Parameter(torch.zeros(shape))]
        parameter.grad = random(*shape)
        Muon(parameters, 0.1, torch.float32).step(1.0, YES)
        assert 0.15 < parameter.detach().square().mean().sqrt() < 0.25


def test_stacks_hold_what_memory_should() -> None:
    large = [Parameter(torch.empty(2**10, 2**11, device="meta")) for _ in range(5)]
    small = [Parameter(torch.empty(4, 4, device="meta")) for _ in range(7)]
    stacks = Muon([*large, *small], 0.0, torch.float32).stacks
    assert [len(stack) for stack in stacks] == [2, 2, 1, 7]
    assert math.prod(large[0].shape) * 2 == muon.STACK_NUMBERS
