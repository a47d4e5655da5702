"""Curves, by Apache ECharts. Drawn as SVG, so that colours are the page's own variables and follow its theme."""

import copy
from collections.abc import Mapping
from typing import Any

from nicegui import ui

SANS = (
    'Inter, system-ui, -apple-system, "Segoe UI", "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", '
    '"Noto Sans CJK KR", sans-serif'
)
_AXIS: dict[str, Any] = {
    "axisLine": {"show": False},
    "axisTick": {"show": False},
    "axisLabel": {"color": "var(--ink3)", "fontSize": 12, "hideOverlap": True},
    "splitLine": {"lineStyle": {"color": "var(--line)", "width": 1}},
    "nameTextStyle": {"color": "var(--ink3)", "fontSize": 12},
}


def axis(**settings: Any) -> dict[str, Any]:
    """An axis in the page's manner; `settings` are ECharts' own and are merged in."""
    return _merged(_AXIS, settings)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(base))
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return merged


def chart(options: Mapping[str, Any], *, height: int, label: str) -> ui.echart:
    """A chart that fills its place. `label` tells in words what it shows, for who does not see it."""
    settings = {"animation": False, "textStyle": {"fontFamily": SANS}, **options}
    settings["tooltip"] = {"renderMode": "richText", "confine": True, **settings.get("tooltip", {"show": False})}
    element = ui.echart(settings, renderer="svg").style(f"height:{height}px;width:100%")
    element.props["role"] = "img"
    element.props["aria-label"] = label
    return element
