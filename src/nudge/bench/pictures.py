"""A picture of a benchmark: a bar for each contender, ours in color, with its spread and its share of the limit."""

import importlib.util
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nudge.errors import ConfigError, MachineError

OURS, PEERS, INK, FAINT = "#0f766e", "#cbd5e1", "#334155", "#64748b"
KINDS = (".png", ".svg")


def check(path: Path) -> None:
    """Check that a picture can be written. Raises: ConfigError for another format or folder; MachineError."""
    if path.suffix not in KINDS:
        raise ConfigError("plot_format", name=path.name, example=Path(f"{path.stem or 'bench'}.svg"))
    if not path.absolute().parent.is_dir():
        raise ConfigError("plot_folder", folder=path.absolute().parent)
    if importlib.util.find_spec("matplotlib") is None:
        raise MachineError("no_matplotlib")


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw a report (`Report.as_dict`), one panel for each measure."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    measures = found["measures"]
    measured = [contender for contender in found["contenders"] if not contender["absent"]]
    rows = _rows(measured)
    size = (3.6 + 4.2 * len(measures), 1.5 + 0.4 * (rows[-1] + 1))
    with pyplot.rc_context({"font.family": "DejaVu Sans", "svg.fonttype": "none", "text.color": INK}):
        figure, axes = pyplot.subplots(1, len(measures), figsize=size, squeeze=False, sharey=True)
        for number, (measure, axis) in enumerate(zip(measures, axes[0], strict=True)):
            _bars(axis, rows, measured, measure, share_of=found["limit_label"] if number == 0 else "")
        axes[0][0].set_yticks(rows, [contender["name"] for contender in measured], fontsize=9.5, color=INK)
        axes[0][0].invert_yaxis()  # the panels share this axis
        machine = found["machine"]
        note = (
            f"{machine['gpu'] or machine['processor']}, {machine['threads']} threads; medians of {found['rounds']} "
            f"rounds by turns, lines from lowest to highest; {found['time'][:10]}"
        )
        figure.text(0.012, 1 - 0.12 / size[1], found["title"], va="top", fontsize=11.5, fontweight="bold")
        figure.text(0.012, 0.1 / size[1], note, fontsize=7.5, color=FAINT)
        figure.tight_layout(rect=(0, 0.25 / size[1], 1, 1 - 0.4 / size[1]))
        figure.savefig(path, dpi=160)
        pyplot.close(figure)


def _rows(measured: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the position of each bar, with a gap before each new group."""
    gaps = [0.0, *(0.4 * (a["group"] != b["group"]) for a, b in itertools.pairwise(measured))]
    return [row + gap for row, gap in enumerate(itertools.accumulate(gaps))]


def _bars(
    axis: Any, rows: list[float], measured: Sequence[Mapping[str, Any]], measure: Mapping[str, Any], *, share_of: str
) -> None:
    figures = [contender["figures"][measure["key"]] for contender in measured]
    medians = [figure["median"] for figure in figures]
    end = 1.45 * max(medians)  # one slow round must not squeeze all bars: its line leaves the picture
    axis.barh(rows, medians, color=[OURS if contender["ours"] else PEERS for contender in measured], height=0.7)
    below = [figure["median"] - figure["low"] for figure in figures]
    above = [min(figure["high"], 2 * end) - figure["median"] for figure in figures]
    axis.errorbar(medians, rows, xerr=(below, above), fmt="none", ecolor=INK, elinewidth=1, capsize=2)
    shares = [contender.get("share_of_limit") if share_of else None for contender in measured]
    for row, figure, share in zip(rows, figures, shares, strict=True):
        label = f"{figure['median']:,.{measure['digits']}f}" + (f" ({share:.0%})" if share is not None else "")
        at = min(figure["high"], 0.76 * end) + 0.012 * end
        axis.text(at, row, label, va="center", fontsize=8.5, bbox={"color": "white", "pad": 1}, zorder=3)
    axis.set_xlim(0, end)
    better = "more is better" if measure["more_is_better"] else "less is better"
    brackets = f"; in brackets the share {share_of}" if any(shares) else ""
    axis.set_xlabel(f"{measure['label']} ({better}{brackets})", fontsize=8.5, color=INK)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.tick_params(axis="x", labelsize=8, colors=FAINT)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color("#94a3b8")
