"""Train: the log, one line per update, the newest first."""

import json
import math
from collections.abc import Iterator

from nudge.events import Evaluation, Event, Sample, Saved, Skipped, Started, Step, Stopped
from nudge.studio.components import box, card, text
from nudge.studio.runlog import N_ROWS, Row, RunLog
from nudge.studio.words import Words
from nudge.util import formatting

Cell = tuple[str, str]  # text, classes
_COLUMNS = ("step_short", "loss_short", "change", "norm_short", "lr_short", "per_s")


class Rows:
    """The card of the log; the browser adds new lines to those that are there."""

    def __init__(self, t: Words, path: str) -> None:
        self.t = t
        self._epoch = self._version = -1
        updates, note = t("train.updates"), t("train.updates_note", path=path, n=N_ROWS)
        with card(updates, note):
            self.table = box("log updates", role="table", aria_label=updates, tabindex=0)
        with self.table, box("names", role="row"):
            for number, name in enumerate(_COLUMNS):
                text(t(f"train.{name}"), "h right" if number else "h", role="columnheader")
            text("", "h", role="columnheader", aria_label=t("train.events"))

    def show(self, log: RunLog) -> None:
        """Send the lines that are new or changed."""
        fresh = log.epoch != self._epoch
        seen = -1 if fresh else self._version
        rows = [row for row in list(log.rows) if row.version > seen]
        self._epoch, self._version = log.epoch, log.version
        if rows or fresh:
            lines = [[row.step, _cells(row), list(self._tags(row))] for row in rows]
            arguments = json.dumps([self.table.id, lines, N_ROWS, fresh])
            self.table.client.run_javascript(f"nudgeTrain.log(...{arguments})")

    def _tags(self, row: Row) -> Iterator[Cell]:
        if isinstance(row.update, Skipped):
            what = "skipped_grad" if math.isfinite(row.update.loss) else "skipped_loss"
            yield self.t(f"train.{what}"), "bad"
        for event in row.others:
            if tag := self._tag(event):
                yield tag

    def _tag(self, event: Event) -> Cell | None:
        t = self.t
        match event:
            case Started(resumed_from=str(name)):
                return t("train.resumed_tag", file=name.partition(" ")[0]), "a"
            case Started():
                return t("train.started_tag"), ""
            case Evaluation(loss=loss):
                return t("train.validation_tag", loss=formatting.fixed(loss)), "bl"
            case Saved(n_bytes=n_bytes):
                return t("train.saved_tag", size=formatting.size(n_bytes)), "bl"
            case Sample():
                return t("train.sample_tag"), ""
            case Stopped(reason=reason):
                return t(f"train.state.{reason}"), "bad" if reason == "diverged" else "a"
        return None


def _cells(row: Row) -> list[Cell]:
    """Return the cells of a line, in the order of _COLUMNS."""
    cells, update = [("", "")] * 5, row.update
    if isinstance(update, Step):
        change = "" if row.change is None else formatting.fixed(row.change, 3, sign=True)
        lr, speed = formatting.significant(update.lr), formatting.significant(update.tokens_per_s, 3, grouped=True)
        quiet = (change, formatting.fixed(update.grad_norm), lr, speed)
        cells = [(formatting.fixed(update.loss, 3), "right"), *((shown, "right ink3") for shown in quiet)]
    elif isinstance(update, Skipped):
        cells[0], cells[2] = _maybe_bad(update.loss, 3), _maybe_bad(update.grad_norm, 2)
    return [(formatting.whole(row.step), ""), *cells]


def _maybe_bad(value: float, decimals: int) -> Cell:
    return formatting.fixed(value, decimals), "right" if math.isfinite(value) else "right bad"
