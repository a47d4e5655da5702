"""Weights: one parameter with its purpose, the distribution of its values, and a picture of them."""

import math
from dataclasses import dataclass

from nudge.look import Histogram, Parameter, Weights
from nudge.studio import charts
from nudge.studio.components import box, card, figure, image, refill, shape_of, text
from nudge.studio.pictures import Values, full_color, signs_png
from nudge.studio.visit import Visit
from nudge.studio.weight_files import WeightFiles
from nudge.studio.words import Words
from nudge.util import formatting

ROWS, COLUMNS = 64, 192  # of the picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A parameter's histogram, and a picture of its values, or of every n-th row and column of them."""

    histogram: Histogram
    picture: str
    full_color: float
    shape: tuple[int, int]  # of the picture
    strides: tuple[int, int]  # rows and columns of the parameter for one of the picture


def look(files: WeightFiles, name: str, parameter: str) -> Looked:
    """Read one parameter of a file. Raises: NudgeError's children."""
    tensor = files.open(name).tensor(parameter)
    table = tensor.reshape(-1, tensor.shape[-1]) if tensor.dim() > 1 else tensor.reshape(1, -1)
    rows, columns = (max(1, math.ceil(n / most)) for n, most in zip(table.shape, (ROWS, COLUMNS), strict=True))
    values: Values = table[::rows, ::columns].double().numpy()
    picture, full = color_values(values)
    histogram, strides = files.histogram(name, parameter), (rows, columns)
    return Looked(histogram=histogram, picture=picture, full_color=full, shape=values.shape, strides=strides)


def color_values(values: Values) -> tuple[str, float]:
    """Return a picture of values of both signs, and the size from which on a color is full."""
    full = full_color(values)
    return (signs_png(values, full) if values.size else ""), full


class ParameterCard:
    """The card of the parameter that is chosen in the tree."""

    def __init__(self, visit: Visit) -> None:
        self.visit, self.t = visit, visit.t
        with card(classes="parameter"):
            with box("ch"):
                self.title = text("", "ct mono cut", tag="h2")
                self.shape = text("", "s12 ink3 mono nw")
            self.what = text("", "s13 ink2")
            self.called = text("", "s12 ink3 mono anywhere")
            self.chart = charts.chart({}, height=152, label="")
            self.facts = box("figures", tag="dl")
            self.notes = box("notes-below")
            self.picture = box("values")

    async def show(self, name: str, weights: Weights, parameter: Parameter) -> None:
        """Show one parameter of a file."""
        looked = await self.visit.ask(look, self.visit.app.weight_files, name, parameter.name, key="parameter")
        t = self.t
        self.title.text = parameter.name
        self.title.props["title"] = parameter.name
        self.shape.text = f"{shape_of(parameter.shape)} · {parameter.dtype}"
        self.what.text = what_it_is(parameter, t)
        renamed = parameter.stored_as != parameter.name
        self.called.text = t("weights.called", name=parameter.stored_as) if renamed else ""
        self.called.set_visibility(renamed)
        self._show_histogram(looked.histogram)
        self._show_picture(looked, parameter)

    def _show_histogram(self, found: Histogram) -> None:
        t, written = self.t, formatting.significant
        self.chart.options.update(bars(found, t))
        self.chart.update()
        figures = {"mean": written(found.mean), "low": written(found.low), "high": written(found.high)}
        self.chart.props["aria-label"] = t("weights.histogram_of", name=found.name, **figures)
        values = {
            "mean": found.mean, "spread": found.std, "lowest": found.low, "highest": found.high, "norm": found.norm
        }  # fmt: skip
        with refill(self.facts):
            for key, value in values.items():
                figure(t(f"weights.{key}"), written(value), "figure num", title=repr(value))
        with refill(self.notes):
            text(t("weights.counted", n=found.n), "s12 ink3")
            if found.n_not_finite:
                text(t("weights.not_finite_note", n=found.n_not_finite, total=found.n), "s12 bad")

    def _show_picture(self, looked: Looked, parameter: Parameter) -> None:
        t = self.t
        with refill(self.picture):
            if not looked.picture:
                return
            height = max(26, min(128, 2 * looked.shape[0]))
            alt = t("weights.values_of", name=parameter.name)
            image(looked.picture, "strip", alt=alt, style=f"height:{height}px")
            colors = t("weights.colors", n=formatting.significant(looked.full_color, 2))
            text(f"{which(looked, parameter, t)} · {colors}", "s12 ink3")


def what_it_is(parameter: Parameter, t: Words) -> str:
    """Return a sentence about the purpose of the parameter."""
    shape, n = parameter.shape, parameter.n
    is_vector = parameter.kind.endswith(".bias") or parameter.kind.startswith("ln_")
    if parameter.kind != "other" and len(shape) != (1 if is_vector else 2):
        return t("weights.what.tensor", n=n)
    sizes = dict(zip(("rows", "columns"), shape, strict=True)) if len(shape) == 2 else {}
    return t(f"weights.what.{parameter.kind}", n=n, **sizes)


def which(looked: Looked, parameter: Parameter, t: Words) -> str:
    """Return a note on which values the picture shows."""
    rows, columns = looked.strides
    if rows == columns == 1:
        return t("weights.all_values", n=parameter.n)
    return t(
        "weights.sampled_values",
        rows=t("weights.row_in", n=rows) if rows > 1 else t("weights.each_row"),
        columns=t("weights.column_in", n=columns) if columns > 1 else t("weights.each_column"),
    )


def bars(found: Histogram, t: Words) -> charts.Options:
    """Return the options of the chart: one bar per bin, as high as it has values."""
    options = charts.options("histogram", t)
    options["xAxis"][0] |= {"min": found.edges[0], "max": found.edges[-1]}
    bins = zip(found.edges[:-1], found.edges[1:], found.counts, strict=True)
    options["series"][0]["data"] = [[(first + last) / 2, count, first, last] for first, last, count in bins]
    return options
