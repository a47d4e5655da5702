"""Plan: what the form asks, as the address holds it and as the planner understands it. No torch."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from nudge.errors import ConfigError, nearest
from nudge.plan import questions
from nudge.plan.planner import Ask, make_ask

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
CHOICES = {
    "dtype": ("bfloat16", "float32"),
    "layout": ("data", "shard"),
    "recompute": ("yes", "no"),
}
_SCALES = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12, "만": 1e4, "억": 1e8, "조": 1e12}
_MOST = 1e18  # above every text, every machine and every fortune that there is


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
    for name, known in CHOICES.items():
        if name in written and written[name] not in known:
            raise ConfigError(f"unknown {name} '{written[name]}'", nearest(written[name], known))
    number = {name: read_number(written[name], name) for name in ("budget", "hours") if name in written}
    whole = {name: read_count(written[name], name) for name in ("count", "micro_batch", "context") if name in written}
    tokens = written.get("tokens")
    _check_open(number, counted="count" in whole, tokens=tokens is not None)
    ask = make_ask(
        written["recipe"],
        settings={"model": {"block_size": whole["context"]}} if "context" in whole else None,
        tokens=_tokens(tokens),
        gpu=written["gpu"],
        count=whole.get("count", 1),
        price=written.get("price"),
        dtype=written.get("dtype"),  # type: ignore[arg-type]  # one of CHOICES
        layout=written.get("layout", "auto"),  # type: ignore[arg-type]
        micro_batch=whole.get("micro_batch"),
        recompute={"yes": True, "no": False}.get(written.get("recompute", "")),
    )
    if "budget" in number:
        return replace(ask, tokens=questions.tokens_for(ask, usd=number["budget"]))
    if "hours" in number and "count" in whole:
        return replace(ask, tokens=questions.tokens_for(ask, hours=number["hours"]))
    if "hours" in number:
        return replace(ask, count=questions.count_for(ask, number["hours"]))
    return ask


def _check_open(number: Mapping[str, float], *, counted: bool, tokens: bool) -> None:
    """Two of tokens, budget and hours say the same thing twice, unless the number of GPUs may follow."""
    if len(number) == 2:
        raise ConfigError("a budget and a time were both given", "leave one of them empty: it follows from the other")
    if tokens and ("budget" in number or ("hours" in number and counted)):
        other = "the budget" if "budget" in number else "the time"
        also = "" if "budget" in number else ", or the number of GPUs"
        raise ConfigError(f"tokens and {other} both say how far the run goes", f"leave one of them empty{also}")


def _tokens(text: str | None) -> int | Literal["chinchilla"] | None:
    if text is None:
        return None
    return "chinchilla" if text.lower() == "chinchilla" else read_count(text, "tokens")


def read_count(text: str, name: str) -> int:
    """A whole number as people write it: 500,000, 10M, 33.5B, 100억. Raises: ConfigError."""
    match = re.fullmatch(r"(-?[0-9.,_]+(?:E[0-9]+)?)\s*([KMBT만억조]?)", text.strip().upper())
    value = _float(match[1]) * _SCALES[match[2]] if match else math.nan
    if not abs(value) < _MOST:
        raise ConfigError(f"{name} {text[:40]!r} is not a whole number", "write 500000, 10M or 33.5B")
    return round(value)


def read_number(text: str, name: str) -> float:
    """A number with or without decimals. Raises: ConfigError."""
    value = _float(text.strip().removeprefix("$"))
    if not abs(value) < _MOST:
        raise ConfigError(f"{name} {text[:40]!r} is not a number", "write 100 or 2.5")
    return value


def _float(text: str) -> float:
    try:
        return float(text.replace(",", "").replace("_", ""))
    except ValueError:
        return math.nan
