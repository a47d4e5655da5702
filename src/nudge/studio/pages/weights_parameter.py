"""Weights: one parameter, how its values are spread, and what it looks like."""

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nudge.look import Histogram, Parameter, Weights
from nudge.studio import charts, numbers
from nudge.studio.kit import box, image, text
from nudge.studio.pictures import signs_png

if TYPE_CHECKING:
    from nudge.studio.pages.weights import WeightsPage

ROWS, COLUMNS = 96, 160  # of the picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the card shows of a parameter: numbers over all its values, and every n-th of them as a picture."""

    histogram: Histogram
    values: npt.NDArray[np.float32]  # [<= ROWS, <= COLUMNS]
    row_stride: int
    column_stride: int


def look_at(opened: Weights, name: str) -> Seen:
    """Load one tensor, and no other. Raises: CheckpointError."""
    tensor = opened.tensor(name).float()
    table = tensor.reshape(-1, tensor.shape[-1]) if tensor.dim() > 1 else tensor.reshape(1, -1)
    strides = math.ceil(table.shape[0] / ROWS), math.ceil(table.shape[1] / COLUMNS)
    return Seen(
        histogram=opened.histogram(name),
        values=table[:: strides[0], :: strides[1]].numpy(),
        row_stride=strides[0],
        column_stride=strides[1],
    )


class ParameterCard:
    """Name and shape, role, histogram, numbers, picture."""

    def __init__(self, page: "WeightsPage") -> None:
        self.page, self.t = page, page.t
        self.place = box("card parameter", tag="section")

    async def show(self, parameter: Parameter) -> None:
        seen = await self.page.visit.ask(look_at, self.page.opened, parameter.name, key="parameter")
        t, histogram = self.t, seen.histogram
        self.place.clear()
        with self.place:
            with box("ch"):
                text(parameter.name, "ct mono cut", tag="h2", title=parameter.name)
                text(f"[{', '.join(map(str, parameter.shape))}]", "s12 ink3 mono nw")
            key = f"weights.role.{parameter.kind}"
            text(t(key) if t.has(key) else parameter.role, "s13 ink2", style="margin:-8px 0 0")
            if len(parameter.shape) == 2:
                rows, columns = (numbers.whole(n) for n in parameter.shape)
                text(t("weights.row_is_vector", rows=rows, columns=columns), "s13 ink2")
            charts.chart(_bars(histogram), height=152, label=t("weights.histogram", name=parameter.name))
            with box("figures"):
                for name in ("mean", "std", "low", "high", "norm"):
                    with box():
                        text(t(f"weights.{name}"), "s12 ink3")
                        text(numbers.significant(getattr(histogram, name)), "num m")
            n = numbers.count(histogram.n, t.language)
            text(t("weights.counted_over", n=n), "s12 ink3", style="margin-top:12px")
            if histogram.n_not_finite:
                text(t("weights.not_finite", n=numbers.whole(histogram.n_not_finite)), "tag bad")
            image(signs_png(seen.values), "px table", alt=t("weights.picture", name=parameter.name))
            strides = {"rows": seen.row_stride, "columns": seen.column_stride}
            text(t("weights.every" if max(strides.values()) > 1 else "weights.all_values", **strides), "s12 ink3")


def _bars(histogram: Histogram) -> dict[str, Any]:
    edges, counts = histogram.edges, histogram.counts
    middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    low, high = (edges[0], edges[-1]) if edges else (0.0, 1.0)
    return {
        "grid": {"left": 8, "right": 8, "top": 4, "bottom": 24},
        "xAxis": charts.axis(
            type="value",
            min=low,
            max=high if high > low else low + 1,
            splitNumber=4,
            splitLine={"show": False},
            axisLabel={":formatter": _SHORT, "alignMinLabel": "left", "alignMaxLabel": "right"},
        ),
        "yAxis": charts.axis(type="value", show=False),
        "series": [
            {
                "type": "bar",
                "data": [[middle, count] for middle, count in zip(middles, counts, strict=True)],
                "barWidth": 5,
                "itemStyle": {"color": "var(--blue)", "borderRadius": [2, 2, 0, 0]},
            }
        ],
    }


_SHORT = "v => v === 0 ? '0' : String(Number(v.toPrecision(2))).replace('-', '\\u2212')"
