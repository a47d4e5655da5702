"""What every page has around it: the bar with the pages, the run that is looked at, the language and the theme."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from nicegui import ui
from nicegui.element import Element

from nudge.errors import NudgeError
from nudge.studio import words
from nudge.studio.components import box, icon, link, message, shape, svg, text
from nudge.studio.models import Opened
from nudge.studio.visit import Visit, after
from nudge.studio.worker import SupersededError
from nudge.util import formatting

PAGES = ("train", "predict", "inside", "knobs", "weights", "play", "plan", "sheet")  # in the order of the bar


@contextlib.contextmanager
def page(visit: Visit, *, actions: Callable[[], None] | None = None) -> Iterator[Element]:
    """The page around what is built in it. `actions` puts buttons at the right of the title."""
    t = visit.t
    link(t("ui.skip"), "#content", "skip")
    visit.bar = box("top", tag="header")
    show_bar(visit)
    with box(f"page {visit.page}-page", tag="main", id="content"):
        with box("head"):
            with box("gr"):
                text(t(f"{visit.page}.title"), "h", tag="h1")
                visit.subtitle = text(t(f"{visit.page}.sub"), "sub")
            if actions:
                with box("hs"):
                    actions()
        visit.banner = box("banner")
        with box("content") as content:
            yield content


def with_model(visit: Visit, fill: Callable[[Opened], Any]) -> None:
    """Open the model that the address names, then let `fill` build what shows it.

    Reading a checkpoint takes its time, so the page comes first. Whatever goes wrong is said.
    """
    t = visit.t
    if visit.run is None:
        return no_run(visit)
    with box("stack") as place, box("card empty"):
        ui.spinner(size="28px", color=None)
        text(t("ui.opening", run=visit.run), "ink2")

    def refuse(error: NudgeError) -> None:
        place.clear()
        with place:
            message(error.message, error.hint, kind="bad")

    async def load() -> None:
        try:
            opened = await visit.open_model()
            place.clear()
            with place:
                built = fill(opened)
                if inspect.isawaitable(built):
                    await built
        except SupersededError:
            return
        except NudgeError as error:
            refuse(error)
        except Exception as error:
            refuse(visit.bug(error))
            raise

    after(0, load)


def no_run(visit: Visit) -> None:
    """There is nothing to look at yet."""
    t = visit.t
    with box("card empty"):
        text(t("ui.no_run"), "ct", tag="h2")
        text(t("ui.no_run_hint"), "ink2")
        if visit.page != "train":
            link(t("ui.to_train"), visit.href("train"), "q-btn prim")


def show_bar(visit: Visit) -> None:
    """The bar at the top, about the run and the step that are looked at now."""
    t = visit.t
    visit.bar.clear()
    with visit.bar:
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
                    link(name, _set(visit, language=language), "on" if chosen else "", lang=language)
            _theme_switch(visit)


def _mark() -> None:
    with svg(28, 28, style="width:28px;height:28px"):
        shape("rect", x=0, y=0, width=28, height=28, rx=8, fill="var(--accent)")
        shape("circle", cx=10, cy=18, r=4, fill="var(--on-accent)")
        arrow = {"stroke": "var(--on-accent)", "fill": "none", "stroke-linecap": "round", "stroke-linejoin": "round"}
        shape("path", d="M14.5 13.5 L20 8 M15.6 7.6 H20.4 V12.4", **arrow).props["stroke-width"] = 2.2


def _run_chooser(visit: Visit) -> None:
    t = visit.t
    names = [path.name for path in visit.house.models.folders()]
    if not names and visit.run is None:
        return
    with box("runchip", tag="button", type="button", aria_haspopup="menu", aria_label=t("ui.choose_run")):
        box("dot")
        text(visit.run or t("ui.no_run"), "m", tag="span")
        if visit.step is not None:
            text(t("ui.step", step=formatting.whole(visit.step)), "ink3 num", tag="span")
        icon("expand_more", "ink3 chev")
        with ui.menu().props("auto-close no-refocus").classes("runs-menu"):
            for name in names:
                link(name, visit.href(run=name, step=None), "on" if name == visit.run else "", role="menuitem")


def _theme_switch(visit: Visit) -> None:
    t = visit.t
    for shown, theme, name, label in (
        ("when-light", "dark", "dark_mode", t("ui.dark")),
        ("when-dark", "light", "light_mode", t("ui.light")),
    ):
        with link("", _set(visit, theme=theme), f"iconbtn {shown}", aria_label=label, title=label):
            icon(name)


def _set(visit: Visit, **choice: str) -> str:
    """The address that remembers a choice and comes back here."""
    (name, value), *_ = choice.items()
    return f"/set?{name}={quote(value)}&back={quote(visit.here, safe='')}"
