"""Each C kernel against its PyTorch expression, at sizes that do not fill vector registers."""

import functools
import math
import tempfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.emulated.machine import PROCESSORS, EmulatedKernels
from torch import Tensor

from nudge.fast import native_loader
from nudge.fast.kernels import Kernels
from nudge.fast.native_loader import UnavailableError

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 1e-2}
SIZES = [(1, 1), (7, 5), (33, 48), (64, 257)]  # rows, columns


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def compute_dtype(request: pytest.FixtureRequest) -> torch.dtype:
    dtype: torch.dtype = request.param
    return dtype


@pytest.fixture(params=["1 thread", "2 threads", "4 threads", "serial", pytest.param("Arm", marks=pytest.mark.slow)])
def kernels(
    request: pytest.FixtureRequest, compute_dtype: torch.dtype, common: Path, monkeypatch: pytest.MonkeyPatch
) -> Kernels | EmulatedKernels:
    """The kernels as they are compiled here, without OpenMP, and for an emulated Arm processor."""
    if request.param == "Arm":
        kernels: Kernels | EmulatedKernels = emulated_kernels(compute_dtype, common)
        kernels.use_threads(2)
        return kernels
    if request.param == "serial":
        monkeypatch.setattr(native_loader, "OPENMP", native_loader.NO_OPENMP)
        monkeypatch.setattr(native_loader, "load", native_loader.load.__wrapped__)
    try:
        kernels = Kernels(compute_dtype)
    except UnavailableError as obstacle:
        pytest.skip(str(obstacle))
    assert kernels.is_serial == (request.param == "serial")
    kernels.use_threads(4 if kernels.is_serial else int(request.param[0]))
    return kernels


@functools.cache
def emulated_kernels(compute_dtype: torch.dtype, common: Path) -> EmulatedKernels:
    return EmulatedKernels(PROCESSORS[-1], compute_dtype, Path(tempfile.mkdtemp(dir=common)))


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def partial(columns: int) -> Tensor:
    return torch.full((4 * columns,), math.nan)  # the old content must not matter


