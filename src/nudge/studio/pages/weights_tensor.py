"""Weights: one parameter: what it is, how its values are distributed, and the values as a picture."""

import math
from dataclasses import dataclass

from nudge.look import Histogram, Parameter, Weights
from nudge.studio import charts
from nudge.studio.components import box, card, image, refill, shape_of, text
from nudge.studio.pictures import Values, full_colour, signs_png
from nudge.studio.visit import Visit
from nudge.studio.weight_files import WeightFiles
from nudge.studio.words import Words
from nudge.util import formatting

ROWS, COLUMNS = 64, 192  # of the picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What is shown of a parameter: its histogram, and every so many rows and columns as a picture."""

    histogram: Histogram
    picture: str
    full_colour: float
    row_stride: int
    column_stride: int
    n_rows: int  # of the picture


def look(files: WeightFiles, name: str, parameter: str) -> Looked:
    """Read one parameter of a file. Raises: CheckpointError."""
    tensor = files.open(name).tensor(parameter)
    table = tensor.reshape(-1, tensor.shape[-1]) if tensor.dim() > 1 else tensor.reshape(1, -1)
    strides = [max(1, math.ceil(n / most)) for n, most in zip(table.shape, (ROWS, COLUMNS), strict=True)]
    values: Values = table[:: strides[0], :: strides[1]].double().numpy()
    picture, full_colour = coloured(values)
    return Looked(
        histogram=files.histogram(name, parameter),
        picture=picture,
        full_colour=full_colour,
        row_stride=strides[0],
        column_stride=strides[1],
        n_rows=len(values),
    )


def coloured(values: Values) -> tuple[str, float]:
    """A picture of values of both signs, and the size from which on a colour is full."""
    full = full_colour(values)
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
            self.chart = charts.chart({"tooltip": _TOOLTIP}, height=152, label="")
            self.facts = box("figures", tag="dl")
            self.notes = box("notes-below")
            self.picture = box("values")

    async def show(self, name: str, weights: Weights, parameter: Parameter) -> None:
        """Look at one parameter of a file."""
        looked = await self.visit.ask(look, self.visit.house.weight_files, name, parameter.name, key="parameter")
        t, found = self.t, looked.histogram
        self.title.text = parameter.name
        self.title.props["title"] = parameter.name
        self.shape.text = f"{shape_of(parameter.shape)} · {parameter.dtype}"
        self.what.text = what_it_is(parameter, t)
        renamed = parameter.stored_as != parameter.name
        self.called.text = t("weights.called", name=parameter.stored_as) if renamed else ""
        self.called.set_visibility(renamed)
        self._show_histogram(found)
        self._show_picture(looked, parameter)

    def _show_histogram(self, found: Histogram) -> None:
        t, written = self.t, formatting.significant
        self.chart.options.update(bars(found))
        self.chart.update()
        figures = {"mean": written(found.mean), "low": written(found.low), "high": written(found.high)}
        self.chart.props["aria-label"] = t("weights.histogram_of", name=found.name, **figures)
        with refill(self.facts):
            for key, value in (
                ("mean", found.mean),
                ("spread", found.std),
                ("lowest", found.low),
                ("highest", found.high),
                ("norm", found.norm),
            ):
                with box():
                    text(t(f"weights.{key}"), "s12 ink3", tag="dt")
                    text(written(value), "figure num", tag="dd", title=repr(value))
        n = formatting.whole(found.n)
        with refill(self.notes):
            text(t("weights.counted", n=n), "s12 ink3")
            if found.n_not_finite:
                text(t("weights.not_finite_note", n=formatting.whole(found.n_not_finite), total=n), "s12 bad")

    def _show_picture(self, looked: Looked, parameter: Parameter) -> None:
        t = self.t
        with refill(self.picture):
            if not looked.picture:
                return
            height = max(26, min(128, 2 * looked.n_rows))
            alt = t("weights.values_of", name=parameter.name)
            image(looked.picture, "strip", alt=alt, style=f"height:{height}px")
            colours = t("weights.colours", n=formatting.significant(looked.full_colour, 2))
            text(f"{which(looked, parameter, t)} · {colours}", "s12 ink3")


def what_it_is(parameter: Parameter, t: Words) -> str:
    """A sentence about what its numbers do."""
    shape, n = parameter.shape, formatting.whole(parameter.n)
    is_vector = parameter.kind.endswith(".bias") or parameter.kind.startswith("ln_")
    if parameter.kind != "other" and len(shape) != (1 if is_vector else 2):
        return t("weights.what.tensor", n=n)
    if len(shape) == 2:
        rows, columns = map(formatting.whole, shape)
        return t(f"weights.what.{parameter.kind}", n=n, rows=rows, columns=columns)
    return t(f"weights.what.{parameter.kind}", n=n)


def which(looked: Looked, parameter: Parameter, t: Words) -> str:
    """What of the values the picture shows."""
    if looked.row_stride == looked.column_stride == 1:
        return t("weights.all_values", n=formatting.whole(parameter.n))
    rows, columns = looked.row_stride, looked.column_stride
    return t(
        "weights.sampled_values",
        rows=t("weights.row_in", n=formatting.whole(rows)) if rows > 1 else t("weights.each_row"),
        columns=t("weights.column_in", n=formatting.whole(columns)) if columns > 1 else t("weights.each_column"),
    )


_WRITTEN = "v => String(+Number(v).toPrecision(2)).replace('-', '−')"
_BIN = (  # -0.12 … -0.10, and how many values
    "p => [2, 3].map(at => p[0].data[at].toPrecision(3).replace('-', '−')).join(' … ')"
    " + '\\n' + p[0].data[1].toLocaleString('en')"
)
_TOOLTIP = {"show": True, "trigger": "axis", "axisPointer": {"type": "none"}, ":formatter": _BIN}


def bars(found: Histogram) -> charts.Options:
    """The options of the chart: one bar per bin, as high as the values in it are many."""
    low, high = found.edges[0], found.edges[-1]
    data = [
        [(first + last) / 2, count, first, last]
        for first, last, count in zip(found.edges[:-1], found.edges[1:], found.counts, strict=True)
    ]
    labels = {":formatter": _WRITTEN, "showMinLabel": False, "showMaxLabel": False}
    bars = {"type": "bar", "barCategoryGap": "20%", "barMinWidth": 2, **charts.PLAIN}
    return {
        "grid": {"left": 8, "right": 8, "top": 8, "bottom": 24},
        "xAxis": charts.axis(min=low, max=high, splitNumber=4, splitLine=charts.HIDDEN, axisLabel=labels),
        "yAxis": charts.axis(show=False),
        "series": [{**bars, "data": data, "itemStyle": {"color": "var(--blue)", "borderRadius": [2, 2, 0, 0]}}],
    }
