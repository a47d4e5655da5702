"""The tokens drawn from a network, one by one, and their text, piece by piece. engine.py makes these streams."""

import codecs
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from nudge.config import SampleConfig
from nudge.data.tokenizer import Tokenizer
from nudge.fast.decoder import Reader
from nudge.infer import sampling


class TokenStream(Iterator[int]):
    """The tokens that are drawn after `ids`, one by one.

    `next()` reads the pending tokens and draws one. A caller that reads for several streams at once calls
    `take_pending` and `draw` itself. `drawn` is the last token drawn, even if it is the end-of-text token, and
    `probabilities` [1, V] are those it was drawn from. `ended` is the reason why there are no more tokens, None before.

    The context holds at most `room` tokens. When it is full the window slides: its newest half is kept and read again.
    GPT-2's positions are absolute and part of every key, so the keys of a token that moves to another position cannot
    be reused; keeping only half makes that second reading rare. `slid`: whether the window has slid.

    With `strict` set, the first draw raises CheckpointError if the scores are not numbers; else it draws from the rest.
    """

    drawn: int
    probabilities: Tensor

    def __init__(
        self, reader: Reader, ids: Sequence[int], sample: SampleConfig, *, room: int, n_known: int, end: int | None
    ) -> None:
        self.reader = reader
        self.n_tokens = 0
        self.slid = False
        self.strict = False
        self.ended: Literal["length", "end of text"] | None = None if sample.max_tokens else "length"
        self.context: list[int] = []  # the tokens that the network sees
        self._pending = list(ids)
        self._sample, self._room, self._n_known, self._end = sample, room, n_known, end
        self._generator = torch.Generator().manual_seed(sample.seed)

    def __next__(self) -> int:
        token = None if self.ended else self.draw(self.read())
        if token is None:
            raise StopIteration
        return token

    def read(self) -> Tensor:
        """Read the pending tokens; return the logits [1, V] of the next token, as float32 on the CPU."""
        return self.reader.feed(self.take_pending())

    def take_pending(self) -> Sequence[int]:
        """Add the pending tokens to the context; return the tokens that the reader must read before the next draw."""
        ids, self._pending = self._pending, []
        self.context += ids
        if len(self.context) <= self._room:
            return ids
        self.slid = True
        self.context = self.context[-max(1, self._room // 2) :]
        self.reader.clear()
        return self.context

    def draw(self, logits: Tensor) -> int | None:
        """Draw the next token from its logits [1, V] and return it, or None if it ends the document."""
        sample = self._sample
        if self.strict and self.n_tokens == 0:  # later ones would slow decoding down, and be no better
            sampling.check_finite(logits)
        self.probabilities = sampling.probabilities(
            logits[:, : self._n_known],  # an imported network may have extra rows that stand for no token
            temperature=sample.temperature,
            top_k=sample.top_k,
            top_p=sample.top_p,
        )
        self.drawn = token = int(sampling.draw(self.probabilities, self._generator))
        if token == self._end:
            self.ended = "end of text"
            return None
        self.n_tokens += 1
        self._pending = [token]
        if self.n_tokens == sample.max_tokens:
            self.ended = "length"
        return token


class TextStream(Iterator[str]):
    """The text of a token stream, piece by piece. A piece is never half a character or part of a stop string.

    `slid`, `ended` and `n_tokens` are the token stream's values; `ended` may also be "stop".
    """

    def __init__(self, tokens: TokenStream, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self.tokens = tokens
        self._tokenizer, self._stop = tokenizer, stop
        self._stopped = False
        self._held = ""  # may be the start of a stop string
        # Bytes that cannot become a character turn into U+FFFD. The start of a character waits for the next token, and
        # is dropped if there is none.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    @property
    def slid(self) -> bool:
        return self.tokens.slid

    @property
    def n_tokens(self) -> int:
        return self.tokens.n_tokens

    @property
    def ended(self) -> Literal["length", "end of text", "stop"] | None:
        return "stop" if self._stopped else self.tokens.ended

    def __next__(self) -> str:
        while not self._stopped and (token := next(self.tokens, None)) is not None:
            if piece := self.push(token):
                return piece
        if piece := self.rest():
            return piece
        raise StopIteration

    def push(self, token: int) -> str:
        """Add a token; return the text that is now complete, which may be empty."""
        self._held += self._decoder.decode(self._tokenizer.decode_bytes([token]))
        found = [position for text in self._stop if (position := self._held.find(text)) >= 0]
        self._stopped = bool(found)
        n_ready = min(found) if found else len(self._held) - _overlap(self._held, self._stop)
        ready, self._held = self._held[:n_ready], "" if found else self._held[n_ready:]
        return ready

    def rest(self) -> str:
        """Return the text that was held back, after the last token."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: Sequence[str]) -> int:
    """Return the length of the longest end of `text` that is the start of a stop string."""
    longest = max((len(s) for s in stop), default=1) - 1
    return next((n for n in range(min(longest, len(text)), 0, -1) if any(s.startswith(text[-n:]) for s in stop)), 0)
