"""Sheet: the choice of the sheet and of the language of its notes. Every choice is an address."""

import shlex

from nudge.sheet.catalog import NAMES
from nudge.studio import words
from nudge.studio.components import box, card, link, text
from nudge.studio.sheets import SheetRef
from nudge.studio.visit import Visit

_LANGUAGES = {"ko": words.LANGUAGES["ko"], "en": "English"}


def choices(visit: Visit, ref: SheetRef) -> None:
    """Add the sheets and the languages, with the current ones marked."""
    t = visit.t
    with card():
        with box("sheets", tag="nav", aria_label=t("sheet.sheets")):
            for name in NAMES:
                _sheet(visit, name, is_on=name == ref.what)
        box("hr")
        with box("hs between wrap"):
            text(t("sheet.language"), "s13 ink2 m", id="notes-language")
            with box("seg", role="group", aria_labelledby="notes-language"):
                for language, shown in _LANGUAGES.items():
                    is_on = {"aria_current": "true"} if language == ref.language else {}
                    on = "on" if is_on else ""
                    link(shown, visit.href(what=ref.what, lang=language), on, lang=language, **is_on)
    with box("terminal"):
        text(t("sheet.terminal"), "s12 ink3")
        with box("mono s12", tag="code"):
            text(_command(visit, ref), tag="span")
            text(f" --lang {ref.language}", "nw", tag="span")


def _sheet(visit: Visit, name: str, *, is_on: bool) -> None:
    t = visit.t
    if name == "run" and visit.run is None:
        with box("sheet-link"):
            text(t("sheet.name.run"), "m ink3")
            text(t("ui.no_run"), "s12 ink3")
        return
    here = {"aria_current": "true"} if is_on else {}
    with link("", visit.href(what=name), "sheet-link", **here):
        with box("hs", tag="span"):
            text(t(f"sheet.name.{name}"), "m", tag="span")
            if name == "run":
                text(visit.run, "mono s12 ink2 cut", tag="span")
        text(t(f"sheet.about.{name}"), "s12 ink2", tag="span")


def _command(visit: Visit, ref: SheetRef) -> str:
    run = f" {shlex.quote(str(visit.app.models.runs / visit.run))}" if ref.what == "run" and visit.run else ""
    return f"nudge sheet {ref.what}{run}"
