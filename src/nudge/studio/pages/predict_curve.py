"""Predict: the curve of all tokens of the vocabulary by rank."""

import math
from typing import Any

from nudge.look import Prediction
from nudge.studio import charts
from nudge.studio.words import Words
from nudge.util.formatting import whole

N_POINTS = 400


def rank_curve(prediction: Prediction, selected: int, label: str, t: Words) -> dict[str, Any]:
    """The options of the chart: probability over rank, both logarithmic, through every token of the vocabulary.

    Of V points those are drawn that a logarithmic axis can tell apart; the shape loses nothing.
    """
    by_rank = prediction.by_rank()
    size = len(by_rank)
    ranks = sorted({round(size ** (n / (N_POINTS - 1))) for n in range(N_POINTS)})
    lowest = 10.0 ** max(-12, math.floor(math.log10(max(by_rank[-1].item(), 1e-12))))
    points = [[rank, max(by_rank[rank - 1].item(), lowest)] for rank in ranks]
    here = [prediction.rank(selected), max(prediction.probability(selected), lowest)]
    uniform = 1 / size
    near_right = here[0] > math.sqrt(size)
    return {
        "grid": {"left": 64, "right": 12, "top": 12, "bottom": 44},
        "xAxis": charts.axis(
            type="log",
            min=1,
            max=max(size, 2),
            name=t("predict.rank"),
            nameLocation="middle",
            nameGap=28,
            splitLine={"show": False},
            axisLabel={
                "showMaxLabel": False,
                ":formatter": "v => v >= 1e6 ? v / 1e6 + 'M' : v >= 1000 ? v / 1000 + 'k' : v",
            },
        ),
        "yAxis": charts.axis(type="log", min=lowest, max=1, axisLabel={":formatter": _AS_PERCENT}),
        "series": [
            {"type": "line", "data": points, "showSymbol": False, "lineStyle": {"color": "var(--blue)", "width": 2}},
            {
                "type": "line",
                "data": [[1, uniform], [size, uniform]],
                "showSymbol": False,
                "silent": True,
                "lineStyle": {"color": "var(--ink3)", "type": [5, 4], "width": 1.25},
            },
            {
                "type": "scatter",
                "data": [[1, uniform]],
                "symbolSize": 1,
                "silent": True,
                "itemStyle": {"color": "transparent"},
                "label": _label(t("predict.uniform", n=whole(size)), "right", offset=[0, 12], mono=False),
            },
            {
                "type": "scatter",
                "z": 5,
                "data": [here],
                "symbolSize": 11,
                "itemStyle": {
                    "opacity": 1,
                    "color": "var(--accent)",
                    "borderColor": "var(--surface)",
                    "borderWidth": 2,
                },
                "label": _label(label, "left" if near_right else "right", offset=[0, -2], mono=True),
            },
        ],
    }


# 0.01 is 1%; far below, powers of ten.
_AS_PERCENT = (
    "v => { const e = Math.round(Math.log10(v)) + 2;"
    " return e >= 0 ? Math.pow(10, e) + '%' : e >= -3 ? '0.' + '0'.repeat(-e - 1) + '1%' : '1e\u2212' + -e + '%'; }"
)


def _label(content: str, position: str, *, offset: list[int], mono: bool) -> dict[str, Any]:
    """A label in a chart. Its text is taken as it is: braces would begin a template of ECharts'."""
    return {
        "show": True,
        "formatter": content.replace("{", "\uff5b").replace("}", "\uff5d"),
        "position": position,
        "offset": offset,
        "color": "var(--ink2)",
        "fontSize": 12,
        "fontFamily": "var(--mono)" if mono else charts.SANS,
    }
