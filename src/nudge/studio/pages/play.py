"""Play: the model writes, and every token shows how likely it was."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nicegui import ui

from nudge.config import SampleConfig
from nudge.errors import ConfigError
from nudge.infer.engine import DEFAULT_MAX_TOKENS, LanguageModel
from nudge.infer.streams import TokenStream
from nudge.look import Drawn, watch
from nudge.studio.components import box, button, card, choice, entry, pairs
from nudge.studio.components import field as labelled
from nudge.studio.page import ModelPage
from nudge.studio.pages.play_text import WrittenText, legend_of_bars
from nudge.studio.pages.play_token import TokenCard
from nudge.studio.tokens import n_unfinished
from nudge.util import formatting

PIECE_S, PIECE_TOKENS = 0.08, 32  # writing pauses after either one, for other questions
MAX_TOKENS = 1000  # on the page
SETTINGS = SampleConfig(prompt="", max_tokens=DEFAULT_MAX_TOKENS, temperature=0.8, top_k=None, top_p=None, seed=0)


@dataclass(slots=True, eq=False)
class Writing:
    """A text while it is being written. Its tokens are drawn in the worker's thread."""

    stream: TokenStream
    steps: Iterator[Drawn]
    drawn: list[Drawn] = field(default_factory=list)
    model_s: float = 0.0  # in the network and the draws

    @classmethod
    def begin(cls, model: LanguageModel, sample: SampleConfig) -> "Writing":
        """Start a text.

        Raises: TokenizerError for a prompt that the vocabulary cannot write; ConfigError for one that is too long.
        """
        stream = model.tokens(
            model.prompt_ids(sample.prompt or ""),
            max_tokens=sample.max_tokens,
            temperature=sample.temperature,
            top_k=sample.top_k,
            top_p=sample.top_p,
            seed=sample.seed,
        )
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
        with labelled(t("play.prompt"), "fill"):
            self.prompt = ui.textarea(placeholder=t("play.prompt_hint")).props("outlined autogrow rows=2")
        with box("play-row"):
            self.temperature = self._number("temperature", SETTINGS.temperature, step=0.1, min_=0)
            self.top_k = self._number("top_k", None, step=1, min_=1)
            self.top_p = self._number("top_p", None, step=0.05, min_=0)
            self.seed = self._number("seed", SETTINGS.seed, step=1, min_=0)
            self.max_tokens = self._number("max_tokens", SETTINGS.max_tokens, step=10, min_=1)
            with box("hs play-buttons"):
                self.stop = button(t("play.stop"), handle(self._stop), icon="stop")
                self.stop.set_enabled(False)
                button(t("play.another_seed"), handle(self._another_seed), icon="casino")
                button(t("play.write"), handle(self._write), kind="prim", icon="edit")

    def _number(self, name: str, value: float | None, *, step: float, min_: float) -> ui.number:
        hint = self.t("play.all") if value is None else ""
        settings: dict[str, Any] = {"value": value, "step": step, "min": min_, "placeholder": hint}
        return entry(ui.number, self.t(f"play.{name}"), **settings)

    def _build_switch(self) -> None:
        def show(mode: str) -> None:
            self.text.show_bars(mode == "likely")
            self.legend.set_visibility(mode == "likely")

        modes = {mode: self.t(f"play.mode.{mode}") for mode in ("likely", "plain")}
        choice(modes, "likely", show, label=self.t("play.mode_label"))

    def _sample(self) -> SampleConfig:
        """Return the settings in the fields. Raises: ConfigError."""
        max_tokens = _whole(self.max_tokens, "max_tokens", SETTINGS.max_tokens)
        if not 1 <= max_tokens <= MAX_TOKENS:
            raise ConfigError("too_many_tokens", max_tokens=max_tokens, limit=MAX_TOKENS)
        return SampleConfig(
            prompt=self.prompt.value or "",
            max_tokens=max_tokens,
            temperature=SETTINGS.temperature if self.temperature.value is None else float(self.temperature.value),
            top_k=None if self.top_k.value is None else _whole(self.top_k, "top_k", 50),
            top_p=None if self.top_p.value is None else float(self.top_p.value),
            seed=_whole(self.seed, "seed", SETTINGS.seed),
        )

    async def _another_seed(self) -> None:
        self.seed.set_value(_whole(self.seed, "seed", 0) + 1)
        await self._write()

    async def _write(self) -> None:
        """Write until the text ends, the user stops it or starts another, or the page is closed."""
        sample = self._sample()
        writing = await self.visit.ask(Writing.begin, self.opened.model, sample, key="begin")
        self.visit.banner.clear()
        self.writing = writing
        self.text.begin(sample.prompt or "")
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


def _whole(element: ui.number, name: str, otherwise: int) -> int:
    value: Any = element.value
    if value is None:
        return otherwise
    if value != int(value) or not 0 <= value < 2**53:  # beyond, a browser's numbers have gaps
        raise ConfigError("not_whole", name=name, value=value, example=otherwise)
    return int(value)
