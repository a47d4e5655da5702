"""Inside: what all its cards look at. A text inside a model, and the head that is open."""

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from nudge.look import Trace
from nudge.studio.text_entry import TextPage
from nudge.studio.tokens import show_each, words_of
from nudge.studio.worker import SupersededError
from nudge.util.terminal_text import shown

Answer = TypeVar("Answer")
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


class InsideView(TextPage):
    """The page without its cards, which ask it for everything that they share."""

    layer = head = 0  # that is open
    _trace: Trace | None = None
    labels: list[str]  # of the tokens
    word_labels: list[str]
    word_sizes: tuple[int, ...]  # tokens of each word

    @property
    def trace(self) -> Trace:
        """The forward pass that is looked at. Raises: SupersededError before there is one."""
        if self._trace is None:
            raise SupersededError
        return self._trace

    async def look_into(self, ids: list[int]) -> None:
        """Look at the forward pass over these tokens."""
        self._trace = await self.visit.ask(self.opened.trace, tuple(ids), key="trace")
        self.labels = told_apart([token.label for token in show_each(self.opened.tokenizer, ids, self.t)])
        words = words_of(self.opened.tokenizer, ids)
        self.word_sizes = tuple(len(word.tokens) for word in words)
        self.word_labels = told_apart(
            [shown(word.text.encode()) if word.text else self.labels[word.first] for word in words]
        )

    async def show_in_turn(self, *parts: Callable[[], Awaitable[None]]) -> None:
        """Let one part after the other show the trace. One that a person's click was quicker than is up to date by it.

        Raises: SupersededError if another trace is looked at by then: its parts show themselves.
        """
        trace = self.trace
        for show in parts:
            with contextlib.suppress(SupersededError):
                await show()
            if self.trace is not trace:
                raise SupersededError

    async def ask(self, function: Callable[..., Answer], *args: Any, key: Hashable) -> Answer:
        """Let the worker call `function(trace, *args)`. Raises: SupersededError if another trace is looked at by then.

        So whatever goes on with the answer goes on with the trace that it is about.
        """
        trace = self.trace
        answer = await self.visit.ask(function, trace, *args, key=key)
        if trace is not self._trace:
            raise SupersededError
        return answer


def told_apart(labels: list[str]) -> list[str]:
    """The labels; those that are there several times with their position: the₁ dog the₃."""
    n_times = Counter(labels)
    return [label + str(at).translate(_SUBSCRIPTS) if n_times[label] > 1 else label for at, label in enumerate(labels)]
