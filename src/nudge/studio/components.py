"""The components of pages. Text is always set as text: never as HTML, Markdown or a template.

Two other ways in are dangerous, so nothing that a model, a file or a user wrote goes there: props whose names begin
with ":" are run as JavaScript (so are such keys in the options of a chart), and the tooltips of charts are HTML unless
their renderMode is "richText" (see charts.py).
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

Action = Callable[..., Any]
Some = TypeVar("Some", bound=Element)


def box(classes: str = "", *, tag: str = "div", style: str = "", **attributes: Any) -> Element:
    """Add an element that contains others: `with box("card"):`."""
    return _add_attributes(ui.element(tag), classes, style, attributes)


def text(value: object, classes: str = "", *, tag: str = "div", style: str = "", **attributes: Any) -> TextElement:
    """Add a piece of text."""
    return _add_attributes(TextElement(tag=tag, text=str(value)), classes, style, attributes)


def _add_attributes(element: Some, classes: str, style: str, attributes: Mapping[str, Any]) -> Some:
    if classes:
        element.classes(classes)
    if style:
        element.style(style)
    for name, value in attributes.items():  # aria_label="..." -> aria-label; values are taken as they are
        element.props[name.rstrip("_").replace("_", "-")] = value
    return element


def refill(place: Element) -> Element:
    """Clear an element to fill it again: `with refill(place):`."""
    place.clear()
    return place


def mark(element: Element, on: bool, name: str = "on", *, aria: str = "") -> None:
    """Add a class to an element or remove it; `aria` names the state that changes with it."""
    element.classes(**{"add" if on else "remove": name})
    if aria:
        state(element, aria, on)


def state(element: Element, name: str, on: bool) -> None:
    """Set one of an element's ARIA states, such as expanded."""
    element.props[f"aria-{name}"] = "true" if on else "false"


def named(element: Some, label: str, props: str = "") -> Some:
    """Give a control the name that screen readers read, and Quasar's `props`."""
    element.props(props).props["aria-label"] = label
    return element


def link(label: object, href: str, classes: str = "", **attributes: Any) -> TextElement:
    """Add a real link: it works without a script and can be opened in another tab."""
    return text(label, classes, tag="a", href=href, **attributes)


def icon(name: str, classes: str = "") -> Element:
    """Add one of the Material icons that come with NiceGUI, hidden from screen readers."""
    return _add_attributes(ui.icon(name), classes, "", {"aria_hidden": "true"})


def button(
    label: str, action: Action | None = None, *, kind: str = "ghost", icon: str | None = None, **attributes: Any
) -> ui.button:
    """Add a button. Kinds: `prim` (the main action), `ghost`, `quiet`."""
    element = ui.button(label, icon=icon, color=None, on_click=action).props("no-caps unelevated")
    return _add_attributes(element, kind, "", attributes)


def pressable(action: Action, label: object = "", classes: str = "", **attributes: Any) -> TextElement:
    """Add an element that can be pressed like a button: a token, a bar, a row."""
    element = text(label, classes, tag="button", type="button", **attributes)
    element.on("click", action, args=[])
    return element


def slider(label: str, slid: Action, *, width: int, last: int = 1, at: int = 0) -> ui.slider:
    """Add a slider over 0 .. `last` with its name before it. `width`: in pixels."""
    text(label, "s13 m")
    with box("slw", style=f"width:{width}px"):
        return named(ui.slider(min=0, max=last, value=at, on_change=slid), label)


@contextlib.contextmanager
def card(
    title: str = "", note: str = "", classes: str = "", *, right: Action | None = None, style: str = ""
) -> Iterator[Element]:
    """Add a card with a title and a quiet note beside it. `right` adds elements at the right end of the title."""
    with box(f"card {classes}", tag="section", style=style) as element:
        if title:
            with box("ch"):
                text(title, "ct", tag="h2")
                if note:
                    text(note, "s12 ink3")
                if right:
                    box("gr")
                    right()
        yield element


@contextlib.contextmanager
def empty_card(title: str, note: str = "", classes: str = "") -> Iterator[Element]:
    """Add a card for a page that has nothing to show yet."""
    with box(f"card empty {classes}") as element:
        text(title, "ct", tag="h2")
        if note:
            text(note, "ink2")
        yield element


@contextlib.contextmanager
def field(label: str, classes: str = "", *, tag: str = "label") -> Iterator[Element]:
    """Add a label above an element. Use a `tag` of "div" if the element is not an input."""
    with box(f"fld {classes}", tag=tag) as element:
        text(label, "l", tag="span")
        yield element


def entry(kind: Callable[..., Some], label: str, props: str = "", **settings: Any) -> Some:
    """Add an input below its label. `kind` is NiceGUI's, such as ui.select; `settings` are its arguments."""
    with field(label):
        return named(kind(**settings), label, f"outlined dense {props}")


