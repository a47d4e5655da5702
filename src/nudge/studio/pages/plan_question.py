"""Plan: the form's fields, in the address and for the planner. No torch."""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

from nudge.config import parse_count
from nudge.errors import ConfigError
from nudge.plan import questions
from nudge.plan.hardware import DTYPES
from nudge.plan.planner import Ask

_YES_NO = {"yes": True, "no": False}
CHOICES = {"dtype": DTYPES, "layout": ("data", "shard"), "recompute": tuple(_YES_NO)}
_WHOLE, _NUMBERS = ("count", "micro_batch", "context"), ("budget", "hours")
_TEXTS = ("recipe", "tokens", "gpu", "price", "dtype", "layout", "recompute")
FIELDS = (*_TEXTS, *_WHOLE, *_NUMBERS)  # by their names in the address; an empty field follows from the others


def opening(query: Mapping[str, str]) -> dict[str, str]:
    """Return the form's first contents: the address's, with the lecture's machine if it names none."""
    written = {name: query[name].strip() for name in FIELDS if query.get(name, "").strip()}
    if "gpu" not in written:
        written["gpu"] = "h100"
        if "count" not in written and "hours" not in written:
            written["count"] = "8"
    return {"recipe": "gpt2_small", **written}


def to_ask(written: Mapping[str, str]) -> Ask:
    """Build the planner's ask from the form, filling in what a budget or a time determines.

    Raises: ConfigError for what cannot be read, contradicts itself, does not exist or has no answer.
    """
    values: dict[str, Any] = dict(written)
    values |= {name: parse_count(written[name], name) for name in _WHOLE if name in written}
    values |= {name: read_number(written[name], name) for name in _NUMBERS if name in written}
    if "context" in values:
        values["settings"] = {"model": {"block_size": values.pop("context")}}
    if "recompute" in values:
        values["recompute"] = _YES_NO.get(written["recompute"], written["recompute"])
    return questions.complete_ask(values.pop("recipe"), **values)


def read_number(text: str, name: str) -> float:
    """Return a number with or without decimals. Raises: ConfigError."""
    with contextlib.suppress(ValueError):
        value = float(text.strip().removeprefix("$").replace(",", "").replace("_", ""))
        if math.isfinite(value):
            return value
    raise ConfigError("not_a_number", name=name, text=text[:40])
