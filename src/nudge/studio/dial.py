"""A dial or a fader: it moves in the browser at once, and sends its value here a few times a second."""

from collections.abc import Callable
from typing import Any, Literal

from nicegui.element import Element
from nicegui.events import GenericEventArguments

THROTTLE_S = 0.08


class Dial(Element, component="static/dial.js"):
    """A number between `low` and `high`; a double click sets it back to `rest`.

    `turned` is called after the user turned it, not after `set`. `name` stands below it; screen readers read `label`.
    """

    def __init__(
        self,
        turned: Callable[[], Any],
        *,
        label: str,
        name: str = "",
        kind: Literal["dial", "fader"] = "dial",
        low: float = 0.0,
        high: float = 2.0,
        rest: float = 1.0,
        step: float = 0.05,
        sign: str = "× ",
        classes: str = "",
    ) -> None:
        super().__init__()
        self.value, self.rest = rest, rest
        self._turned = turned
        self.props.update(
            {"kind": kind, "start": rest, "min": low, "max": high, "rest": rest, "step": step}
            | {"sign": sign, "name": name, "label": label}
        )
        if classes:
            self.classes(classes)
        self.on("turn", self._turn, throttle=THROTTLE_S)

    @property
    def moved(self) -> bool:
        """Whether it is away from its rest."""
        return self.value != self.rest

    def set(self, value: float) -> None:
        """Set the value, which may lie outside of its range."""
        if value != self.value:
            self._keep(value)
            self.run_method("set", value)

    def _turn(self, event: GenericEventArguments) -> Any:
        self._keep(float(event.args))
        return self._turned()

    def _keep(self, value: float) -> None:
        self.value = value
        with self.props.suspend_updates():  # only for when the browser draws the dial again
            self.props["start"] = value
