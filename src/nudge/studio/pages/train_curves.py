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

N_SKIPPED = 400  # marks in the chart
LABEL_PX = 48  # half of a cursor's label
_TAB = {"backgroundColor": "var(--ink)", "borderRadius": 6, "padding": [4, 8, 4, 8], "fontWeight": 600}


class LossChart:
    """Losses and learning rate over the updates, with a cursor. Only changes since the last time are sent."""

    def __init__(self, t: Words) -> None:
        self.t = t
        self._sent: dict[str, Sequence[Any]] = {}
        self._options: charts.Options = {}
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
        # Without data: NiceGUI may set these options again, and would replace the data that has grown.
        self.chart = charts.chart(charts.options("loss", t), height=340, label=t("train.chart"))

    def show(self, log: RunLog, n_vocab: int | None, cursor: int | None, cursor_label: str) -> None:
        """Send what is new."""
        steps = max(1, log.started.steps if log.started else log.step)
        raw = log.loss.points()
        guess = math.log(n_vocab) if n_vocab else None
        series: dict[str, Sequence[Any]] = {
            "raw": raw,
            "smooth": [(step, value and round(value, 4)) for step, value in log.loss.smooth()],
            "validation": log.validation.points(),
            "skipped": _skipped_marks(log, guess),
            "guess": [(0, guess), (steps, guess)] if guess else [],
            "lr": log.lr.points(),
        }
        # A spike would press the rest of the curve flat: the axis ends at four random guesses.
        highest = max((value for _, value in raw if value is not None), default=1.0)
        options = {
            "xAxis": [{"max": steps}, {"max": steps}],
            "yAxis": [{"max": 4 * guess if guess and highest > 4 * guess else None}, {}],
            "series": [
                *_marks(n_vocab, cursor, (cursor or 0) / steps, cursor_label),
                {"id": "validation", "symbolSize": 8 if len(log.evaluations) <= 40 else 5},
            ],
        }
        self._send(series, options)
        self.note.text = self.t("train.drawn", n=len(log.loss.steps), drawn=len(raw))

    def _send(self, series: Mapping[str, Sequence[Any]], options: charts.Options) -> None:
        changes = []
        for name, points in series.items():
            before = self._sent.get(name, ())
            same = 0
            while same < min(len(before), len(points)) and before[same] == points[same]:
                same += 1
            if same < len(points) or same < len(before):
                changes.append([name, same, points[same:]])
        new_options = None if options == self._options else options
        if changes or new_options:
            arguments = json.dumps([self.chart.id, changes, new_options], allow_nan=False)
            self.chart.client.run_javascript(f"nudgeTrain.grow(...{arguments})")
        self._sent, self._options = dict(series), options


def _skipped_marks(log: RunLog, guess: float | None) -> list[tuple[int, float]]:
    """Return a mark for each skipped update, at the height of the previous loss, because a NaN has no height."""
    marks = []
    for step in list(log.skipped)[-N_SKIPPED:]:
        before = log.loss.before(step)
        marks.append((step, guess or 1.0 if before is None else before))
    return marks


def _marks(n_vocab: int | None, cursor: int | None, share: float, cursor_label: str) -> list[charts.Options]:
    """Return the cursor, at `share` of the run, and the loss of a random guess."""
    place = [] if cursor is None else [{"xAxis": cursor}]
    inward = LABEL_PX * (max(0.0, 0.06 - share) - max(0.0, share - 0.94)) / 0.06  # keeps the label inside the chart
    tab = charts.label(cursor_label, position="end", color="var(--surface)", distance=4, offset=[inward, 0], **_TAB)
    height, guess = [], ""
    if n_vocab:
        height, guess = [{"yAxis": math.log(n_vocab)}], f"ln {n_vocab:,} = {formatting.fixed(math.log(n_vocab))}"
    side = "insideStartTop" if share > 0.75 else "insideEndTop"  # away from the cursor
    solid, dashed = {"color": "var(--ink)"}, {"color": "var(--ink3)", "type": [5, 4]}
    return [
        {"id": "smooth", **charts.marks(place, solid, tab)},
        {"id": "lr", **charts.marks(place, solid)},
        {"id": "guess", **charts.marks(height, dashed, charts.label(guess, position=side, distance=4))},
    ]
