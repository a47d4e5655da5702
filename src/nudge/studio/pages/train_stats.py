"""Train: the current numbers of a run, each with a small curve of its history."""

import math
from collections.abc import Sequence

from nudge.studio.components import box, mark, shape, svg, text
from nudge.studio.runlog import Curve, Point, RunLog
from nudge.studio.words import Words
from nudge.util import formatting

N_SPARK = 20  # buckets
_WIDTH, _HEIGHT = 160, 24
_COLORS = {"loss": "var(--accent)", "validation": "var(--blue)", "speed": "var(--ink3)", "grad_norm": "var(--ink3)"}


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
            stats = [_Stat(t(f"train.{name}"), name, color) for name, color in _COLORS.items()]
        self.loss, self.validation, self.speed, self.grad_norm = stats

    def show(self, log: RunLog) -> None:
        """Show the newest values."""
        t, steps = self.t, log.started.steps if log.started else 0
        self.step.text = formatting.whole(log.step)
        self.of_steps.text = f"/ {formatting.whole(steps)}"
        self.done.style(f"width:{100 * min(1.0, log.step / steps) if steps else 0:.1f}%")
        self.loss.show(log.loss, t("train.nats"), drawn=log.loss.smooth())
        tested = t("train.at_step", step=log.validation.steps[-1]) if log.validation.steps else ""
        self.validation.show(log.validation, tested)
        self.speed.show(log.speed, t("train.per_s"), grouped=True)
        n_skipped = len(log.skipped)
        self.grad_norm.show(log.grad_norm, t("train.n_nan", n=n_skipped) if n_skipped else "")
        mark(self.grad_norm.unit, n_skipped > 0, "bad")


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

    def show(self, curve: Curve, unit: str, *, grouped: bool = False, drawn: Sequence[Point] | None = None) -> None:
        value = curve.last
        self.value.text = "–" if value is None else formatting.significant(value, 3, grouped=grouped)
        self.unit.text = unit
        mark(self.value, value is not None and not math.isfinite(value), "bad")
        path = _path(curve.fewer_points(N_SPARK) if drawn is None else drawn[:: max(1, len(drawn) // 80)])
        if self.line.props.get("d") != path:
            self.line.props["d"] = path


def _path(points: Sequence[Point]) -> str:
    """Return the points as a line that fills its place; it breaks where a value is not finite."""
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
