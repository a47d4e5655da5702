"""A dial or a fader: it moves in the browser at once, and sends its value to the server a few times a second."""

from collections.abc import Callable
from typing import Any

from nicegui.element import Element
from nicegui.events import GenericEventArguments

THROTTLE_S = 0.08
_PROPS = {"kind": "dial", "name": "", "min": 0.0, "max": 2.0, "rest": 1.0, "step": 0.05, "sign": "× "}


class Dial(Element, component="static/dial.js"):
    """A number that the user turns; a double click sets it back to `rest`.

    `turned` is called after the user turned it, not after `set`. Screen readers read `label`. `props` are options of
    dial.js, by default _PROPS.
    """

    def __init__(self, turned: Callable[[], Any], *, label: str, classes: str = "", **props: Any) -> None:
        super().__init__()
        props = {**_PROPS, **props}
        self.value = self.rest = props["rest"]
        self._turned = turned
        self.props.update({**props, "start": self.rest, "label": label})
        self.classes(classes)
        self.on("turn", self._turn, throttle=THROTTLE_S)

    @property
    def moved(self) -> bool:
        """Return whether the value is not `rest`."""
        return self.value != self.rest

    def set(self, value: float) -> None:
        """Set the value, which may be out of range."""
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
