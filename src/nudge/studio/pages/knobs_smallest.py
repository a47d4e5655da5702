"""Knobs: the two smallest networks, with two or three parameters, and one training step of each."""

import math
from collections.abc import Callable

import numpy as np
from nicegui import ui
from nicegui.element import Element

from nudge.look import Line, Logistic
from nudge.studio import pictures
from nudge.studio.components import box, button, card, choice, image, named, pairs, shape, svg, text
from nudge.studio.dial import Dial
from nudge.studio.visit import Visit
from nudge.util import formatting

COLUMNS, ROWS = 56, 36  # of the picture of y over x1 and x2


def smallest_networks(visit: Visit) -> None:
    """Add the line of the learning material and the neuron of the lecture, side by side."""
    with box("grid same smallest"):
        LineCard(visit)
        NeuronCard(visit)


def _dial(name: str, turned: Callable[[], None], most: float, rest: float, step: float = 0.05) -> Dial:
    """Add a dial from -`most` to `most`."""
    return Dial(turned, name=name, label=name, min=-most, max=most, rest=rest, step=step, sign="")


def _slider(label: str, low: float, high: float, value: float, changed: Callable[[], None] | None = None) -> ui.slider:
    """Add a slider with its name before it and its value after it."""
    with box("sl"):
        text(label, "s13 ink2")
        slider = named(ui.slider(min=low, max=high, step=(high - low) / 40, value=value), label)
        shown = text(formatting.fixed(value), "s13 num right")

    def show() -> None:
        shown.text = formatting.fixed(float(slider.value))
        if changed:
            changed()

    slider.on_value_change(show)
    return slider


class LineCard:
    """y = W*x + b, and one step toward a target."""

    def __init__(self, visit: Visit) -> None:
        t, line = visit.t, Line()
        with card(t("knobs.line"), "y = W·x + b", "line-net"):
            with box("small-net"):
                with box("hs dials"):
                    self.W, self.b = (_dial(name, self.show, 2, getattr(line, name)) for name in ("W", "b"))
                with box("gr"):
                    self.x = _slider("x", -4, 4, 2.0, self.show)
                    self.target = _slider(t("knobs.target"), -4, 4, 2.0, self.show)
                    self.sum, self.y, self.loss = pairs(("W·x + b", ""), ("y", ""), (t("knobs.squared"), ""))
                with svg(8, 8, "plot"):
                    _axes()
                    self.error = shape("line", stroke="var(--ink3)", stroke_width=0.05, stroke_dasharray="0.12 0.1")
                    self.line = shape("line", stroke="var(--blue)", stroke_width=0.08)
                    self.wanted = shape("circle", r=0.17, fill="var(--surface)", stroke="var(--ink)", stroke_width=0.07)
                    self.point = shape("circle", r=0.17, fill="var(--accent)")
            with box("hs step"):
                button(t("knobs.step"), self.step, kind="prim")
                self.rate = _slider(t("knobs.rate"), 0.01, 0.25, 0.05)
            self.done = text("", "done s12 ink2 num", aria_live="polite")
        self.show()

    @property
    def network(self) -> Line:
        return Line(W=self.W.value, b=self.b.value)

    def step(self) -> None:
        x, target = float(self.x.value), float(self.target.value)
        before = self.network
        after = before.step(x, target, float(self.rate.value))
        if not math.isfinite(after.W + after.b):
            return
        self.W.set(after.W)
        self.b.set(after.b)
        self.show()
        self.done.text = _from_to("W", before.W, after.W) + " · " + _from_to("b", before.b, after.b)

    def show(self) -> None:
        network, x, target = self.network, float(self.x.value), float(self.target.value)
        y = network.y(x)
        values = [formatting.fixed(value) for value in (network.W, x, network.b)]
        self.sum.text = f"{values[0]} · {values[1]} + {values[2]}"
        self.y.text = formatting.fixed(y, 3)
        self.loss.text = formatting.significant(network.loss(x, target), 3)
        self.done.text = ""
        _place(self.line, x1=0, y1=4 - network.y(-4), x2=8, y2=4 - network.y(4))
        _place(self.error, x1=4 + x, y1=4 - y, x2=4 + x, y2=4 - target)
        _place(self.point, cx=4 + x, cy=4 - y)
        _place(self.wanted, cx=4 + x, cy=4 - target)