class Number(ui.number):
    """A field for a number. It keeps what the user typed: NiceGUI's own moves it into the limits without a word."""

    def sanitize(self) -> None:
        """Change nothing. The server checks the number, and says what is wrong with it."""


def choice(
    options: Mapping[str, str], chosen: str, action: Action, *, label: str, classes: str = ""
) -> Callable[[str], None]:
    """Add a row of options, one of which is on. `action` gets its key. Return a function that turns an option on."""
    buttons: dict[str, Element] = {}

    def turn_on(key: str) -> None:
        for other, element in buttons.items():
            mark(element, other == key, aria="checked")

    def picked(key: str) -> Any:
        turn_on(key)
        return action(key)

    with box(f"seg {classes}", role="radiogroup", aria_label=label):
        for key, shown in options.items():
            buttons[key] = pressable(lambda key=key: picked(key), shown, role="radio")
    turn_on(chosen)
    return turn_on


def shape_of(shape: tuple[int, ...]) -> str:
    """Format a shape: (24000, 384) -> [24000, 384]."""
    return f"[{', '.join(map(str, shape))}]"


def legend(*items: tuple[str, str, str]) -> None:
    """Explain colors: (label, CSS color, shape). Shapes: line, dot, square, dash, cross."""
    with box("legend"):
        for label, color, shape in items:
            with box("k"):
                box(f"sw {shape}", style=f"background:{color};border-color:{color}")
                text(label, tag="span")


def pairs(*rows: tuple[str, object], classes: str = "") -> list[TextElement]:
    """Add names at the left and values at the right. Return the elements of the values."""
    with box(f"kv {classes}", tag="dl"):
        values = []
        for name, value in rows:
            text(name, tag="dt")
            values.append(text(value, tag="dd"))
    return values


def figure(name: str, value: str, classes: str, note: str = "", **attributes: Any) -> None:
    """Add a name above its value, in a <dl>."""
    with box():
        text(name, "s12 ink3", tag="dt", title=name)
        text(value, classes, tag="dd", **attributes)
        if note:
            text(note, "s12 ink3 nw", tag="dd")


@contextlib.contextmanager
def table(*heads: str, classes: str = "") -> Iterator[Element]:
    """Add a table with these column heads; the block adds its rows."""
    with box(classes, tag="table"):
        with box(tag="thead"), box(tag="tr"):
            for head in heads:
                text(head, tag="th", scope="col")
        with box(tag="tbody") as body:
            yield body


def bar(share: float, classes: str = "", *, style: str = "") -> Element:
    """Add a horizontal bar as long as `share` of its place (0 .. 1)."""
    width = f"{100 * min(1.0, max(0.0, share)):.2f}%"
    return box(f"fg {classes}", style=f"width:{width};{style}")


def track(share: float, classes: str = "", *, place: str = "bg", style: str = "") -> None:
    """Add a bar in a separate box."""
    with box(place, style=style):
        bar(share, classes)


def diverging(value: float, largest: float, looks: tuple[str, str], *, places: tuple[str, str]) -> None:
    """Add a bar to the left of the middle for a value below 0, to the right for a value above 0."""
    for part, look, place in zip((-value, value), looks, places, strict=True):
        with box(place):
            if part > 0:
                bar(part / largest, look)


def message(
    what: str,
    hint: str = "",
    *,
    kind: str = "note",
    code: str = "",
    more: Action | None = None,
    close: Action | None = None,
    close_label: str = "",
) -> None:
    """Add a message. Kinds: note, bad. `code`: of an error. `more` adds something below it."""
    with box(f"message {kind}", role="alert" if kind == "bad" else "status", data_code=code):
        icon("error_outline" if kind == "bad" else "info", "mi")
        with box("gr"):
            text(what, "m")
            if hint:
                text(hint, "ink2 s13")
            if more:
                more()
        if close:
            button("", close, kind="quiet small", icon="close", aria_label=close_label)


def image(source: str, classes: str = "", *, alt: str, style: str = "", **attributes: Any) -> Element:
    """Add a picture made by pictures.py. `alt` describes it."""
    return box(classes, tag="img", style=style, src=source, alt=alt, **attributes)


def svg(width: float, height: float, classes: str = "", *, style: str = "") -> Element:
    """Add a drawing; put `shape`s into it."""
    return box(classes, tag="svg", style=style, viewBox=f"0 0 {width} {height}", aria_hidden="true")


def shape(tag: str, **attributes: Any) -> Element:
    """Add a part of a drawing: `shape("circle", cx=10, cy=18, r=4, fill="var(--accent)")`."""
    return box(tag=tag, **attributes)
