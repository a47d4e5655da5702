"""Play: the text, token by token, each with a bar that shows how likely it was."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from nicegui import events
from nicegui.element import Element

from nudge.data.tokenizer import Tokenizer
from nudge.look import Drawn
from nudge.studio import pictures
from nudge.studio.components import box, mark, text
from nudge.studio.tokens import Group, groups, show
from nudge.studio.words import Words

DECADES = 4  # the scale of the bars: from 1 down to 10^-4
HIGHEST_PX = 10

_TOKEN = "(event) => nudgePage.token(event, emit)"
_KEY = "(event) => nudgePage.key(event, emit, /^(ArrowLeft|ArrowRight|Home|End|Escape)$/)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One or more whole characters, and the draws that made them."""

    group: Group
    draws: tuple[Drawn, ...]

    @property
    def probability(self) -> float:
        """Return the probability of all its tokens together."""
        return math.prod(draw.probability for draw in self.draws)


class WrittenText:
    """The prompt and the text after it, which can grow. The mouse or the arrow keys choose a token."""

    def __init__(self, tokenizer: Tokenizer, t: Words, choose: Callable[[Written], None]) -> None:
        self._tokenizer, self._t, self._choose = tokenizer, t, choose
        self._written: list[Written] = []
        self._elements: list[Element] = []
        self._chosen = -1
        self._pinned = False
        self.n_tokens = 0
        with box("play-text") as self._place:
            self._prompt = text("", "play-prompt", tag="span")
            self._tokens = box("play-tokens bars", tag="span", role="listbox", tabindex=0)
            self._tokens.props["aria-label"] = t("play.tokens_label")
            self._hint = text(t("play.empty"), "ink3")
        self._tokens.on("mouseover", self._hovered, js_handler=_TOKEN)
        self._tokens.on("click", self._clicked, js_handler=_TOKEN)
        self._tokens.on("keydown", self._pressed, js_handler=_KEY)

    @property
    def is_looked_at(self) -> bool:
        """Return whether the page is still open in a browser."""
        return self._place.client.has_socket_connection

    def begin(self, prompt: str) -> None:
        """Start again with a prompt."""
        self._prompt.set_text(prompt)
        self._hint.set_visibility(False)
        self._tokens.clear()
        self._written.clear()
        self._elements.clear()
        self._chosen, self._pinned, self.n_tokens = -1, False, 0

    def add(self, draws: Sequence[Drawn]) -> None:
        """Add tokens, which together are whole characters."""
        cut = groups(self._tokenizer, [draw.token for draw in draws])
        with self._tokens:
            for group in cut:
                written = Written(group=group, draws=tuple(draws[group.first : group.after]))
                self._elements.append(self._token(written, len(self._written)))
                self._written.append(written)
        self.n_tokens += len(draws)

    def _token(self, written: Written, at: int) -> Element:
        label, classes = written.group.text, "tk"
        first = show(self._tokenizer, written.group.tokens[0], self._t)
        if not label:
            label, classes = first.label, "tk special"
        elif len(written.draws) == 1 and first.kind == "bytes":
            classes = "tk raw"
        elif label.startswith("\n"):
            classes = "tk newline"
        # A whole character, so that the browser can set Korean, accents and emoji.
        return text(label, classes, tag="span", style=bar_style(written.probability), role="option", data_at=at)

    def show_bars(self, on: bool) -> None:
        mark(self._tokens, on, "bars")

    def _hovered(self, event: events.GenericEventArguments) -> None:
        if not self._pinned:
            self._select(event.args)

    def _clicked(self, event: events.GenericEventArguments) -> None:
        """Pin the token, so that it stays chosen while the mouse moves; another click unpins it."""
        self._pinned = not (self._pinned and event.args == self._chosen)
        self._select(event.args)

    def _pressed(self, event: events.GenericEventArguments) -> None:
        last = len(self._written) - 1
        places = {"ArrowLeft": max(0, self._chosen - 1), "ArrowRight": min(last, self._chosen + 1)}
        places |= {"Home": 0, "End": last}
        self._pinned = event.args != "Escape"
        self._select(places.get(event.args, self._chosen))

    def _select(self, at: object) -> None:
        if not isinstance(at, int) or not 0 <= at < len(self._written):
            return
        if 0 <= self._chosen < len(self._elements):
            self._elements[self._chosen].classes(remove="on pinned").props.pop("aria-selected", None)
        self._chosen = at
        chosen = self._elements[at].classes("on pinned" if self._pinned else "on")
        chosen.props["aria-selected"] = "true"
        self._tokens.props["aria-activedescendant"] = chosen.html_id
        self._choose(self._written[at])


def bar_style(probability: float) -> str:
    """Return the height and the color of a token's bar, both on a logarithmic scale."""
    share = likeliness(probability)
    red, green, blue, _ = pictures.cividis(np.array(share)).tolist()
    return f"--bar:{2 + (HIGHEST_PX - 2) * share:.1f}px;--hue:rgb({red} {green} {blue})"


def likeliness(probability: float) -> float:
    """Return 1 for a probability of 1, an equal step less for each factor of ten, and 0 from 10^-DECADES on."""
    if not probability > 0:  # NaN too
        return 0.0
    return min(1.0, max(0.0, 1 + math.log10(probability) / DECADES))


def legend_of_bars(t: Words) -> Element:
    """Add the legend of the bars."""
    with box("legend play-legend") as legend:
        text(t("play.legend"), tag="span")
        for decade in range(-DECADES, 1):
            with box("k"):
                box("tk-bar", style=bar_style(10.0**decade))
                at_most = "≤ " if decade == -DECADES else ""
                text(f"{at_most}{100 * 10.0**decade:g}%", "num", tag="span")
    return legend
