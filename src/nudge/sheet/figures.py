"""The figures of a sheet that are written as YAML: charts and knobs."""

from collections.abc import Sequence

import yaml

from nudge.errors import SheetError
from nudge.sheet import axes
from nudge.sheet.fields import Mapping, at_of, choice, composed, mapping, number, pair, sequence, string
from nudge.sheet.inline import colour_of, line
from nudge.sheet.page import Chart, Colour, Curve, Knob, Knobs, Line, Mark

Range = tuple[float, float]


def knobs(text: str, at: int) -> Knobs:
    """Read knobs from YAML that begins in line `at` of the sheet.

    Raises: SheetError.
    """
    nodes = sequence(composed(text, at), "knobs")
    if not nodes:
        raise SheetError("no_knobs", line=at)
    return Knobs(knobs=tuple(map(_knob, nodes)))


def _knob(node: yaml.Node) -> Knob:
    given = mapping(node, "a knob", required=("label", "value"), known=("color",))
    return Knob(
        label=_line(given, "label"), value=number(given["value"], "value", least=-1, most=1), colour=_colour(given)
    )


def chart(text: str, at: int) -> Chart:
    """Read a chart from YAML that begins in line `at` of the sheet.

    Raises: SheetError.
    """
    optional = ("marks", "x_range", "y_range", "x_ticks", "y_ticks", "caption", "height")
    given = mapping(composed(text, at), "a chart", required=("x", "y", "curves"), known=optional)
    curves = tuple(map(_curve, _list(given, "curves")))
    marks = tuple(map(_mark, _list(given, "marks")))
    if not curves:
        raise SheetError("no_curves", line=at_of(given["curves"]))
    points = [point for curve in curves for point in curve.points]
    x_range, x_ticks = _axis("x", given, [x for x, _ in points] + [mark.x for mark in marks if mark.x is not None])
    y_range, y_ticks = _axis("y", given, [y for _, y in points] + [mark.y for mark in marks])
    return Chart(
        x_label=_line(given, "x"),
        y_label=_line(given, "y"),
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        x_range=x_range,
        y_range=y_range,
        curves=curves,
        marks=marks,
        caption=_line(given, "caption"),
        height_em=number(given["height"], "height", least=4, most=60) if "height" in given else 11.0,
    )


def _axis(name: str, given: Mapping, values: Sequence[float]) -> tuple[Range, axes.Ticks]:
    """Return the range and the ticks of an axis: the given ones, or else round numbers around the values."""
    ticks = tuple(map(_tick, _list(given, f"{name}_ticks")))
    values = [*values, *(place for place, _ in ticks)]
    node = given.get(f"{name}_range")
    if node is None:
        room, rounded = axes.around(values)
        return room, ticks or rounded
    low, high = (number(end, f"{name}_range") for end in pair(node, f"{name}_range"))
    if high - low < axes.LEVEL * max(1.0, abs(low), abs(high)):
        raise SheetError("empty_range", line=at_of(node), axis=name, low=low, high=high)
    for value in values:
        if not low <= value <= high:
            raise SheetError("outside_range", line=at_of(node), axis=name, value=value)
    return (low, high), ticks or axes.within(low, high)


def _curve(node: yaml.Node) -> Curve:
    optional = ("color", "dots", "thin", "schematic")
    given = mapping(node, "a curve", required=("label", "points"), known=optional)
    points = tuple(map(_point, _list(given, "points")))
    if not points:
        raise SheetError("no_points", line=at_of(given["points"]))
    return Curve(
        label=_line(given, "label"),
        points=points,
        colour=_colour(given),
        thin=_flag(given, "thin"),
        dots=_flag(given, "dots"),
        schematic=_flag(given, "schematic"),
    )


def _point(node: yaml.Node) -> tuple[float, float]:
    x, y = pair(node, "a point")
    return number(x, "x of a point"), number(y, "y of a point")


def _mark(node: yaml.Node) -> Mark:
    given = mapping(node, "a mark", required=("y", "label"), known=("x", "color"))
    return Mark(
        y=number(given["y"], "y of a mark"),
        label=_line(given, "label"),
        x=number(given["x"], "x of a mark") if "x" in given else None,
        colour=_colour(given),
    )


def _tick(node: yaml.Node) -> tuple[float, str]:
    place, label = pair(node, "a tick")
    return number(place, "place of a tick"), string(label, "label of a tick")


def _list(given: Mapping, key: str) -> list[yaml.Node]:
    return sequence(given[key], key) if key in given else []


def _line(given: Mapping, key: str) -> Line:
    return line(string(given[key], key), at=at_of(given[key])) if key in given else ()


def _colour(given: Mapping) -> Colour | None:
    return colour_of(string(given["color"], "color"), at_of(given["color"])) if "color" in given else None


def _flag(given: Mapping, key: str) -> bool:
    return key in given and choice(given[key], key, ("true", "false")) == "true"
