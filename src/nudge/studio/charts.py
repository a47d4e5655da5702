"""Curves, drawn by Apache ECharts as SVG, so that their colors are the page's variables and follow its theme.

Their options are data, in charts.toml. The pages add points, limits and labels.
"""

import copy
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from nicegui import ui

from nudge.studio.words import Words

Options = dict[str, Any]

_DATA: Options = tomllib.loads(resources.files("nudge.studio").joinpath("charts.toml").read_text(encoding="utf-8"))


def options(name: str, t: Words) -> Options:
    """Return the options of a chart, without data."""
    found = _merge(_DATA["chart"], _DATA[name])
    for kind in ("xAxis", "yAxis", "series"):
        for part in found[kind]:
            base = part.pop("base", None) if kind == "series" else "axis"
            whole = _merge(_DATA.get(base, {}), part)
            part.update(whole, **({"name": t(part["name"])} if "name" in part else {}))
    return found


def label(content: str, **settings: Any) -> Options:
    """Return a label with this text. Braces would begin a template of ECharts, so they are replaced."""
    plain = content.replace("{", "\uff5b").replace("}", "\uff5d")
    return _merge(_DATA["label"], {"formatter": plain, **settings})


def marks(places: Sequence[Options], style: Options, words: Options | None = None) -> Options:
    """Return lines across a series, at places such as {"xAxis": 3}."""
    look = {"lineStyle": {"type": "solid", "width": 1.25, **style}, "label": words or {"show": False}}
    return {"markLine": {"symbol": "none", "silent": True, "animation": False, "data": places, **look}}


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Options:
    merged = copy.deepcopy(dict(base))
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = (
            _merge(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else copy.deepcopy(value)
        )
    return merged


def chart(options: Mapping[str, Any], *, height: int, label: str) -> ui.echart:
    """Add a chart that fills its place. `label` describes it for screen readers."""
    element = ui.echart(_merge(_DATA["chart"], options), renderer="svg").style(f"height:{height}px;width:100%")
    element.props.update({"role": "img", "aria-label": label})
    return element
