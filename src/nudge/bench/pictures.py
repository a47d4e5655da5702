"""A benchmark as a picture: one bar for each contender, ours in colour, with the spread and the machine's limit."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nudge.errors import ConfigError, MachineError

OURS, PEERS, INK, LIMIT = "#0f766e", "#cbd5e1", "#334155", "#b45309"
KINDS = (".png", ".svg")


def check(path: Path) -> None:
    """Raises: ConfigError for another kind of file, or no such folder; MachineError without matplotlib."""
    if path.suffix not in KINDS:
        raise ConfigError(f"--plot writes {' or '.join(KINDS)}, got {path.name}", f"--plot {path.stem or 'bench'}.svg")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"no folder {path.absolute().parent} for --plot", "make it first")
    if importlib.util.find_spec("matplotlib") is None:
        raise MachineError(
            "--plot needs matplotlib, which is not installed", 'pip install matplotlib, or "nudge-lm[bench]"'
        )


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw a report (`Report.as_dict`), one panel for each measure."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    measures = found["measures"]
    measured = [contender for contender in found["contenders"] if not contender["absent"]]
    height = 1.3 + 0.42 * len(measured)
    with pyplot.rc_context({"font.family": "DejaVu Sans", "svg.fonttype": "none", "text.color": INK}):
        figure, axes = pyplot.subplots(
            1, len(measures), figsize=(4.2 + 4.4 * len(measures), height), squeeze=False, sharey=True
        )
        for number, (measure, axis) in enumerate(zip(measures, axes[0], strict=True)):
            _bars(axis, measured, measure)
            if number == 0:
                _limits(axis, measured, measure, found["limit_label"])
        figure.suptitle(found["title"], x=0.01, ha="left", fontsize=12, fontweight="bold")
        machine = found["machine"]
        note = (
            f"{machine['gpu'] or machine['processor']}, {machine['threads']} threads; medians of {found['rounds']} "
            f"rounds by turns, lines from lowest to highest; {found['time'][:10]}"
        )
        figure.text(0.01, 0.015, note, ha="left", fontsize=8, color="#64748b")
        figure.tight_layout(rect=(0, 0.05, 1, 1))
        figure.savefig(path, dpi=160)
        pyplot.close(figure)


def _bars(axis: Any, measured: Sequence[Mapping[str, Any]], measure: Mapping[str, Any]) -> None:
    figures = [contender["figures"][measure["key"]] for contender in measured]
    rows = range(len(measured))
    medians = [figure["median"] for figure in figures]
    colors = [OURS if contender["ours"] else PEERS for contender in measured]
    axis.barh(rows, medians, color=colors, height=0.66)
    below = [figure["median"] - figure["low"] for figure in figures]
    above = [figure["high"] - figure["median"] for figure in figures]
    axis.errorbar(medians, rows, xerr=(below, above), fmt="none", ecolor=INK, elinewidth=1, capsize=2)
    room = max(figure["high"] for figure in figures)
    for row, figure in zip(rows, figures, strict=True):
        text = f"{figure['median']:,.{measure['digits']}f}"
        axis.text(figure["high"] + 0.015 * room, row, text, va="center", fontsize=9)
    axis.set_xlim(0, 1.18 * room)
    axis.set_yticks(list(rows), [contender["name"] for contender in measured], fontsize=9.5)
    axis.invert_yaxis() if not axis.yaxis_inverted() else None
    better = "more is better" if measure["more_is_better"] else "less is better"
    axis.set_xlabel(f"{measure['label']} ({better})", fontsize=9, color=INK)
    axis.tick_params(axis="x", labelsize=8, colors="#64748b")
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color("#94a3b8")


def _limits(axis: Any, measured: Sequence[Mapping[str, Any]], measure: Mapping[str, Any], label: str) -> None:
    """A mark on each bar's row where the machine's limit lies, if it is within the picture, and the share reached."""
    for row, contender in enumerate(measured):
        share = contender.get("share_of_limit")
        if not share:
            continue
        median = contender["figures"][measure["key"]]["median"]
        at = median / share if measure["more_is_better"] else median * share
        axis.plot([at, at], [row - 0.4, row + 0.4], color=LIMIT, linewidth=2, clip_on=True)
        axis.text(
            0.01 * axis.get_xlim()[1],
            row,
            f"{share:.0%}",
            va="center",
            fontsize=8,
            color="white" if contender["ours"] else INK,
        )
    axis.plot([], [], color=LIMIT, linewidth=2, label=f"100% {label}")
    axis.legend(loc="lower right", fontsize=8, frameon=False)