def poison(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.full(shape, math.nan, dtype=dtype)  # so that a number that a kernel forgets to write is noticed


def assert_close(got: Tensor, expected: Tensor) -> None:
    distance = (got.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-6)
    assert distance < TOLERANCE[got.dtype], distance


@pytest.mark.parametrize(("N", "C"), SIZES)
def test_residual_norm(kernels: Kernels, compute_dtype: torch.dtype, N: int, C: int) -> None:
    x, add, add_bias, weight, bias = draw(N, C), draw(N, C).to(compute_dtype), draw(C), draw(C) + 1, draw(C)
    total, y, mean, rstd = poison(N, C), poison(N, C, dtype=compute_dtype), poison(N), poison(N)
    kernels.residual_norm(N, C, x, add, add_bias, weight, bias, total, y, mean, rstd)
    expected = x + add.float() + add_bias
    assert_close(total, expected)
    assert_close(y, F.layer_norm(expected, (C,), weight, bias))
    assert_close(mean, expected.mean(1))
    kernels.residual_norm(N, C, x, None, None, weight, bias, None, y, mean, rstd)
    assert_close(y, F.layer_norm(x, (C,), weight, bias))


@pytest.mark.parametrize(("N", "C"), SIZES[1:])
def test_norm_backward(kernels: Kernels, compute_dtype: torch.dtype, N: int, C: int) -> None:
    x, weight, bias = draw(N, C).requires_grad_(), (draw(C) + 1).requires_grad_(), draw(C).requires_grad_()
    y, mean, rstd = poison(N, C, dtype=compute_dtype), poison(N), poison(N)
    kernels.residual_norm(N, C, x.detach(), None, None, weight.detach(), bias.detach(), None, y, mean, rstd)
    dy, before = draw(N, C).flip(0).contiguous().to(compute_dtype), draw(N, C)
    F.layer_norm(x, (C,), weight, bias).backward(dy.float())
    dx, dx_rounded = before.clone(), poison(N, C, dtype=compute_dtype)
    dweight, dbias, dx_sum = (poison(C, dtype=compute_dtype) for _ in range(3))
    kernels.norm_backward(
        N, C, dy, x.detach(), mean, rstd, weight.detach(), dx, dx_rounded, dweight, dbias, dx_sum, partial(3 * C)
    )
    assert x.grad is not None
    assert weight.grad is not None
    assert bias.grad is not None
    assert (dx - (before + x.grad)).norm() / x.grad.norm() < 1e-5
    assert torch.equal(dx_rounded, dx.to(compute_dtype))  # rounded as PyTorch rounds
    assert_close(dweight, weight.grad)
    assert_close(dbias, bias.grad)
    assert_close(dx_sum, dx.sum(0))


@pytest.mark.parametrize("parts", [1, 3])
def test_heads_are_split_and_merged(kernels: Kernels, compute_dtype: torch.dtype, parts: int) -> None:
    B, T, H, K = 3, 5, 2, 7
    C = parts * H * K
    merged, bias = draw(B * T, C).to(compute_dtype), draw(C)
    split = poison(parts, B, H, T, K, dtype=compute_dtype)
    kernels.split_heads(B, T, parts, H, K, merged, bias, split)
    with_bias = merged.float() + bias
    assert_close(split, with_bias.view(B, T, parts, H, K).permute(2, 0, 3, 1, 4))
    kernels.split_heads(B, T, parts, H, K, merged, None, split)
    back, sums = poison(B * T, C, dtype=compute_dtype), poison(C, dtype=compute_dtype)
    kernels.merge_heads(B, T, parts, H, K, split, back, sums, partial(C))
    assert torch.equal(back, merged)
    assert_close(sums, merged.float().sum(0))


@pytest.mark.parametrize("T", [1, 5, 16, 67])
@pytest.mark.parametrize("before", [0, 3])
def test_causal_softmax_and_back(kernels: Kernels, compute_dtype: torch.dtype, T: int, before: int) -> None:
    scores = (3 * draw(4, T, before + T)).to(compute_dtype)
    x = scores.float().requires_grad_()
    later = torch.ones(T, before + T, dtype=torch.bool).triu(before + 1)
    expected = (0.3 * x).masked_fill(later, -math.inf).softmax(-1)
    probs = scores.clone()
    kernels.softmax(4, T, before + T, before, 0.3, probs)
    assert_close(probs, expected.detach())
    assert (probs[:, later] == 0).all()
    grad = draw(4, T, before + T).flip(0).contiguous().to(compute_dtype)
    expected.backward(grad.float())
    assert x.grad is not None
    dscores = grad.clone()
    kernels.softmax_backward(4, T, before + T, before, 0.3, probs, dscores)
    assert (dscores.float() - x.grad).norm() <= 3 * TOLERANCE[compute_dtype] * x.grad.norm() + 1e-6
    assert (dscores[:, later] == 0).all()


@pytest.mark.parametrize(("N", "C"), SIZES)
def test_gelu_and_back(kernels: Kernels, compute_dtype: torch.dtype, N: int, C: int) -> None:
    x, bias = (4 * draw(N, C)).to(compute_dtype), draw(C)
    with_bias = (x.float() + bias).to(compute_dtype).float().requires_grad_()
    expected = F.gelu(with_bias, approximate="tanh")
    mlp_pre, mlp_act = x.clone(), poison(N, C, dtype=compute_dtype)
    kernels.gelu(N, C, mlp_pre, bias, mlp_act)
    assert torch.equal(mlp_pre, with_bias.detach().to(compute_dtype))
    assert_close(mlp_act, expected.detach())
    grad = draw(N, C).to(compute_dtype)
    expected.backward(grad.float())
    assert with_bias.grad is not None
    sums = poison(C, dtype=compute_dtype)
    kernels.gelu_backward(N, C, mlp_pre, grad, sums, partial(C))
    assert_close(grad, with_bias.grad)
    assert (sums.float() - with_bias.grad.sum(0)).norm() <= 2 * TOLERANCE[compute_dtype] * with_bias.grad.norm()


@pytest.mark.parametrize("V", [3, 65, 257])
def test_cross_entropy_leaves_the_gradient_in_place_of_the_logits(
    kernels: Kernels, compute_dtype: torch.dtype, V: int
) -> None:
    N, stride = 9, V + 7
    beyond = torch.full((N, 7), 1e4)  # columns beyond the vocabulary are ignored
    logits = torch.cat([3 * draw(N, V), beyond], 1).to(compute_dtype)
    targets = torch.arange(N) % V
    targets[4] = -1
    x = logits[:, :V].float().requires_grad_()
    expected = F.cross_entropy(x, targets, ignore_index=-1, reduction="none")
    (0.25 * expected.sum()).backward()
    losses = poison(N)
    kernels.cross_entropy(N, V, stride, logits, targets, 0.25, losses)
    assert_close(losses, expected.detach())
    assert x.grad is not None
    assert_close(logits[:, :V], x.grad)
    assert (logits[:, V:] == 0).all()


@pytest.mark.parametrize("extreme", [1e4, -1e4, math.inf, math.nan])
def test_extreme_logits(kernels: Kernels, compute_dtype: torch.dtype, extreme: float) -> None:
    logits = draw(1, 40).to(compute_dtype)
    logits[0, 3] = extreme
    expected = F.cross_entropy(logits.float(), torch.tensor([5]))
    loss = poison(1)
    kernels.cross_entropy(1, 40, 40, logits, torch.tensor([5]), 1.0, loss)
    assert math.isfinite(loss) == math.isfinite(expected)
    if math.isfinite(expected):
        assert_close(loss, expected[None])


def test_embedding_backward_adds_in_float(kernels: Kernels, compute_dtype: torch.dtype) -> None:
    N, C, V = 600, 5, 4
    tokens = torch.arange(N) % 3  # token 3 does not occur
    dx, before = draw(N, C), draw(V, C).to(compute_dtype)
    expected = before.float().index_add(0, tokens, dx)
    dweight = before.clone()
    kernels.embedding_backward(N, C, tokens, tokens.argsort(stable=True), dx, dweight)
    assert_close(dweight, expected)
    assert torch.equal(dweight[3], before[3])


@pytest.mark.parametrize("n", [1, 100, 9999])
def test_length_of_the_gradient(kernels: Kernels, compute_dtype: torch.dtype, n: int) -> None:
    grad, earlier = draw(n).to(compute_dtype), draw(n)
    assert kernels.sum_of_squares(n, grad, None) == pytest.approx(grad.double().square().sum().item(), rel=1e-6)
    together = (grad.double() + earlier).square().sum().item()
    assert kernels.sum_of_squares(n, grad, earlier) == pytest.approx(together, rel=1e-5)
    grad[n // 2] = math.inf
    assert math.isinf(kernels.sum_of_squares(n, grad, None))


def test_rounding_is_that_of_pytorch(kernels: Kernels, compute_dtype: torch.dtype) -> None:
    values = torch.cat([draw(1000), torch.tensor([0.0, -0.0, 1e-40, 3e38, -3.4e38, math.inf, -math.inf, math.nan])])
    n = len(values)
    weight, copy = values.clone(), poison(n, dtype=compute_dtype)
    kernels.step(n, weight, torch.zeros(n, dtype=compute_dtype), copy, 0.0, 1.0)
    assert torch.equal(copy.nan_to_num(7.0), values.to(compute_dtype).nan_to_num(7.0))
