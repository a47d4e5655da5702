"""The parts that pages are made of. Text only ever goes in as text: never as HTML, markdown or a template.

Two ways in are dangerous and not used with anything a model, a file or a person wrote: props whose names begin with ":"
are run as JavaScript (so are such keys in the options of a chart), and the tooltips of charts are HTML unless their
renderMode is "richText" (charts.py sees to it).
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

Action = Callable[..., Any]
Some = TypeVar("Some", bound=Element)


def box(classes: str = "", *, tag: str = "div", style: str = "", **attributes: Any) -> Element:
    """An element to put others into: `with box("card"):`."""
    return _dressed(ui.element(tag), classes, style, attributes)


def text(value: object, classes: str = "", *, tag: str = "div", style: str = "", **attributes: Any) -> TextElement:
    """A piece of text."""
    element = TextElement(tag=tag, text=str(value))
    _dressed(element, classes, style, attributes)
    return element


def _dressed(element: Element, classes: str, style: str, attributes: Mapping[str, Any]) -> Element:
    if classes:
        element.classes(classes)
    if style:
        element.style(style)
    for name, value in attributes.items():  # aria_label="..." -> aria-label; values are taken as they are
        element.props[name.rstrip("_").replace("_", "-")] = value
    return element


def refill(place: Element) -> Element:
    """A place without what was in it, to put something else there: `with refill(place):`."""
    place.clear()
    return place


def mark(element: Element, on: bool, name: str = "on", *, off: str = "", aria: str = "") -> None:
    """Give an element a class, or take it away and give it `off`; `aria` is the state that says the same."""
    element.classes(add=name if on else off, remove=off if on else name)
    if aria:
        element.props[f"aria-{aria}"] = "true" if on else "false"


def named(element: Some, label: str, props: str = "") -> Some:
    """Something to fill in or to slide, with the name that is read aloud, and Quasar's `props`."""
    element.props(props).props["aria-label"] = label
    return element


def link(label: object, href: str, classes: str = "", **attributes: Any) -> TextElement:
    """A real link: it works without a script and can be opened in another tab."""
    return text(label, classes, tag="a", href=href, **attributes)


def icon(name: str, classes: str = "") -> Element:
    """One of the Material icons that come with the page; it says nothing by itself."""
    element = ui.icon(name).classes(classes)
    element.props["aria-hidden"] = "true"
    return element


def button(
    label: str, action: Action | None = None, *, kind: str = "ghost", icon: str | None = None, **attributes: Any
) -> ui.button:
    """A button. Kinds: `prim` (the one that matters), `ghost`, `quiet`."""
    element = ui.button(label, icon=icon, color=None, on_click=action).props("no-caps unelevated").classes(kind)
    _dressed(element, "", "", attributes)
    return element


def slider(label: str, slid: Action, *, width: int, last: int = 1, at: int = 0) -> ui.slider:
    """A slider over 0 .. `last`, so many pixels wide, with its name before it; `slid` gets the event."""
    text(label, "s13 m")
    with box("slw", style=f"width:{width}px"):
        return named(ui.slider(min=0, max=last, value=at, on_change=slid), label)


@contextlib.contextmanager
def card(
    title: str = "", note: str = "", classes: str = "", *, right: Action | None = None, style: str = ""
) -> Iterator[Element]:
    """A surface with a title, a quiet note beside it, and something at its right end."""
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
def field(label: str, classes: str = "") -> Iterator[Element]:
    """A label above what it names."""
    with box(f"fld {classes}", tag="label") as element:
        text(label, "l", tag="span")
        yield element


def choice(
    options: Mapping[str, str] | Sequence[str], chosen: str, action: Action, *, label: str, classes: str = ""
) -> Callable[[str], None]:
    """A row of options of which one is on. `action` gets the new one's key; returns a function that turns one on."""
    named = options if isinstance(options, Mapping) else {option: option for option in options}
    buttons: dict[str, Element] = {}

    def turn_on(key: str) -> None:
        for other, element in buttons.items():
            mark(element, other == key, aria="checked")

    def picked(key: str) -> Any:
        turn_on(key)
        return action(key)

    with box(f"seg {classes}", role="radiogroup", aria_label=label):
        for key, shown in named.items():
            buttons[key] = text(shown, tag="button", type="button", role="radio")
            buttons[key].on("click", lambda key=key: picked(key))
    turn_on(chosen)
    return turn_on


def shape_of(shape: tuple[int, ...]) -> str:
    """(24000, 384) -> [24000, 384]"""
    return f"[{', '.join(map(str, shape))}]"


def legend(*items: tuple[str, str, str]) -> None:
    """What colours mean: (label, CSS colour, shape). Shapes: line, dot, square, dash, hatch."""
    with box("legend"):
        for label, color, shape in items:
            with box("k"):
                box(f"sw {shape}", style="" if shape == "hatch" else f"background:{color};border-color:{color}")
                text(label, tag="span")


def pairs(*rows: tuple[str, object], classes: str = "") -> list[TextElement]:
    """Names at the left, values at the right; returns the elements of the values."""
    with box(f"kv {classes}", tag="dl"):
        values = []
        for name, value in rows:
            text(name, tag="dt")
            values.append(text(value, tag="dd"))
    return values


def bar(share: float, classes: str = "", *, style: str = "") -> Element:
    """A horizontal bar as long as `share` of its place (0 .. 1)."""
    width = f"{100 * min(1.0, max(0.0, share)):.2f}%"
    return box(f"fg {classes}", style=f"width:{width};{style}")


def message(
    what: str,
    hint: str = "",
    *,
    kind: str = "note",
    more: Action | None = None,
    close: Action | None = None,
    close_label: str = "",
) -> None:
    """Something a person should know. Kinds: note, bad. `more` puts something below it."""
    with box(f"message {kind}", role="alert" if kind == "bad" else "status"):
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
    """A picture made by pictures.py. `alt` says what it shows."""
    return box(classes, tag="img", style=style, src=source, alt=alt, **attributes)


def svg(width: float, height: float, classes: str = "", *, style: str = "") -> Element:
    """A drawing; put `shape`s into it."""
    return box(classes, tag="svg", style=style, viewBox=f"0 0 {width} {height}", aria_hidden="true")


def shape(tag: str, **attributes: Any) -> Element:
    """A part of a drawing: `shape("circle", cx=10, cy=18, r=4, fill="var(--accent)")`."""
    return box(tag=tag, **attributes)
