"""Train: the log. Every update is one line, the newest first."""

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
    """The card of the log; the browser puts new lines to those that are there."""

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
            lines = [[row.step, self._cells(row), list(self._tags(row))] for row in rows]
            said = json.dumps([self.table.id, lines, N_ROWS, fresh])
            self.table.client.run_javascript(f"nudgeTrain.log(...{said})")

    def _cells(self, row: Row) -> list[Cell]:
        step, update = (formatting.whole(row.step), ""), row.update
        if isinstance(update, Step):
            change = "" if row.change is None else formatting.fixed(row.change, 3, sign=True)
            return [
                step,
                (formatting.fixed(update.loss, 3), "right"),
                (change, "right ink3"),
                (formatting.fixed(update.grad_norm), "right ink3"),
                (formatting.significant(update.lr), "right ink3"),
                (formatting.significant(update.tokens_per_s, 3, grouped=True), "right ink3"),
            ]
        if isinstance(update, Skipped):
            values = (update.loss, 3), (None, 0), (update.grad_norm, 2)
            return [step, *(_maybe_bad(value, decimals) for value, decimals in values), ("", ""), ("", "")]
        return [step, *[("", "")] * 5]

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


def _maybe_bad(value: float | None, decimals: int) -> Cell:
    if value is None:
        return "", ""
    return formatting.fixed(value, decimals), "right" if math.isfinite(value) else "right bad"
