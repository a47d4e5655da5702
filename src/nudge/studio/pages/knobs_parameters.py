"""Knobs: any parameter by its name, any single value of it, and two facts to try."""

from collections.abc import Callable
from functools import partial
from typing import Any

from nicegui import ui

from nudge.errors import ConfigError
from nudge.look import knobs
from nudge.studio.components import box, button, card, field, message, named, refill, text
from nudge.studio.dial import Dial
from nudge.studio.models import Opened
from nudge.studio.visit import Visit
from nudge.util import formatting

N_SHOWN = 6  # of what is set; the others are counted
LOUD = 3.0  # what the experiment sets biases to, which are near 0 in a trained network


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
        with card(t("knobs.any"), t("knobs.any_note", n=formatting.whole(len(parameters))), "knobs-any"):
            with box("any"):
                self.dial = Dial(self._factor, name=t("knobs.factor"), label=t("knobs.factor"))
                with box("stack"):
                    self._choose_fields()
                    self._value_fields()
            self.set_ones = box("found")
            self._facts()
        self._choose()

    def _choose_fields(self) -> None:
        with box("fld"):
            text(self.t("knobs.parameter"), "l")
            names = list(self.shapes)
            first = next((name for name in names if name.endswith("c_proj.weight")), names[0])
            select = ui.select(names, value=first, with_input=True, on_change=self.visit.handle(self._choose))
            self.chosen = named(select, self.t("knobs.parameter"), "outlined dense options-dense")

    def _value_fields(self) -> None:
        t = self.t
        with box("one-value"):
            with field(t("knobs.index")):
                index = ui.input(on_change=self.visit.handle(self._show_trained))
                self.index = named(index, t("knobs.index"), "outlined dense debounce=200 maxlength=60")
            with field(t("knobs.value")):
                self.value = named(ui.input(), t("knobs.value"), "outlined dense maxlength=30 inputmode=decimal")
                self.value.on("keydown.enter", self.visit.handle(self._set))
            button(t("knobs.set"), self.visit.handle(self._set))
        self.note = text("", "s12 ink3")
        self.wrong = box()

    # What the person does.

    @property
    def name(self) -> str:
        """The parameter that is looked at; a cleared field leaves none, and then it is the first."""
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
        self._show_set()
        await self._turned()

    async def _set(self) -> None:
        self.wrong.clear()
        try:
            where, value = self._where(), self._value()
            knobs.value(self.opened.network, self.name, where)  # says whether there is such an index
        except ConfigError as error:
            with self.wrong:  # beside the fields: the top of the page may be out of sight
                message(error.message, error.hint, kind="bad")
        else:
            self.weights[self.name, where] = value
            await self._changed()

    def _value(self) -> float:
        written = str(self.value.value or "").replace(formatting.MINUS, "-")
        try:
            return float(written)
        except ValueError:
            raise ConfigError(self.t("knobs.no_number", text=written), self.t("knobs.no_number_hint")) from None

    def _where(self) -> tuple[int, ...]:
        """The index as it is written: 3, 17"""
        parts = [part.strip() for part in str(self.index.value or "").split(",")]
        if not all(part.isdecimal() and len(part) < 10 for part in parts):
            raise ConfigError(
                self.t("knobs.no_index", text=str(self.index.value)),
                self.t("knobs.no_index_hint", n=len(self.shapes[self.name])),
            )
        return tuple(map(int, parts))

    async def _biases(self, part: int) -> None:
        """Set the biases of what the first head reads with (0, the query) or is found by (1, the key)."""
        C, n_head = self.opened.network.config.n_embd, self.opened.network.config.n_head
        self.weights = {("blocks.0.attn.c_attn.bias", (n,)): LOUD for n in range(part * C, part * C + C // n_head)}
        await self._changed()

    async def _forget(self, key: str | tuple[str, tuple[int, ...]]) -> None:
        if isinstance(key, str):
            del self.factors[key]
            if key == self.name:
                self.dial.set(self.dial.rest)
        else:
            del self.weights[key]
        await self._changed()

    async def _forget_the_rest(self) -> None:
        self.weights = dict(list(self.weights.items())[:N_SHOWN])
        await self._changed()

    def reset(self) -> None:
        """Everything as trained."""
        self.factors.clear()
        self.weights.clear()
        self.dial.set(self.dial.rest)
        self._show_set()

    async def _changed(self) -> None:
        self._show_set()
        await self._turned()

    # What is shown.

    @property
    def moved(self) -> dict[str, int]:
        return {"parameters": len(self.factors), "weights": len(self.weights)}

    def _show_set(self) -> None:
        """What is not as trained, each with a way back."""
        with refill(self.set_ones):
            for name, factor in self.factors.items():
                self._pick(f"{name} × {formatting.fixed(factor)}", partial(self._forget, name))
            for (name, where), value in list(self.weights.items())[:N_SHOWN]:
                label = f"{name}[{', '.join(map(str, where))}] = {value:.6g}".replace("-", formatting.MINUS)
                self._pick(label, partial(self._forget, (name, where)))
            if (n_more := len(self.weights) - N_SHOWN) > 0:
                self._pick(self.t("knobs.more_weights", n=formatting.whole(n_more)), self._forget_the_rest)

    def _pick(self, label: str, forget: Callable[[], Any]) -> None:
        said = self.t("knobs.forget", name=label)
        pick = text(f"{label} ✕", "pick", tag="button", type="button", title=said, aria_label=said)
        pick.on("click", self.visit.handle(forget))

    def _facts(self) -> None:
        t, config = self.t, self.opened.network.config
        with box("facts"):
            if not config.untied:
                text(t("knobs.two_knobs"), "s13 ink2")
            if not config.rotary:  # which turns keys by their position, biases too
                text(t("knobs.key_bias", value=formatting.whole(LOUD)), "s13 ink2")
                with box("hs wrap"):
                    button(t("knobs.set_keys"), self.visit.handle(partial(self._biases, 1)), kind="ghost small")
                    button(t("knobs.set_queries"), self.visit.handle(partial(self._biases, 0)), kind="ghost small")