class NeuronCard:
    """y = 1 / (1 + exp(-(w0*x1 + w1*x2 + w2))) over a square of inputs, and one step toward yes or no."""

    def __init__(self, visit: Visit) -> None:
        t = visit.t
        start = {"w0": 3.0, "w1": -2.25, "w2": 0.75}
        self.target = 0
        with card(t("knobs.neuron"), "y = 1 / (1 + exp(−(w0·x1 + w1·x2 + w2)))"):
            with box("small-net"):
                with box("hs dials"):
                    self.dials = {name: _dial(name, self.show, 5, at, step=0.25) for name, at in start.items()}
                with box("gr"):
                    self.x1 = _slider("x1", -1, 1, 0.6, self.show)
                    self.x2 = _slider("x2", -1, 1, -0.2, self.show)
                    self.sum, self.y, self.loss = pairs((t("knobs.sum"), ""), ("y", ""), (t("knobs.loss"), ""))
                with box("map"):
                    with box("field"):
                        self.picture = image("", "px", alt=t("knobs.map"))
                        self.point = box("at")
                    with box("hs between"):
                        text("−1", "s11 ink3 num")
                        text("x1 →, x2 ↑", "s11 ink3")
                        text("1", "s11 ink3 num")
            with box("hs step"):
                button(t("knobs.step"), self.step, kind="prim")
                kinds = {"0": t("knobs.no"), "1": t("knobs.yes")}
                choice(kinds, "0", self.aim, label=t("knobs.target"))
                self.rate = _slider(t("knobs.rate"), 0.1, 4.1, 1.0)
            self.done = text("", "done s12 ink2 num", aria_live="polite")
        self.show()

    @property
    def network(self) -> Logistic:
        return Logistic(**{name: dial.value for name, dial in self.dials.items()})

    @property
    def inputs(self) -> tuple[float, float]:
        return float(self.x1.value), float(self.x2.value)

    def aim(self, target: str) -> None:
        self.target = int(target)
        self.show()

    def step(self) -> None:
        before, x = self.network, self.inputs
        after = before.step(x, self.target, float(self.rate.value))
        for name, dial in self.dials.items():
            dial.set(getattr(after, name))
        self.show()
        self.done.text = _from_to("y", before.y(*x), after.y(*x))

    def show(self) -> None:
        network, (x1, x2) = self.network, self.inputs
        self.sum.text = formatting.fixed(network.score(x1, x2), 3)
        self.y.text = formatting.fixed(network.y(x1, x2), 3)
        self.loss.text = formatting.significant(network.loss((x1, x2), self.target), 3)
        self.done.text = ""
        self.point.style(f"left:{50 * (1 + x1):.1f}%;top:{50 * (1 - x2):.1f}%")
        across = [-1 + 2 * column / (COLUMNS - 1) for column in range(COLUMNS)]
        down = [1 - 2 * row / (ROWS - 1) for row in range(ROWS)]
        values = np.array([[network.y(a, b) for a in across] for b in down])
        self.picture.props["src"] = pictures.sizes_png(values)


def _axes() -> None:
    for x1, y1, x2, y2 in ((0, 4, 8, 4), (4, 0, 4, 8)):
        shape("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke="var(--line2)", stroke_width=0.04)


def _place(element: Element, **places: float) -> None:
    for name, place in places.items():
        element.props[name] = round(min(1e4, max(-1e4, place)), 3)


def _from_to(name: str, before: float, after: float) -> str:
    return f"{name} {formatting.fixed(before, 3)} → {formatting.fixed(after, 3)}"
