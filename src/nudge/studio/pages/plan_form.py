"""Plan: the form of a run, and its sizes. An empty field shows the value that follows from the other fields."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any

from nicegui import ui

from nudge.errors import ConfigError
from nudge.model.sizes import ParameterCounts
from nudge.plan import hardware
from nudge.plan.planner import CHINCHILLA, Plan
from nudge.studio.components import box, card, choice, entry, field, link, pairs, refill, text
from nudge.studio.pages.plan_question import CHOICES
from nudge.studio.recipe_choice import recipe_choice
from nudge.studio.visit import Visit
from nudge.studio.words import Words
from nudge.util import formatting

_PARTS = ("wte", "wpe", "attention", "mlp", "norms", "head")


class PlanForm:
    """The form. `changed` gets the contents of its fields, by the names of plan_question.FIELDS."""

    def __init__(self, visit: Visit, written: dict[str, str], changed: Callable[[dict[str, str]], None]) -> None:
        self.visit, self.t, self.written, self._changed = visit, visit.t, written, changed
        self.entries: dict[str, ui.input] = {}
        with card(self.t("plan.run")):
            with box("vs", style="gap:16px"):
                self._run()
                self._machine()
                self._placing()
            self.sizes = box("sizes")

    def _run(self) -> None:
        t = self.t
        self._select("recipe", recipe_choice(t.language))
        self._entry("tokens")
        with box("grid halves"):
            self._entry("budget", "prefix=$")
            self._entry("hours", suffix=t("plan.hours_unit"))
        text(t("plan.leave_empty"), "s12 ink3 under-fields")

    def _machine(self) -> None:
        with box("grid machine"):
            self._select("gpu", {"cpu": self.t("plan.this_machine"), **_machines()})
            self._entry("count", "inputmode=numeric")
        with box("grid halves priced"):
            self._entry("price", "prefix=$")
            self._entry("date", "type=date")
        self.price_note = text("", "s12 ink3 under-fields")

    def _placing(self) -> None:
        t = self.t
        with field(t("plan.dtype"), tag="div"):
            dtypes = {dtype: dtype for dtype in CHOICES["dtype"]}
            self.turn_dtype = choice(dtypes, "bfloat16", self._handler("dtype"), label=t("plan.dtype"), classes="wide")
        with box("grid halves"):
            self._entry("micro_batch", "inputmode=numeric")
            self._entry("context", "inputmode=numeric")
        with box("grid halves"):
            for name in ("layout", "recompute"):
                self._select(name, {"": t("plan.auto"), **{kind: t(f"plan.{name}_{kind}") for kind in CHOICES[name]}})

    def _handler(self, name: str) -> Callable[..., Any]:
        return self.visit.handle(partial(self._write, name))

    def _select(self, name: str, options: dict[str, str]) -> None:
        value = self.written.get(name, "")
        settings = {"options": options, "value": value if value in options else None}
        entry(ui.select, self.t(f"plan.{name}"), "options-dense", on_change=self._handler(name), **settings)

    def _entry(self, name: str, props: str = "", **more: str) -> None:
        props = f"debounce=200 maxlength=24 autocomplete=off spellcheck=false {props}"
        settings = {"value": self._first(name), "on_change": self._handler(name)}
        self.entries[name] = entry(ui.input, self.t(f"plan.{name}"), props, **settings)
        self.entries[name].props.update(name=name, **more)

    def _first(self, name: str) -> str:
        """Return the first content of a field. A price has two: the price, and the day it was seen."""
        if name in ("price", "date"):
            usd, _, day = self.written.get("price", "").partition("@")
            return usd if name == "price" else day
        return self.written.get(name, "")

    def _write(self, name: str, value: Any) -> None:
        if name in ("price", "date"):
            name, value = "price", self._price()
        written = {**self.written, name: str(value or "").strip()}
        self.written = {name: value for name, value in written.items() if value}
        self._changed(self.written)

    def _with(self, **other: str) -> str:
        """Return the address of this plan with other values in it."""
        query = {**self.visit.query, **self.written, **other}
        return replace(self.visit, query={name: value for name, value in query.items() if value}).here

    def _price(self) -> str:
        """Return the price and the day it was seen, by default today."""
        usd, day = ((self.entries[name].value or "").strip() for name in ("price", "date"))
        return f"{usd}@{day or date.today().isoformat()}" if usd else ""

    def show(self, plan: Plan) -> None:
        """Show the values of the empty fields, and how large the run is."""
        t, ask = self.t, plan.ask
        price = ask.price
        follows = {
            "tokens": formatting.count(plan.tokens, t.language),
            "budget": f"{plan.usd.likely:,.2f}" if plan.usd else "",
            "hours": formatting.significant(plan.hours.likely, 3, grouped=True),
            "count": formatting.whole(ask.count),
            "price": f"{price.usd_per_hour:.2f}" if price else "",
            "micro_batch": formatting.whole(plan.layout.micro_batch),
            "context": formatting.whole(ask.model.block_size),
        }
        for name, value in follows.items():
            self.entries[name].props["placeholder"] = value
        self.price_note.text = f"{price.date}: {price.source}" if price else t("plan.no_price")
        self.turn_dtype(ask.dtype)
        with refill(self.sizes):
            self._show_sizes(plan)

    def _show_sizes(self, plan: Plan) -> None:
        t, counts = self.t, plan.parameters
        box("hr", style="margin:24px 0 16px")
        pairs(
            (t("plan.parameters"), formatting.count(counts.total, t.language)),
            (t("plan.per_token"), f"{formatting.significant(plan.flops_per_token / 1e9)} GFLOP"),
            (t("plan.all_work"), f"{formatting.scientific(plan.flops)} FLOP"),
            (t("plan.updates"), formatting.whole(plan.steps)),
            (t("plan.ratio"), formatting.significant(plan.tokens_per_parameter, 3, grouped=True)),
        )
        text(_parts(t, counts), "s12 ink3", style="margin-top:8px")
        with box("callout", style="margin-top:16px"):
            text(t(f"plan.beside.{plan.tokens_vs_optimal}", n=CHINCHILLA))
            if plan.tokens_vs_optimal != "close":
                link(t("plan.optimal"), self._with(tokens="chinchilla", budget="", hours=""))


def _parts(t: Words, counts: ParameterCounts) -> str:
    """Return the number of parameters in each part of the network."""
    sizes = {name: getattr(counts, name) for name in _PARTS}
    return " · ".join(
        f"{t(f'plan.part.{name}')} {formatting.count(size, t.language)}" for name, size in sizes.items() if size
    )


def _machines() -> dict[str, str]:
    """Return the machines' titles by name. This machine has one once it was measured."""
    machines = {name: device.short_title for name, device in hardware.DEVICES.items()}
    with contextlib.suppress(ConfigError):  # not yet measured: choosing it shows what to type
        machines["cpu"] = hardware.device("cpu").short_title
    return machines
