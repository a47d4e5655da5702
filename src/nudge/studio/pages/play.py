"""Play: the model writes, and every token shows how likely it was."""

import dataclasses
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from nicegui import ui

from nudge.errors import ConfigError
from nudge.infer.engine import DEFAULT_MAX_TOKENS, LanguageModel, Sampling
from nudge.infer.streams import TokenStream
from nudge.look import Drawn, watch
from nudge.studio.components import Number, box, button, card, choice, entry, field, pairs
from nudge.studio.page import ModelPage
from nudge.studio.pages.play_text import WrittenText, legend_of_bars
from nudge.studio.pages.play_token import TokenCard
from nudge.studio.tokens import n_unfinished
from nudge.util import formatting

PIECE_S, PIECE_TOKENS = 0.08, 32  # writing pauses after either one, for other questions
MAX_TOKENS = 1000  # on the page
_FIELDS: dict[str, tuple[float | None, float, int]] = {  # default, step, minimum; None: a filter that is off
    "temperature": (0.8, 0.1, 0),
    "top_k": (None, 1, 1),
    "top_p": (None, 0.05, 0),
    "seed": (0, 1, 0),
    "max_tokens": (DEFAULT_MAX_TOKENS, 10, 1),
}
_WHOLE = ("top_k", "seed", "max_tokens")


@dataclass(slots=True, eq=False)
class Writing:
    """A text while it is being written. Its tokens are drawn in the worker's thread."""

    stream: TokenStream
    steps: Iterator[Drawn]
    drawn: list[Drawn] = dataclasses.field(default_factory=list)
    model_s: float = 0.0  # in the network and the draws

    @classmethod
    def begin(cls, model: LanguageModel, prompt: str, settings: Sampling) -> "Writing":
        """Start a text.

        Raises: TokenizerError for a prompt that the vocabulary cannot write; ConfigError for one that is too long.
        """
        stream = model.tokens(model.prompt_ids(prompt), **settings)
        return cls(stream, watch(stream))

    def go_on(self) -> None:
        """Draw tokens for a moment, at least one."""
        began = time.perf_counter()
        for step in itertools.islice(self.steps, PIECE_TOKENS):
            self.drawn.append(step)
            if time.perf_counter() - began > PIECE_S:
                break
        self.model_s += time.perf_counter() - began

    @property
    def tokens_per_s(self) -> float:
        return len(self.drawn) / self.model_s if self.model_s else 0.0


class PlayPage(ModelPage):
    """The settings, the text, and the selected token."""

    writing: Writing | None = None  # in progress

    async def fill(self) -> None:
        t = self.t
        with card(classes="play-settings"):
            self._build_settings()
        with box("grid play-grid"):
            with card(t("play.text"), t("play.text_note"), right=self._build_switch):
                self.text = WrittenText(self.opened.tokenizer, t, lambda group: self.card.show(group))
                self.legend = legend_of_bars(t)
                self.speed, self.status, self.window = pairs(
                    (t("play.tokens_per_s"), "–"), (t("play.status"), "–"), (t("play.window"), "–")
                )
            self.card = TokenCard(self.opened, t)

    def _build_settings(self) -> None:
        t, handle = self.t, self.visit.handle
        with field(t("play.prompt"), "fill"):
            self.prompt = ui.textarea(placeholder=t("play.prompt_hint")).props("outlined autogrow rows=2")
        with box("play-row"):
            self.fields = {name: self._number(name, *limits) for name, limits in _FIELDS.items()}
            with box("hs play-buttons"):
                self.stop = button(t("play.stop"), handle(self._stop), icon="stop")
                self.stop.set_enabled(False)
                button(t("play.another_seed"), handle(self._another_seed), icon="casino")
                button(t("play.write"), handle(self._write), kind="prim", icon="edit")

    def _number(self, name: str, value: float | None, step: float, least: int) -> Number:
        hint = self.t("play.all") if value is None else ""
        number = partial(Number, value=value, step=step, min=least, placeholder=hint)
        return entry(number, self.t(f"play.{name}"))

    def _build_switch(self) -> None:
        def show(mode: str) -> None:
            self.text.show_bars(mode == "likely")
            self.legend.set_visibility(mode == "likely")

        modes = {mode: self.t(f"play.mode.{mode}") for mode in ("likely", "plain")}
        choice(modes, "likely", show, label=self.t("play.mode_label"))

    def _settings(self) -> Sampling:
        """Return the settings in the fields. Raises: ConfigError."""
        values: dict[str, Any] = {name: self._value(name) for name in _FIELDS}
        if not 1 <= values["max_tokens"] <= MAX_TOKENS:
            raise ConfigError("too_many_tokens", max_tokens=values["max_tokens"], limit=MAX_TOKENS)
        return cast(Sampling, values)

    def _value(self, name: str) -> float | None:
        value, default = self.fields[name].value, _FIELDS[name][0]
        if value is None or name not in _WHOLE:
            return default if value is None else float(value)
        if not 0 <= value < 2**53 or value != int(value):  # larger numbers have gaps in a browser
            raise ConfigError("not_whole", name=self.t(f"play.{name}"), value=value, example=default or 50)
        return int(value)

    async def _another_seed(self) -> None:
        self.fields["seed"].set_value((self._value("seed") or 0) + 1)
        await self._write()

    async def _write(self) -> None:
        """Write until the text ends, the user stops it or starts another, or the page is closed."""
        settings, prompt = self._settings(), self.prompt.value or ""
        writing = await self.visit.ask(Writing.begin, self.opened.model, prompt, settings, key="begin")
        self.visit.banner.clear()
        self.writing = writing
        self.text.begin(prompt)
        self.card.clear()
        self._show_state(writing)
        self.stop.set_enabled(True)
        try:
            while self.writing is writing and not writing.stream.ended and self.text.is_looked_at:
                await self.visit.ask(writing.go_on)
                if self.writing in (writing, None):  # also the tokens that were drawn when it was stopped
                    self._show(writing)
        finally:
            if self.writing in (writing, None):
                self.writing = None
                self.stop.set_enabled(False)
                self._show(writing, over=True)

    def _stop(self) -> None:
        self.writing = None

    def _show(self, writing: Writing, *, over: bool = False) -> None:
        """Show the new tokens, but not part of a character while the rest of it may come."""
        ids = [step.token for step in writing.drawn]
        ready = len(ids) if over else len(ids) - n_unfinished(self.opened.tokenizer, ids)
        self.text.add(writing.drawn[self.text.n_tokens : ready])
        self._show_state(writing, over=over)

    def _show_state(self, writing: Writing, *, over: bool = False) -> None:
        t, stream = self.t, writing.stream
        speed = formatting.significant(writing.tokens_per_s, 3, grouped=True) if writing.drawn else "–"
        self.speed.set_text(t("play.speed", speed=speed))
        reason = (stream.ended or "stopped").replace(" ", "_") if over else "writing"
        self.status.set_text(t(f"play.reason.{reason}", n=stream.n_tokens))
        room = self.opened.network.config.block_size
        self.window.set_text(t("play.slid" if stream.slid else "play.not_slid", n=room))
