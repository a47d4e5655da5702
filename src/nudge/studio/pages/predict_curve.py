"""Predict: the curve of all tokens of the vocabulary by rank."""

import math

from nudge.look import Prediction
from nudge.studio import charts
from nudge.studio.words import Words
from nudge.util.formatting import whole

N_POINTS = 400


def rank_curve(prediction: Prediction, selected: int, label: str, t: Words) -> charts.Options:
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
    side = "left" if here[0] > math.sqrt(size) else "right"
    beside = charts.label(label, position=side, offset=[0, -2], fontFamily="var(--mono)")
    below = charts.label(t("predict.uniform", n=whole(size)), position="right", offset=[0, 12])
    unseen = {"symbolSize": 1, "itemStyle": {"color": "transparent"}}
    return {
        "grid": {"left": 64, "right": 12, "top": 12, "bottom": 44},
        "xAxis": charts.axis(
            type="log",
            min=1,
            max=max(size, 2),
            name=t("predict.rank"),
            nameLocation="middle",
            nameGap=28,
            splitLine=charts.HIDDEN,
            axisLabel={"showMaxLabel": False, ":formatter": _IN_THOUSANDS},
        ),
        "yAxis": charts.axis(type="log", min=lowest, max=1, axisLabel={":formatter": _AS_PERCENT}),
        "series": [
            charts.line(charts.stroke("var(--blue)", 2), data=points),
            charts.line(charts.DASHED, data=[[1, uniform], [size, uniform]], silent=True),
            {"type": "scatter", "data": [[1, uniform]], "silent": True, **unseen, "label": below},
            charts.dots("var(--accent)", 11, rim=2, data=[here], label=beside),
        ],
    }


_IN_THOUSANDS = "v => v >= 1e6 ? v / 1e6 + 'M' : v >= 1000 ? v / 1000 + 'k' : v"
# 0.01 is 1%; far below, powers of ten.
_AS_PERCENT = (
    "v => { const e = Math.round(Math.log10(v)) + 2;"
    " return e >= 0 ? Math.pow(10, e) + '%' : e >= -3 ? '0.' + '0'.repeat(-e - 1) + '1%' : '1e\u2212' + -e + '%'; }"
)
