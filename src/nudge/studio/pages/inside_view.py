"""Inside: the state that all cards share: the forward pass over a text, and the open head."""

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from nudge.look import Trace
from nudge.studio.page import TextPage
from nudge.studio.tokens import show_each, words_of
from nudge.studio.worker import SupersededError
from nudge.util.terminal_text import visible_bytes

Answer = TypeVar("Answer")
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


class InsideView(TextPage):
    """The page without its cards."""

    layer = head = 0  # of the open head
    _trace: Trace | None = None
    labels: list[str]  # of the tokens
    word_labels: list[str]
    word_sizes: tuple[int, ...]  # tokens of each word

    @property
    def trace(self) -> Trace:
        """Return the current forward pass. Raises: SupersededError before there is one."""
        if self._trace is None:
            raise SupersededError
        return self._trace

    async def look_into(self, ids: list[int]) -> None:
        """Make the forward pass over these tokens the current one."""
        self._trace = await self.visit.ask(self.opened.trace, tuple(ids), key="trace")
        self.labels = distinguish([token.label for token in show_each(self.opened.tokenizer, ids, self.t)])
        words = words_of(self.opened.tokenizer, ids)
        self.word_sizes = tuple(len(word.tokens) for word in words)
        self.word_labels = distinguish(
            [visible_bytes(word.text.encode()) if word.text else self.labels[word.first] for word in words]
        )

    async def show_in_turn(self, *parts: Callable[[], Awaitable[None]]) -> None:
        """Make one part after the other show the trace. A part that a click superseded is already up to date.

        Raises: SupersededError if the trace changes: its own parts show it.
        """
        trace = self.trace
        for show in parts:
            with contextlib.suppress(SupersededError):
                await show()
            if self.trace is not trace:
                raise SupersededError

    async def ask(self, function: Callable[..., Answer], *args: Any, key: Hashable) -> Answer:
        """Call `function(trace, *args)` in the worker. Raises: SupersededError if the trace changes meanwhile.

        So the caller can use the answer together with `self.trace`.
        """
        trace = self.trace
        answer = await self.visit.ask(function, trace, *args, key=key)
        if trace is not self._trace:
            raise SupersededError
        return answer


def distinguish(labels: list[str]) -> list[str]:
    """Return the labels; repeated ones with their position: the₁ dog the₃."""
    n_times = Counter(labels)
    return [label + str(at).translate(_SUBSCRIPTS) if n_times[label] > 1 else label for at, label in enumerate(labels)]
