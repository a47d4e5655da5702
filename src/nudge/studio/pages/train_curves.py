"""Train: the chart of losses and learning rate, which grows in the browser."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from nudge.studio import charts
from nudge.studio.components import box, legend, text
from nudge.studio.runlog import RunLog
from nudge.studio.words import Words
from nudge.util import formatting

LEFT, RIGHT = 48, 24  # of the chart's grids; the scrubber below has the same
_TOOLTIP = """all => [all[0].axisValue.toLocaleString("en"), ...all.map((one) => {
  const value = one.value[1];
  return `${one.seriesName}  ${value == null ? "NaN" : +(+value).toPrecision(4)}`;
})].join("\\n")"""
_EXPONENT = "v => v === 0 ? '0' : v.toExponential(0).replace('+', '')"
_CROSS = "path://M1 0 5 4 9 0 10 1 6 5 10 9 9 10 5 6 1 10 0 9 4 5 0 1z"
N_SKIPPED = 400  # marks in the chart
LABEL_PX = 48  # half of a cursor's label


class LossChart:
    """Losses and learning rate over the updates, with a cursor. Only what changed since the last time is sent."""

    def __init__(self, t: Words) -> None:
        self.t = t
        self._sent: dict[str, Sequence[Any]] = {}
        self._options: dict[str, Any] = {}
        with box("ch"):
            text(t("train.loss_title"), "ct", tag="h2")
            self.note = text("", "s12 ink3")
            box("gr")
            legend(
                (t("train.smooth"), "var(--accent)", ""),
                (t("train.each"), "color-mix(in srgb,var(--accent) 40%,transparent)", ""),
                (t("train.tested"), "var(--blue)", "dot"),
                (t("train.skipped_mark"), "var(--bad)", "cross"),
                (t("train.guess"), "var(--ink3)", "dash"),
            )
        self.chart = charts.chart(_options(t), height=340, label=t("train.chart"))

    def show(self, log: RunLog, n_vocab: int | None, cursor: int | None, cursor_label: str) -> None:
        """Send what is new."""
        steps = max(1, log.started.steps if log.started else log.step)
        raw, smooth = log.loss.points(), log.loss.smooth()
        ln_v = math.log(n_vocab) if n_vocab else None
        series: dict[str, Sequence[Any]] = {
            "raw": raw,
            "smooth": [(step, value and round(value, 4)) for step, value in smooth],
            "validation": log.validation.points(),
            "skipped": _skipped_marks(log, ln_v),
            "guess": [(0, ln_v), (steps, ln_v)] if ln_v else [],
            "lr": log.lr.points(),
        }
        values = [value for _, value in raw if value is not None]
        options = _changing_options(steps, n_vocab, max(values, default=1.0), cursor, cursor_label)
        options["series"].append({"id": "validation", "symbolSize": 8 if len(log.evaluations) <= 40 else 5})
        self._send(series, options)
        self.note.text = self.t(
            "train.drawn", n=formatting.whole(len(log.loss.steps)), drawn=formatting.whole(len(raw))
        )

    def _send(self, series: Mapping[str, Sequence[Any]], options: dict[str, Any]) -> None:
        changes = []
        for name, points in series.items():
            before = self._sent.get(name, ())
            same = 0
            while same < min(len(before), len(points)) and before[same] == points[same]:
                same += 1
            if same < len(points) or same < len(before):
                changes.append([name, same, points[same:]])
        if changes or options != self._options:
            new_options = None if options == self._options else options
            said = json.dumps([self.chart.id, changes, new_options], allow_nan=False)
            self.chart.client.run_javascript(f"nudgeTrain.grow(...{said})")
        self._sent, self._options = dict(series), options


def _skipped_marks(log: RunLog, ln_v: float | None) -> list[tuple[int, float]]:
    """Where updates were skipped, as high as the loss was before: a NaN has no height of its own."""
    marks = []
    for step in list(log.skipped)[-N_SKIPPED:]:
        before = log.loss.before(step)
        marks.append((step, ln_v or 1.0 if before is None else before))
    return marks


def _options(t: Words) -> charts.Options:
    """What stays. No data: NiceGUI may set these options again, and would put it in the place of what has grown."""
    stroke, still, quiet = charts.stroke, charts.STILL, {**charts.STILL, "tooltip": charts.HIDDEN}
    filled = {"areaStyle": {"color": "var(--sunken)", "opacity": 1}, "xAxisIndex": 1, "yAxisIndex": 1}
    # Both grids begin and end where the scrubber does, whatever their labels need.
    grid = {"left": LEFT, "right": RIGHT, "outerBoundsMode": "none"}
    below = {"min": 0, "gridIndex": 1}
    return {
        "grid": [{**grid, "top": 32, "bottom": 96}, {**grid, "height": 36, "bottom": 28}],
        "tooltip": {
            "show": True,
            "trigger": "axis",
            "backgroundColor": "#1D1B18",
            "borderWidth": 0,
            "textStyle": {"color": "#fff", "fontSize": 12},
            ":formatter": _TOOLTIP,
        },
        "axisPointer": {"link": [{"xAxisIndex": "all"}]},
        "xAxis": [
            charts.axis(min=0, axisLabel=charts.HIDDEN, splitLine=charts.HIDDEN),
            charts.axis(**below, axisLabel={":formatter": "v => v.toLocaleString('en')"}, splitLine=charts.HIDDEN),
        ],
        "yAxis": [
            charts.axis(scale=True, splitNumber=4),
            charts.axis(**below, axisLabel={":formatter": _EXPONENT}, splitNumber=1),
        ],
        "series": [
            charts.line(stroke("var(--accent)", 1, opacity=0.4), id="raw", name=t("train.each"), **still),
            charts.line(stroke("var(--accent)", 2.25), id="smooth", name=t("train.smooth"), **quiet),
            charts.dots("var(--blue)", 8, rim=1.5, id="validation", name=t("train.tested")),
            charts.dots("var(--bad)", 10, id="skipped", name=t("train.skipped_mark"), z=6, symbol=_CROSS),
            # It is there so that the axis reaches to it; its mark is what is seen.
            charts.line({"opacity": 0}, id="guess", name=t("train.guess"), **quiet),
            charts.line(stroke("var(--ink3)", 1.25), id="lr", name=t("train.lr"), **still, **filled),
        ],
    }


def _changing_options(
    steps: int, n_vocab: int | None, highest: float, cursor: int | None, cursor_label: str
) -> charts.Options:
    """What changes along a run: how long it is, the label of the guess, where the cursor is."""
    ln_v = math.log(n_vocab) if n_vocab else None
    share = (cursor or 0) / steps
    # A spike of a run that breaks would press the rest of the curve flat: the axis ends at four random guesses.
    most = 4 * ln_v if ln_v and highest > 4 * ln_v else None
    place = [] if cursor is None else [{"xAxis": cursor}]
    solid = charts.stroke("var(--ink)", 1.25)
    away = LABEL_PX * (max(0.0, 0.06 - share) - max(0.0, share - 0.94)) / 0.06  # not over the edge
    tab = {"backgroundColor": "var(--ink)", "borderRadius": 6, "padding": [4, 8, 4, 8], "fontWeight": 600}
    where = charts.label(cursor_label, position="end", color="var(--surface)", distance=4, offset=[away, 0], **tab)
    side = "insideStartTop" if share > 0.75 else "insideEndTop"  # where the cursor is not
    guess = f"ln {formatting.whole(n_vocab)} = {formatting.fixed(ln_v)}" if n_vocab and ln_v else ""
    said = charts.label(guess, position=side, distance=4)
    return {
        "xAxis": [{"max": steps}, {"max": steps}],
        "yAxis": [{"max": most}, {}],
        "series": [
            {"id": "smooth", **charts.marks(place, solid, where)},
            {"id": "lr", **charts.marks(place, solid)},
            {"id": "guess", **charts.marks([{"yAxis": ln_v}] if ln_v else [], charts.DASHED, said)},
        ],
    }
