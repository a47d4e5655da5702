"""The two smallest networks."""

import math

import pytest
import torch

from nudge.look import Line, Logistic


def test_the_line_of_the_learning_material() -> None:
    line = Line()
    assert (line.W, line.b) == (0.5, 0.1)
    assert line.y(2) == pytest.approx(1.1)
    assert line.loss(2, 1.6) == pytest.approx(0.25)
    stepped = line.step(2, 1.6, lr=0.1)  # the slope is 2 * (1.1 - 1.6) = -1
    assert (stepped.W, stepped.b) == (pytest.approx(0.7), pytest.approx(0.2))
    assert stepped.loss(2, 1.6) < line.loss(2, 1.6)
    assert line.step(2, 1.6, lr=1).loss(2, 1.6) > line.loss(2, 1.6)  # past the valley


def test_the_logistic_steps_as_pytorch_says() -> None:
    neuron, x = Logistic(w0=2, w1=-3, w2=-3), (-1.0, -2.0)
    w = torch.tensor([neuron.w0, neuron.w1, neuron.w2], dtype=torch.float64, requires_grad=True)
    for target in (0, 1):
        z = w[0] * x[0] + w[1] * x[1] + w[2]
        assert neuron.score(*x) == z.item()
        assert neuron.y(*x) == pytest.approx(torch.sigmoid(z).item())
        loss = torch.nn.functional.binary_cross_entropy_with_logits(z, torch.tensor(float(target), dtype=z.dtype))
        assert neuron.loss(x, target) == pytest.approx(loss.item())
        (gradient,) = torch.autograd.grad(loss, w)
        stepped = neuron.step(x, target, lr=0.3)
        assert [stepped.w0, stepped.w1, stepped.w2] == pytest.approx((w - 0.3 * gradient).tolist())


@pytest.mark.parametrize("z", [-1e4, 1e4])
def test_the_logistic_far_out(z: float) -> None:
    neuron = Logistic(w2=z)
    assert neuron.y(0, 0) == (1 if z > 0 else 0)
    assert neuron.loss((0, 0), int(z < 0)) == 1e4
    assert math.isfinite(neuron.step((0, 0), 1, lr=1).w2)
