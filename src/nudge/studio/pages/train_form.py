"""Train: the form of a new run, and the forecast of its cost."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from nicegui import ui

from nudge import config as configs
from nudge.config import Config, DataConfig
from nudge.data import named_texts
from nudge.data.named_texts import NamedText
from nudge.data.prepare import find_text
from nudge.errors import ConfigError, NudgeError
from nudge.estimate.forecast import Forecast
from nudge.recipes import recipe
from nudge.studio.components import bar, box, button, card, entry, link, pairs, pressable, refill, text
from nudge.studio.recipe_choice import recipe_choice
from nudge.studio.visit import Visit
from nudge.util import formatting

REST_S = 0.8  # the form is measured when it did not change for so long
_NUMBERS: dict[str, tuple[str, Callable[[Any], str]]] = {  # field: (its setting, the format of its default)
    "steps": ("train.steps", formatting.whole),
    "seed": ("seed", str),
    "batch_tokens": ("train.batch_tokens", formatting.whole),
    "lr": ("train.lr", "{:g}".format),
}


class Form:
    """The form of a new run. `started` is called with the name of a run that begins."""

    def __init__(self, visit: Visit, started: Callable[[str], None]) -> None:
        self.visit, self.launcher, self.started, self.t = visit, visit.app.launcher, started, visit.t
        self.busy = False  # another run is going on, so that measuring would disturb it
        self._filling = False
        self._changes = 0
        t = self.t
        with card(t("train.new_run"), classes="form") as whole:
            with box("vs", style="gap:16px"):
                self._fields()
            box("hr", style="margin:24px 0 16px")
            self._forecast_place()
            self.wrong = box("wrong", aria_live="polite")
            button(t("train.start"), visit.handle(self._start), kind="prim full")
        self._fill(recipe(self.recipe.value))
        whole.on("focusin", self._first_touch)

    def _fields(self) -> None:
        t = self.t
        options = recipe_choice(t.language)
        self.recipe = entry(ui.select, t("train.recipe"), options=options, value="tiny", on_change=self._other_recipe)
        self.data = self._entry("data", "maxlength=4000 spellcheck=false clearable")
        self.data_note = text("", "s12 ink3 data-note")
        with box("found names", role="group", aria_label=t("train.data_names")):
            for name, named in named_texts.table(t.language).items():
                choose = self.visit.handle(partial(self.data.set_value, name))
                pressable(choose, name, "pick", title=_describe_named(named, self.visit))
        with box("grid halves"):
            self.entries = {name: self._entry(name, "maxlength=24") for name in _NUMBERS}
        self.name = self._entry("name", "maxlength=100 spellcheck=false")

    def _entry(self, name: str, props: str) -> ui.input:
        props = f"debounce=200 name={name} {props}"
        return entry(ui.input, self.t(f"train.{name}"), props, on_change=self._changed)

    def _forecast_place(self) -> None:
        t = self.t
        with box("hs between forecast-head"):
            text(t("train.forecast"), "b s13", tag="h3")
            self.how = text("", "s12 ink3 right", aria_live="polite")
            self.measure_button = button(t("train.measure"), self.visit.handle(self._measure), kind="quiet small")
        self.time, self.speed, self.memory = pairs(
            (t("train.time"), "–"), (t("train.speed"), "–"), (t("train.memory"), "–"), classes="forecast"
        )
        with box("bar", style="margin-top:12px"):
            self.share = bar(0, style="background:var(--accent)")
        self.elsewhere = link(t("train.elsewhere"), self.visit.href("plan", recipe="tiny", gpu="4090"), "elsewhere s12")

    def _fill(self, config: Config) -> None:
        """Fill in the recipe's own values."""
        values = configs.flatten(configs.to_dict(config))
        self._filling = True
        for name, (setting, written) in _NUMBERS.items():
            self.entries[name].value = written(values[setting])
        own = "train.data_own" if config.data.paths else "train.data_default"
        self.data.props["placeholder"] = self.t(own)
        self.name.value = self.launcher.free_name(config.recipe)
        self._filling = False

    def _other_recipe(self) -> None:
        self._fill(recipe(self.recipe.value))
        self._changed()

    def _first_touch(self) -> None:
        if not self._changes:
            self._changed()

    async def begin(self) -> None:
        """Measure at once, because a user without a run needs the form."""
        if not self._changes:
            await self._rest(0)

    def _changed(self) -> None:
        if self._filling:
            return
        self._changes += 1
        changes = self._changes
        with self.wrong.client.content:
            ui.timer(REST_S, lambda: self._rest(changes), once=True)

    def config(self) -> Config:
        """Return the form as a config. Raises: ConfigError."""
        settings = []
        for name, (setting, _) in _NUMBERS.items():
            value = (self.entries[name].value or "").replace(",", "").replace("_", "").strip()
            if not value:
                raise ConfigError("empty_field", field=self.t(f"train.{name}"))
            settings.append(f"{setting}={value}")
        config = configs.override(recipe(self.recipe.value), configs.parse_settings(settings))
        if path := (self.data.value or "").strip():
            config = configs.override(config, {"data": {"paths": (path,)}})
        configs.check(config)
        return config

    async def _checked(self) -> tuple[Config, str, str]:
        """Return the form as a config, the run's name, and a note about its text. Raises: NudgeError's children."""
        config, name = self.config(), (self.name.value or "").strip()
        self.launcher.check_name(name)
        return config, name, await asyncio.to_thread(_describe_text, config, self.visit)

    async def _rest(self, changes: int) -> None:
        """Show what is wrong with the form, or else its forecast. After each wait the form may have changed."""
        if changes != self._changes:
            return
        self.wrong.clear()
        self.data_note.text = ""
        try:
            config, _, note = await self._checked()
        except NudgeError as error:
            self._refuse(error, changes)
            return
        if changes != self._changes:
            return
        self.data_note.text = note
        tokens = config.train.steps * config.train.batch_tokens
        self.elsewhere.props["href"] = self.visit.href("plan", recipe=config.recipe, tokens=tokens, gpu="4090")
        if known := self.launcher.known_forecast(config):
            self._show_forecast(config, known)
            return
        self._clear_forecast()
        if not self.busy:
            await self._measure()

    def _refuse(self, error: NudgeError, changes: int) -> None:
        """Show an error of the form and clear its forecast, unless the form has changed since `changes`."""
        if changes == self._changes:
            self._clear_forecast()
            with refill(self.wrong):
                self.visit.failure(error)

    async def _measure(self) -> None:
        config, changes = self.config(), self._changes
        self.measure_button.set_visibility(False)
        self.how.text = self.t("train.measuring")
        try:
            found = await self.launcher.forecast(config, keep=not self.busy)
        except NudgeError as error:
            self._refuse(error, changes)
            return
        if changes == self._changes:
            self._show_forecast(config, found)

    def _clear_forecast(self) -> None:
        self.measure_button.set_visibility(True)
        self.how.text = self.t("train.not_measured") if self.busy else ""
        self.time.text = self.speed.text = self.memory.text = "–"
        self.share.style("width:0")

    def _show_forecast(self, config: Config, found: Forecast) -> None:
        t = self.t
        self.measure_button.set_visibility(False)
        about = "{}" if found.measured else t("train.about")
        took = formatting.duration(found.took_s, t.language)
        self.how.text = t("train.rehearsed", took=took) if found.measured else t("train.computed")
        if self.busy and found is not self.launcher.known_forecast(config):
            self.how.text = t("train.disturbed")
        self.time.text = about.format(formatting.duration(found.total_s(config), t.language))
        speed = formatting.significant(found.tokens_per_s(config), 3, grouped=True)
        self.speed.text = about.format(t("train.tokens_per_s", n=speed))
        needed, free = formatting.size(found.needed_bytes), formatting.size(found.free_bytes)
        self.memory.text = t("train.of_memory", needed=needed, free=free)
        self.share.style(f"width:{min(100.0, 100 * found.needed_bytes / max(1, found.free_bytes)):.1f}%")

    async def _start(self) -> None:
        self.wrong.clear()
        try:
            config, name, _ = await self._checked()
            self.launcher.start(name, config)
        except NudgeError as error:
            self._changes += 1  # so that a rest neither clears this error nor measures
            self._refuse(error, self._changes)
            return
        self.started(name)


def _describe_text(config: Config, visit: Visit) -> str:
    """Return a note about the text that was found. Raises: DataError if there is none."""
    paths = config.data.paths
    if paths == recipe(config.recipe).data.paths:
        return ""
    if len(paths) == 1 and (named := named_texts.find(paths[0])):
        return _describe_named(named, visit)
    texts = find_text(paths)
    if not texts:
        return visit.t("train.data_prepared")
    n_bytes = sum(file.n_bytes for file in texts)
    return visit.t("train.data_found", n=len(texts), size=formatting.size(n_bytes))


def _describe_named(named: NamedText, visit: Visit) -> str:
    """Return the title, the size and the license of a text that has a name."""
    size = formatting.size(named.n_bytes or DataConfig().hub_bytes)
    shown = size if named.n_bytes else visit.t("train.data_up_to", size=size)
    return f"{named.title[visit.t.language]}, {shown}, {named.license}"
