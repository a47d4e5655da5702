"""Figures of a sheet that are written as YAML: charts and knobs."""

from collections.abc import Sequence

import yaml

from nudge.sheet import axes
from nudge.sheet.fields import Mapping, at_of, boolean, composed, mapping, number, pair, sequence, string
from nudge.sheet.inline import colour_of, fault, line
from nudge.sheet.page import Chart, Colour, Curve, Knob, Knobs, Line, Mark

Range = tuple[float, float]


def knobs(text: str, at: int) -> Knobs:
    """The knobs whose YAML begins in line `at`.

    Raises: SheetError.
    """
    nodes = sequence(composed(text, at), at, "knobs")
    if not nodes:
        raise fault(at, "knobs: expected at least one", "- {label: lr, value: 0.5}")
    return Knobs(knobs=tuple(_knob(node, at) for node in nodes))


def _knob(node: yaml.Node, at: int) -> Knob:
    given = mapping(node, at, "a knob", required=("label", "value"), known=("color",))
    return Knob(
        label=_line(given, "label"), value=number(given["value"], "value", least=-1, most=1), colour=_colour(given)
    )


def chart(text: str, at: int) -> Chart:
    """The chart whose YAML begins in line `at`.

    Raises: SheetError.
    """
    optional = ("marks", "x_range", "y_range", "x_ticks", "y_ticks", "caption", "height")
    given = mapping(composed(text, at), at, "a chart", required=("x", "y", "curves"), known=optional)
    curves = tuple(_curve(node, at) for node in sequence(given["curves"], at, "curves"))
    marks = tuple(_mark(node, at) for node in _list(given, "marks"))
    if not curves:
        raise fault(
            at_of(given["curves"]), "a chart needs at least one curve", "curves: [{label: loss, points: [[0, 1]]}]"
        )
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
    """The range and the ticks of an axis: what is given of them, and round numbers around the values for the rest."""
    ticks = tuple(_tick(node) for node in _list(given, f"{name}_ticks"))
    asked = given.get(f"{name}_range")
    values = [*values, *(place for place, _ in ticks)]
    if asked is None:
        room, rounded = axes.around(values)
        return room, ticks or rounded
    low, high = (number(node, f"{name}_range") for node in pair(asked, f"{name}_range"))
    if high - low < axes.LEVEL * max(1.0, abs(low), abs(high)):
        raise fault(
            at_of(asked), f"{name}_range: expected a low and a higher end, got {low:g} and {high:g}", "[low, high]"
        )
    for value in values:
        if not low <= value <= high:
            raise fault(
                at_of(asked), f"{name} of {value:g} lies outside {name}_range", f"leave {name}_range out, or widen it"
            )
    return (low, high), ticks or axes.within(low, high)


def _curve(node: yaml.Node, at: int) -> Curve:
    optional = ("color", "dots", "thin", "schematic")
    given = mapping(node, at, "a curve", required=("label", "points"), known=optional)
    points = tuple(_point(point) for point in sequence(given["points"], at, "points"))
    if not points:
        raise fault(at_of(given["points"]), "a curve needs at least one point", "points: [[0, 8.37], [100, 5.2]]")
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


def _mark(node: yaml.Node, at: int) -> Mark:
    given = mapping(node, at, "a mark", required=("y", "label"), known=("x", "color"))
    return Mark(
        y=number(given["y"], "y of a mark"),
        label=_line(given, "label"),
        x=number(given["x"], "x of a mark") if "x" in given else None,
        colour=_colour(given),
    )


def _tick(node: yaml.Node) -> tuple[float, str]:
    place, words = pair(node, "a tick")
    return number(place, "place of a tick"), string(words, "words of a tick")


def _list(given: Mapping, key: str) -> list[yaml.Node]:
    return sequence(given[key], at_of(given[key]), key) if key in given else []


def _line(given: Mapping, key: str) -> Line:
    return line(string(given[key], key), at=at_of(given[key])) if key in given else ()


def _colour(given: Mapping) -> Colour | None:
    return colour_of(string(given["color"], "color"), at_of(given["color"])) if "color" in given else None


def _flag(given: Mapping, key: str) -> bool:
    return key in given and boolean(given[key], key)
