"""Train: the numbers of a run as they are now, each with a small curve of how it came to be."""

import math
from collections.abc import Sequence

from nudge.studio.components import box, mark, shape, svg, text
from nudge.studio.runlog import Curve, Point, RunLog
from nudge.studio.words import Words
from nudge.util import formatting

N_SPARK = 20  # buckets
_WIDTH, _HEIGHT = 160, 24


class Stats:
    """Step, losses, speed and gradient norm."""

    def __init__(self, t: Words) -> None:
        self.t = t
        with box("stats"):
            with box("stat"):
                text(t("train.step"), "eyebrow")
                with box("v"):
                    self.step = text("", tag="span", data_stat="step")
                    self.of_steps = text("", "u", tag="span")
                with box("bar", style="margin-top:16px"):
                    self.done = box(style="width:0;background:var(--accent)")
            self.loss = _Stat(t("train.loss"), "loss", "var(--accent)")
            self.validation = _Stat(t("train.validation"), "validation", "var(--blue)")
            self.speed = _Stat(t("train.speed"), "speed", "var(--ink3)")
            self.grad_norm = _Stat(t("train.grad_norm"), "grad_norm", "var(--ink3)")

    def show(self, log: RunLog) -> None:
        """The newest values."""
        t, steps = self.t, log.started.steps if log.started else 0
        self.step.text = formatting.whole(log.step)
        self.of_steps.text = f"/ {formatting.whole(steps)}"
        self.done.style(f"width:{100 * min(1.0, log.step / steps) if steps else 0:.1f}%")
        self.loss.show(log.loss, _three(log.loss.last), t("train.nats"), drawn=log.loss.smooth())
        tested = t("train.at_step", step=formatting.whole(log.validation.steps[-1])) if log.validation.steps else ""
        self.validation.show(log.validation, _three(log.validation.last), tested)
        speed = log.speed.last
        self.speed.show(
            log.speed, "–" if speed is None else formatting.significant(speed, 3, grouped=True), t("train.per_s")
        )
        n_skipped = len(log.skipped)
        unit = t("train.n_nan", n=formatting.whole(n_skipped)) if n_skipped else ""
        self.grad_norm.show(log.grad_norm, _three(log.grad_norm.last), unit)
        mark(self.grad_norm.unit, n_skipped > 0, "bad")


def _three(value: float | None) -> str:
    return "–" if value is None else formatting.significant(value, 3)


class _Stat:
    def __init__(self, label: str, name: str, color: str) -> None:
        with box("stat"):
            text(label, "eyebrow")
            with box("v"):
                self.value = text("–", tag="span", data_stat=name)
                self.unit = text("", "u", tag="span")
            with svg(_WIDTH, _HEIGHT, "spark") as drawing:
                drawing.props["preserveAspectRatio"] = "none"
                self.line = shape(
                    "path", fill="none", stroke=color, stroke_width=1.5, vector_effect="non-scaling-stroke"
                )

    def show(self, curve: Curve, value: str, unit: str, drawn: Sequence[Point] | None = None) -> None:
        self.value.text, self.unit.text = value, unit
        mark(self.value, curve.last is not None and not math.isfinite(curve.last), "bad")
        path = _path(curve.few(N_SPARK) if drawn is None else drawn[:: max(1, len(drawn) // 80)])
        if self.line.props.get("d") != path:
            self.line.props["d"] = path


def _path(points: Sequence[Point]) -> str:
    """The points as a line that fills its place; it breaks where a value is not finite."""
    values = [value for _, value in points if value is not None]
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    first, last = points[0][0], points[-1][0]
    parts, pen_down = [], False
    for step, value in points:
        if value is not None:
            x = (step - first) / (last - first) * _WIDTH
            y = _HEIGHT - 2 - (value - low) / ((high - low) or 1.0) * (_HEIGHT - 4)
            parts.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}")
        pen_down = value is not None
    return " ".join(parts)
