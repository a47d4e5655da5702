"""Curves, by Apache ECharts. Drawn as SVG, so that colours are the page's own variables and follow its theme.

What all charts share is data, as ECharts has it; a page names its axes and series, and what is special about them.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

Options = dict[str, Any]

SANS = (
    'Inter, system-ui, -apple-system, "Segoe UI", "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", '
    '"Noto Sans CJK KR", sans-serif'
)
_CHART: Options = {
    "animation": False,
    "textStyle": {"fontFamily": SANS},
    "tooltip": {"show": False, "renderMode": "richText", "confine": True},  # as text: HTML would be obeyed
}
_AXIS: Options = {
    "type": "value",
    "axisLine": {"show": False},
    "axisTick": {"show": False},
    "axisLabel": {"color": "var(--ink3)", "fontSize": 12, "hideOverlap": True},
    "splitLine": {"lineStyle": {"color": "var(--line)", "width": 1}},
    "nameTextStyle": {"color": "var(--ink3)", "fontSize": 12},
}
_LINE: Options = {"type": "line", "showSymbol": False}
_DOTS: Options = {"type": "scatter", "z": 5, "itemStyle": {"opacity": 1, "borderColor": "var(--surface)"}}
_LABEL: Options = {"show": True, "color": "var(--ink2)", "fontSize": 12}
_MARK: Options = {"symbol": "none", "silent": True, "animation": False}

HIDDEN: Options = {"show": False}
PLAIN: Options = {"emphasis": {"disabled": True}}  # it would make a colour of a variable lighter, and cannot
STILL: Options = {"silent": True, **PLAIN}  # nothing happens to it under the mouse


def axis(**settings: Any) -> Options:
    """An axis in the page's manner. Here and below `settings` are ECharts' own and are merged in."""
    return _merged(_AXIS, settings)


def stroke(color: str, width: float, **settings: Any) -> Options:
    """How a line is drawn."""
    return {"color": color, "width": width, "type": "solid", **settings}


DASHED = stroke("var(--ink3)", 1.25, type=[5, 4])


def line(style: Options, **settings: Any) -> Options:
    """A series that is drawn as a line."""
    return {**_LINE, "lineStyle": style, **settings}


def dots(color: str, size: float, rim: float = 0, **settings: Any) -> Options:
    """A series of points before everything else, with a rim that sets them off."""
    return _merged(_DOTS, {"symbolSize": size, "itemStyle": {"color": color, "borderWidth": rim}, **settings})


def label(content: str, **settings: Any) -> Options:
    """Words in a chart. They are taken as they are: braces would begin a template of ECharts'."""
    return _merged(_LABEL, {"formatter": content.replace("{", "\uff5b").replace("}", "\uff5d"), **settings})


def marks(places: Sequence[Options], style: Options, words: Options = HIDDEN) -> Options:
    """Lines across a series, at places such as {"xAxis": 3}."""
    return {"markLine": {**_MARK, "data": places, "lineStyle": style, "label": words}}


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Options:
    merged = copy.deepcopy(dict(base))
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return merged


def chart(options: Mapping[str, Any], *, height: int, label: str) -> ui.echart:
    """A chart that fills its place. `label` tells in words what it shows, for who does not see it."""
    element = ui.echart(_merged(_CHART, options), renderer="svg").style(f"height:{height}px;width:100%")
    element.props.update({"role": "img", "aria-label": label})
    return element
