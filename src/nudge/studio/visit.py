"""One user's visit to one page: the language, the theme, the run, and the way to the worker."""

import functools
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from fastapi import Request
from nicegui import ui
from nicegui.events import GenericEventArguments, ValueChangeEventArguments

from nudge.errors import MachineError, NudgeError
from nudge.studio import words
from nudge.studio.components import message, refill
from nudge.studio.launch import Launcher
from nudge.studio.models import Models, Opened
from nudge.studio.runlog import N_LOGS, RunLog
from nudge.studio.sheets import Sheets
from nudge.studio.weight_files import WeightFiles
from nudge.studio.words import Words
from nudge.studio.worker import SupersededError, Worker

Answer = TypeVar("Answer")


class StudioApp:
    """The objects that all visits share."""

    def __init__(self, runs: Path) -> None:
        self.models = Models(runs)
        self.worker = Worker()
        self.launcher = Launcher(runs)
        self.weight_files = WeightFiles(self.models)
        self.sheets = Sheets(self.models)
        self.log = functools.lru_cache(maxsize=N_LOGS)(RunLog)  # of the path of an events.jsonl


@dataclass(slots=True, kw_only=True)
class Visit:
    """The state of one visit. `t` returns texts in the user's language."""

    app: StudioApp
    page: str
    t: Words
    theme: str  # light, dark, or "" for the browser's
    query: dict[str, str]
    bar: Any = None  # at the top of the page
    banner: Any = None  # the place for messages
    subtitle: Any = None  # the line below the title
    kept: tuple[str, ...] = ()  # parts of the address, besides run and step, that the page's links to itself keep

    @property
    def language(self) -> str:
        return self.t.language

    @property
    def run(self) -> str | None:
        """Return the name of the run in the address."""
        return self.query.get("run")

    @property
    def step(self) -> int | None:
        """Return the step of the checkpoint in the address; None: the newest."""
        text = self.query.get("step", "")
        return int(text) if text.isdecimal() and len(text) <= 8 else None

    def href(self, page: str | None = None, **changes: str | int | None) -> str:
        """Return the address of a page about the same run; `changes` replace parts of the query, None removes them."""
        kept = ("run", "step", *(self.kept if page in (None, self.page) else ()))
        query = {key: self.query[key] for key in kept if key in self.query} | changes
        return _address(page or self.page, {key: value for key, value in query.items() if value is not None})

    @property
    def here(self) -> str:
        """Return the whole address of this page."""
        return _address(self.page, self.query)

    async def ask(self, function: Callable[..., Answer], *args: Any, key: Hashable = None, **settings: Any) -> Answer:
        """Call `function` in the worker. With a `key`, a newer question of this visit replaces an older one."""
        name = None if key is None else (id(self), key)
        return await self.app.worker.ask(function, *args, key=name, **settings)

    async def open_model(self) -> Opened:
        """Open the model that the address names. Raises: NudgeError's children."""
        assert self.run is not None, "a page without a run shows a message instead"
        return await self.ask(self.app.models.open, self.run, self.step)

    def handle(
        self, function: Callable[..., Any], say: Callable[[NudgeError], None] | None = None
    ) -> Callable[..., Any]:
        """Return an event handler that calls `function` with the value of the event.

        `say`, by default `self.say`, shows the errors. Superseded questions are dropped.
        """

        @functools.wraps(function)  # NiceGUI inspects the signature to know whether to pass the event
        async def handled(*events: Any) -> None:
            try:
                answer = function(*map(_content, events))
                if hasattr(answer, "__await__"):
                    await answer
            except SupersededError:
                return
            except NudgeError as error:
                (say or self.say)(error)
            except Exception as error:  # a bug: the page reports it and goes on, the terminal shows the traceback
                (say or self.say)(MachineError("bug", name=type(error).__name__))
                raise

        return handled

    def say(self, error: NudgeError) -> None:
        """Show an error at the top of the page."""
        with refill(self.banner):
            self.failure(error, close=self.banner.clear, close_label=self.t("ui.close"))

    def failure(self, error: NudgeError, **settings: Any) -> None:
        """Show an error at the current place of the page. `settings` are options of `message`."""
        message(*self.t.failure(error), **{"kind": "bad", "code": error.code, **settings})


def _address(page: str, query: Mapping[str, str | int | None]) -> str:
    return f"/{page}" + (f"?{urlencode(query)}" if query else "")


def _content(event: Any) -> Any:
    """Return the value of an event; return any other argument unchanged."""
    if isinstance(event, ValueChangeEventArguments):
        return event.value
    return event.args if isinstance(event, GenericEventArguments) else event


def visit_from(app: StudioApp, page: str, request: Request) -> Visit:
    """Build a Visit from a request: language and theme from cookies, and the query."""
    language, theme = words.preferences(request)
    return Visit(app=app, page=page, t=Words(language), theme=theme, query=dict(request.query_params))


def when_connected(function: Callable[..., Any]) -> None:
    """Call `function` once the page is connected."""
    ui.timer(0, function, once=True)
