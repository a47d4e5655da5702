"""Knobs: any parameter by its name, any single value of it, and two facts to try."""

from collections.abc import Callable
from functools import partial
from typing import Any

from nicegui import ui

from nudge.errors import ConfigError
from nudge.look import knobs
from nudge.studio.components import box, button, card, entry, pressable, refill, text
from nudge.studio.dial import Dial
from nudge.studio.models import Opened
from nudge.studio.visit import Visit
from nudge.util import formatting

N_SHOWN = 6  # of the values that are set; the others are counted
LOUD = 3.0  # for the biases in the experiment, which are near 0 in a trained network


class AnyParameter:
    """Factors of named parameters and values of single weights. `turned` is called when one has changed."""

    def __init__(self, visit: Visit, opened: Opened, turned: Callable[[], Any]) -> None:
        self.visit, self.opened, self.t = visit, opened, visit.t
        self._turned = turned
        self.factors: dict[str, float] = {}
        self.weights: dict[tuple[str, tuple[int, ...]], float] = {}
        t = self.t
        parameters = knobs.parameters(opened.network)
        self.shapes = {name: tuple(values.shape) for name, values in parameters.items()}
        with card(t("knobs.any"), t("knobs.any_note", n=len(parameters)), "knobs-any"):
            with box("any"):
                self.dial = Dial(self._factor, name=t("knobs.factor"), label=t("knobs.factor"))
                with box("stack"):
                    self._fields()
            self.set_ones = box("found")
            self._facts()
        self._choose()

    def _fields(self) -> None:
        t, handle = self.t, self.visit.handle
        names = list(self.shapes)
        first = next((name for name in names if name.endswith("c_proj.weight")), names[0])
        choose = {"options": names, "value": first, "with_input": True, "on_change": handle(self._choose)}
        self.chosen = entry(ui.select, t("knobs.parameter"), "options-dense", **choose)
        with box("one-value"):
            shown = handle(self._show_trained)
            self.index = entry(ui.input, t("knobs.index"), "debounce=200 maxlength=60", on_change=shown)
            self.value = entry(ui.input, t("knobs.value"), "maxlength=30 inputmode=decimal")
            self.value.on("keydown.enter", handle(self._set))
            button(t("knobs.set"), handle(self._set))
        self.note = text("", "s12 ink3")
        self.wrong = box()

    @property
    def name(self) -> str:
        """Return the chosen parameter; the first one if the field is cleared."""
        return str(self.chosen.value or next(iter(self.shapes)))

    def _choose(self, _: object = None) -> None:
        self.dial.set(self.factors.get(self.name, self.dial.rest))
        self.index.value = ", ".join("0" for _ in self.shapes[self.name])
        self._show_trained()

    def _show_trained(self, _: object = None) -> None:
        self.wrong.clear()
        shape = " × ".join(map(formatting.whole, self.shapes[self.name]))
        try:
            trained = formatting.significant(knobs.value(self.opened.network, self.name, self._where()), 4)
        except ConfigError:  # an index that is still being typed
            trained = "–"
        self.note.text = self.t("knobs.trained", shape=shape, value=trained)

    async def _factor(self) -> None:
        self.factors[self.name] = self.dial.value
        if not self.dial.moved:
            del self.factors[self.name]
        await self._changed()

    async def _set(self) -> None:
        self.wrong.clear()
        try:
            where, value = self._where(), self._value()
            knobs.value(self.opened.network, self.name, where)  # raises if there is no such index
        except ConfigError as error:
            with self.wrong:  # beside the fields: the top of the page may be out of sight
                self.visit.failure(error)
        else:
            self.weights[self.name, where] = value
            await self._changed()

    def _value(self) -> float:
        written = str(self.value.value or "").replace(formatting.MINUS, "-")
        try:
            return float(written)
        except ValueError:
            raise ConfigError("not_a_number", name=self.t("knobs.value"), text=written) from None

    def _where(self) -> tuple[int, ...]:
        """Return the index in the field, such as "3, 17"."""
        parts = [part.strip() for part in str(self.index.value or "").split(",")]
        if not all(part.isdecimal() and len(part) < 10 for part in parts):
            raise ConfigError("not_an_index", text=str(self.index.value), n=len(self.shapes[self.name]))
        return tuple(map(int, parts))

    async def _biases(self, part: int) -> None:
        """Set the query biases (part 0) or the key biases (part 1) of the first head."""
        C, n_head = self.opened.network.config.n_embd, self.opened.network.config.n_head
        self.weights = {("blocks.0.attn.c_attn.bias", (n,)): LOUD for n in range(part * C, part * C + C // n_head)}
        await self._changed()

    async def _forget_factor(self, name: str) -> None:
        del self.factors[name]
        if name == self.name:
            self.dial.set(self.dial.rest)
        await self._changed()

    async def _forget_weight(self, key: tuple[str, tuple[int, ...]]) -> None:
        del self.weights[key]
        await self._changed()

    async def _forget_the_rest(self) -> None:
        self.weights = dict(list(self.weights.items())[:N_SHOWN])
        await self._changed()

    def reset(self) -> None:
        """Set everything as trained."""
        self.factors.clear()
        self.weights.clear()
        self.dial.set(self.dial.rest)
        self._show_set()

    async def _changed(self) -> None:
        self._show_set()
        await self._turned()

    @property
    def moved(self) -> dict[str, int]:
        return {"parameters": len(self.factors), "weights": len(self.weights)}

    def _show_set(self) -> None:
        """Show each value that is not as trained, with a button to reset it."""
        with refill(self.set_ones):
            for name, factor in self.factors.items():
                self._pick(f"{name} × {formatting.fixed(factor)}", partial(self._forget_factor, name))
            for (name, where), value in list(self.weights.items())[:N_SHOWN]:
                label = f"{name}[{', '.join(map(str, where))}] = {value:.6g}".replace("-", formatting.MINUS)
                self._pick(label, partial(self._forget_weight, (name, where)))
            if (n_more := len(self.weights) - N_SHOWN) > 0:
                self._pick(self.t("knobs.more_weights", n=n_more), self._forget_the_rest)

    def _pick(self, label: str, forget: Callable[[], Any]) -> None:
        title = self.t("knobs.forget", name=label)
        pressable(self.visit.handle(forget), f"{label} ✕", "pick", title=title, aria_label=title)

    def _facts(self) -> None:
        t, config = self.t, self.opened.network.config
        with box("facts"):
            if not config.untied:
                text(t("knobs.two_knobs"), "s13 ink2")
            if not config.rotary:  # which rotates keys by their position, biases included
                text(t("knobs.key_bias", value=formatting.whole(LOUD)), "s13 ink2")
                with box("hs wrap"):
                    for key, part in (("knobs.set_keys", 1), ("knobs.set_queries", 0)):
                        button(t(key), self.visit.handle(partial(self._biases, part)), kind="ghost small")
