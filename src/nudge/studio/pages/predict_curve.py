"""Predict: the curve of all tokens of the vocabulary by rank."""

import math

from nudge.look import Prediction
from nudge.studio import charts
from nudge.studio.words import Words

N_POINTS = 400


def rank_curve(prediction: Prediction, selected: int, label: str, t: Words) -> charts.Options:
    """Return the options of the chart.

    It has only the points that are visibly apart on a logarithmic axis, which does not change the curve's shape.
    """
    by_rank = prediction.by_rank()
    size = len(by_rank)
    ranks = sorted({round(size ** (n / (N_POINTS - 1))) for n in range(N_POINTS)})
    lowest = 10.0 ** max(-12, math.floor(math.log10(max(by_rank[-1].item(), 1e-12))))
    here = [prediction.rank(selected), max(prediction.probability(selected), lowest)]
    side = "left" if here[0] > math.sqrt(size) else "right"
    options = charts.options("rank", t)
    options["xAxis"][0]["max"] = max(size, 2)
    options["yAxis"][0]["min"] = lowest
    every, uniform, below, chosen = options["series"]
    every["data"] = [[rank, max(by_rank[rank - 1].item(), lowest)] for rank in ranks]
    uniform["data"] = [[1, 1 / size], [size, 1 / size]]
    below["data"] = [[1, 1 / size]]
    below["label"] = charts.label(t("predict.uniform", n=size), position="right", offset=[0, 12])
    chosen["data"] = [here]
    chosen["label"] = charts.label(label, position=side, offset=[0, -2], fontFamily="var(--mono)")
    return options
