"""One person looking at one page: the language, the theme, the run that is looked at, and the way to the worker."""

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode

from fastapi import Request
from nicegui import ui
from nicegui.events import GenericEventArguments, ValueChangeEventArguments

from nudge.errors import NudgeError
from nudge.studio import components, words
from nudge.studio.launch import Launcher
from nudge.studio.models import Models, Opened
from nudge.studio.runlog import RunLogs
from nudge.studio.sheets import Sheets
from nudge.studio.weight_files import WeightFiles
from nudge.studio.words import Words
from nudge.studio.worker import SupersededError, Worker

Answer = TypeVar("Answer")


@dataclass(slots=True)
class House:
    """What all visits share."""

    models: Models
    worker: Worker
    launcher: Launcher
    weight_files: WeightFiles
    sheets: Sheets
    logs: RunLogs = field(default_factory=RunLogs)


@dataclass(slots=True, kw_only=True)
class Visit:
    """What a page is built from. `t` says things in the person's language."""

    house: House
    page: str
    t: Words
    theme: str  # light, dark, or "" for the browser's
    query: dict[str, str]
    bar: Any = None  # at the top of the page
    banner: Any = None  # where messages appear
    subtitle: Any = None  # the line below the title
    kept: tuple[str, ...] = ()  # what the page's links to itself keep of the address, besides the run and the step
    _key: object = field(default_factory=object)

    @property
    def language(self) -> str:
        return self.t.language

    @property
    def run(self) -> str | None:
        """The run that is looked at: the address says which."""
        return self.query.get("run")

    @property
    def step(self) -> int | None:
        """The checkpoint's step, if the address says one; else the newest is meant."""
        text = self.query.get("step", "")
        return int(text) if text.isdecimal() and len(text) <= 8 else None

    def href(self, page: str | None = None, **changes: str | int | None) -> str:
        """The address of a page about the same run; `changes` replace parts of the query, None takes them away."""
        kept = ("run", "step", *(self.kept if page in (None, self.page) else ()))
        query: dict[str, str | int] = {key: self.query[key] for key in kept if key in self.query}
        query |= {key: value for key, value in changes.items() if value is not None}
        query = {key: value for key, value in query.items() if key not in changes or changes[key] is not None}
        return f"/{page or self.page}" + (f"?{urlencode(query)}" if query else "")

    @property
    def here(self) -> str:
        """This page's own address, with everything that it says."""
        return f"/{self.page}" + (f"?{urlencode(self.query)}" if self.query else "")

    async def ask(self, function: Callable[..., Answer], *args: Any, key: Hashable = None, **settings: Any) -> Answer:
        """Let the worker call `function`. With a `key`, only the newest question of this visit by that name counts."""
        name = None if key is None else (id(self._key), key)
        return await self.house.worker.ask(function, *args, key=name, **settings)

    async def open_model(self) -> Opened:
        """The model that the address names. Raises: NudgeError's children."""
        assert self.run is not None, "a page without a run shows a message instead"
        return await self.ask(self.house.models.open, self.run, self.step)

    def handle(
        self, function: Callable[..., Any], say: Callable[[NudgeError], None] | None = None
    ) -> Callable[..., Any]:
        """An event handler whose errors `say` shows, else `self.say`, and whose outdated questions are forgotten.

        `function` gets what the event is about: the value of a field, what the browser sent.
        """
        say = say or self.say

        @functools.wraps(function)  # NiceGUI looks at the signature to know whether an event is wanted
        async def handled(*events: Any) -> None:
            try:
                answer = function(*map(_content, events))
                if hasattr(answer, "__await__"):
                    await answer
            except SupersededError:
                return
            except NudgeError as error:
                say(error)
            except Exception as error:  # a bug: the page says so and goes on, the terminal shows the traceback
                say(NudgeError(self.t("ui.bug", name=type(error).__name__), self.t("ui.bug_hint")))
                raise

        return handled

    def say(self, error: NudgeError) -> None:
        """Show what went wrong and what to do, at the top of the page; the page goes on."""
        with components.refill(self.banner):
            components.message(
                error.message, error.hint, kind="bad", close=self.banner.clear, close_label=self.t("ui.close")
            )


def _content(event: Any) -> Any:
    """What an event says; a key or another word comes as it is."""
    if isinstance(event, ValueChangeEventArguments):
        return event.value
    return event.args if isinstance(event, GenericEventArguments) else event


def begin(house: House, page: str, request: Request) -> Visit:
    """The visit that a request begins."""
    language = request.cookies.get("nudge_language", "")
    if language not in words.LANGUAGES:
        language = words.preferred(request.headers.get("accept-language", ""))
    theme = request.cookies.get("nudge_theme", "")
    return Visit(
        house=house,
        page=page,
        t=Words(language),
        theme=theme if theme in ("light", "dark") else "",
        query=dict(request.query_params),
    )


def after(seconds: float, function: Callable[..., Any]) -> None:
    """Do something once the page is connected."""
    ui.timer(seconds, function, once=True)
