"""The two smallest trainable networks: a line, and a neuron that answers yes or no. Plain Python, no torch.

A step changes their two or three parameters in the same way as the 124 million of a GPT-2.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """y = W*x + b, with the squared error as its loss."""

    W: float = 0.5
    b: float = 0.1

    def y(self, x: float) -> float:
        return self.W * x + self.b

    def loss(self, x: float, target: float) -> float:
        error = self.y(x) - target
        return error * error

    def step(self, x: float, target: float, lr: float) -> "Line":
        """Return the line after one step of gradient descent on this example."""
        slope = 2 * (self.y(x) - target)  # of the loss, by y
        return Line(W=self.W - lr * slope * x, b=self.b - lr * slope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logistic:
    """y = 1 / (1 + exp(-(w0*x1 + w1*x2 + w2))), the probability of "yes", with cross-entropy as its loss."""

    w0: float = 0.0
    w1: float = 0.0
    w2: float = 0.0

    def y(self, x1: float, x2: float) -> float:
        z = self.score(x1, x2)
        if z < 0:  # the same value, without an exp that overflows
            return math.exp(z) / (1 + math.exp(z))
        return 1 / (1 + math.exp(-z))

    def loss(self, x: tuple[float, float], target: int) -> float:
        """Return -ln of the probability of the target, 1 (yes) or 0 (no), in nats."""
        z = self.score(*x) if target else -self.score(*x)
        return max(-z, 0.0) + math.log1p(math.exp(-abs(z)))

    def step(self, x: tuple[float, float], target: int, lr: float) -> "Logistic":
        """Return the neuron after one step of gradient descent on this example."""
        slope = self.y(*x) - target  # of the loss, by the sum inside exp
        return Logistic(w0=self.w0 - lr * slope * x[0], w1=self.w1 - lr * slope * x[1], w2=self.w2 - lr * slope)

    def score(self, x1: float, x2: float) -> float:
        """Return the sum inside exp: above 0, "yes" is likelier."""
        return self.w0 * x1 + self.w1 * x2 + self.w2
