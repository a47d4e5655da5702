"""The figures of a sheet in YAML: charts and knobs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import yaml

from nudge.errors import SheetError
from nudge.sheet import axes
from nudge.sheet.fields import Reader, at_of, choice, number, pair, parse_yaml, record, sequence, spans, string
from nudge.sheet.inline import COLORS
from nudge.sheet.page import Chart, Curve, Knob, Knobs, Mark

Member = TypeVar("Member")


def knobs(text: str, at: int) -> Knobs:
    """Parse knobs from YAML that begins on line `at` of the sheet.

    Raises: SheetError.
    """
    return Knobs(knobs=_members(parse_yaml(text, at), "knobs", read=_knob, example="- {label: lr, value: 0.5}"))


def chart(text: str, at: int) -> Chart:
    """Parse a chart from YAML that begins on line `at` of the sheet.

    Raises: SheetError.
    """
    given = record(parse_yaml(text, at), "a chart", CHART, "x", "y", "curves")
    curves, marks = given["curves"], given.get("marks", ())
    points = [point for curve in curves for point in curve.points]
    x_range, x_ticks = _axis("x", given, [x for x, _ in points] + [mark.x for mark in marks if mark.x is not None])
    y_range, y_ticks = _axis("y", given, [y for _, y in points] + [mark.y for mark in marks])
    return Chart(
        x_label=given["x"],
        y_label=given["y"],
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        x_range=x_range,
        y_range=y_range,
        curves=curves,
        marks=marks,
        caption=given.get("caption", ()),
        height_em=given.get("height", 11.0),
    )


def _axis(name: str, given: Mapping[str, Any], values: Sequence[float]) -> tuple[tuple[float, float], axes.Ticks]:
    """Return the range and ticks of an axis: the given ones, otherwise round numbers that enclose the values."""
    ticks = given.get(f"{name}_ticks", ())
    values = [*values, *(place for place, _ in ticks)]
    if f"{name}_range" not in given:
        axis_range, round_ticks = axes.axis_range_and_ticks(values)
        return axis_range, ticks or round_ticks
    low, high, at = given[f"{name}_range"]
    for value in values:
        if not low <= value <= high:
            raise SheetError("outside_range", line=at, axis=name, value=value)
    return (low, high), ticks or axes.ticks_within(low, high)


# --- fields ----------------------------------------------------------------------------------------------------------


def _members(
    node: yaml.Node, what: str, *, read: Callable[[yaml.Node], Member], example: str = ""
) -> tuple[Member, ...]:
    """Read the items of a list, which must not be empty if there is an `example` for the error message."""
    nodes = sequence(node, what)
    if example and not nodes:
        raise SheetError("empty_list", line=at_of(node), what=what, example=example)
    return tuple(map(read, nodes))


def _range(node: yaml.Node, what: str) -> tuple[float, float, int]:
    """Return both ends of a range, and its line of the sheet."""
    low, high = (number(end, what) for end in pair(node, what))
    if high - low < axes.TOLERANCE * max(1.0, abs(low), abs(high)):
        raise SheetError("empty_range", line=at_of(node), what=what, low=low, high=high)
    return low, high, at_of(node)


def _flag(node: yaml.Node, what: str) -> bool:
    return choice(node, what, ("true", "false")) == "true"


def _knob(node: yaml.Node) -> Knob:
    return Knob(**record(node, "a knob", KNOB, "label", "value"))


def _curve(node: yaml.Node) -> Curve:
    return Curve(**record(node, "a curve", CURVE, "label", "points"))


def _mark(node: yaml.Node) -> Mark:
    return Mark(**record(node, "a mark", MARK, "y", "label"))


def _point(node: yaml.Node) -> tuple[float, float]:
    x, y = pair(node, "a point")
    return number(x, "x of a point"), number(y, "y of a point")


def _tick(node: yaml.Node) -> tuple[float, str]:
    place, label = pair(node, "a tick")
    return number(place, "place of a tick"), string(label, "label of a tick")


_color = partial(choice, known=COLORS)
KNOB: dict[str, Reader] = {"label": spans, "value": partial(number, least=-1, most=1), "color": _color}
CURVE: dict[str, Reader] = {
    "label": spans,
    "points": partial(_members, read=_point, example="points: [[0, 8.37], [100, 5.2]]"),
    "color": _color,
    "dots": _flag,
    "thin": _flag,
    "schematic": _flag,
}
MARK: dict[str, Reader] = {"y": number, "label": spans, "x": number, "color": _color}
CHART: dict[str, Reader] = {
    "x": spans,
    "y": spans,
    "curves": partial(_members, read=_curve, example="curves: [{label: loss, points: [[0, 1]]}]"),
    "marks": partial(_members, read=_mark),
    "x_range": _range,
    "y_range": _range,
    "x_ticks": partial(_members, read=_tick),
    "y_ticks": partial(_members, read=_tick),
    "caption": spans,
    "height": partial(number, least=4, most=60),
}
