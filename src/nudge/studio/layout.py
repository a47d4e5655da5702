"""The bar at the top of every page: the pages, the run, the language and the theme."""

from urllib.parse import quote

from nicegui import ui

from nudge.studio import words
from nudge.studio.components import box, icon, link, refill, shape, svg, text
from nudge.studio.visit import Visit

PAGES = ("train", "predict", "inside", "knobs", "weights", "play", "plan", "sheet")  # in the order of the bar


def show_bar(visit: Visit) -> None:
    """Draw the bar for the run and the step of the visit."""
    t = visit.t
    with refill(visit.bar):
        with link("", visit.href("train"), "brand", aria_label="nudge"):
            _mark()
            text("nudge", tag="span")
        with box("nav", tag="nav", aria_label=t("ui.pages")):
            for name in PAGES:
                here = {"aria_current": "page"} if name == visit.page else {}
                link(t(f"nav.{name}"), visit.href(name), **here)
        box("gr")
        _run_chooser(visit)
        with box("hs", style="gap:8px"):
            with box("seg", role="group", aria_label=t("ui.language")):
                for language, name in words.LANGUAGES.items():
                    chosen = language == visit.language
                    link(name, _set(visit, "language", language), "on" if chosen else "", lang=language)
            _theme_switch(visit)


def readdress(visit: Visit, address: str | None = None) -> None:
    """Change the page's address, to `visit.here` unless given, and update the bar."""
    ui.navigate.history.replace(address or visit.here)
    show_bar(visit)


def _mark() -> None:
    with svg(28, 28, style="width:28px;height:28px"):
        shape("rect", x=0, y=0, width=28, height=28, rx=8, fill="var(--accent)")
        shape("circle", cx=10, cy=18, r=4, fill="var(--on-accent)")
        arrow = {"stroke": "var(--on-accent)", "fill": "none", "stroke-linecap": "round", "stroke-linejoin": "round"}
        shape("path", d="M14.5 13.5 L20 8 M15.6 7.6 H20.4 V12.4", stroke_width=2.2, **arrow)


def _run_chooser(visit: Visit) -> None:
    t = visit.t
    names = [path.name for path in visit.app.models.folders()]
    if not names and visit.run is None:
        return
    with box("runchip", tag="button", type="button", aria_haspopup="menu", aria_label=t("ui.choose_run")):
        box("dot")
        text(visit.run or t("ui.no_run"), "m", tag="span")
        if visit.step is not None:
            text(t("ui.step", step=visit.step), "ink3 num", tag="span")
        icon("expand_more", "ink3 chev")
        with ui.menu().props("auto-close no-refocus").classes("runs-menu"):
            for name in names:
                link(name, visit.href(run=name, step=None), "on" if name == visit.run else "", role="menuitem")


def _theme_switch(visit: Visit) -> None:
    for now, theme in (("light", "dark"), ("dark", "light")):
        label = visit.t(f"ui.{theme}")
        with link("", _set(visit, "theme", theme), f"iconbtn when-{now}", aria_label=label, title=label):
            icon(f"{theme}_mode")


def _set(visit: Visit, name: str, value: str) -> str:
    """Return the address that stores a choice in the browser and comes back here."""
    return f"/set?{name}={quote(value)}&back={quote(visit.here, safe='')}"
