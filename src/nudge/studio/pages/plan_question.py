"""Plan: what the form asks, as the address holds it and as the planner understands it. No torch."""

import contextlib
import math
from collections.abc import Mapping

from nudge.config import parse_count
from nudge.errors import ConfigError
from nudge.plan import questions
from nudge.plan.hardware import DTYPES
from nudge.plan.planner import Ask

FIELDS = (  # as they are called in the address; what is left out follows from the others
    "recipe",
    "tokens",
    "budget",
    "hours",
    "gpu",
    "count",
    "price",
    "dtype",
    "micro_batch",
    "context",
    "layout",
    "recompute",
)
_YES_NO = {"yes": True, "no": False}
CHOICES = {"dtype": DTYPES, "layout": ("data", "shard"), "recompute": tuple(_YES_NO)}  # what a person chooses from


def opening(query: Mapping[str, str]) -> dict[str, str]:
    """What the form holds at first: what the address says; about a machine that it does not name, the lecture's."""
    written = {name: query[name].strip() for name in FIELDS if query.get(name, "").strip()}
    if "gpu" not in written:
        written["gpu"] = "h100"
        if "count" not in written and "hours" not in written:
            written["count"] = "8"
    return {"recipe": "gpt2_small", **written}


def asked(written: Mapping[str, str]) -> Ask:
    """The question, with what a budget or a time left open filled in.

    Raises: ConfigError for what cannot be read, contradicts itself, does not exist or has no answer.
    """
    whole = {name: parse_count(written[name], name) for name in ("count", "micro_batch", "context") if name in written}
    recompute = written.get("recompute")
    return questions.answered(
        written["recipe"],
        settings={"model": {"block_size": whole["context"]}} if "context" in whole else None,
        tokens=written.get("tokens"),
        **{name: read_number(written[name], name) for name in ("budget", "hours") if name in written},
        gpu=written["gpu"],
        count=whole.get("count"),
        price=written.get("price"),
        dtype=written.get("dtype"),
        layout=written.get("layout", "auto"),
        micro_batch=whole.get("micro_batch"),
        recompute=_YES_NO.get(recompute, recompute) if recompute else None,
    )


def read_number(text: str, name: str) -> float:
    """A number with or without decimals. Raises: ConfigError."""
    with contextlib.suppress(ValueError):
        value = float(text.strip().removeprefix("$").replace(",", "").replace("_", ""))
        if math.isfinite(value):
            return value
    raise ConfigError(f"{name} {text[:40]!r} is not a number", "write 100 or 2.5")
