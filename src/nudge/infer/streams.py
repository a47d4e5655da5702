"""What is drawn from a network, as it comes: tokens, and the text they are. One sequence each; engine.py makes them."""

import codecs
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from nudge.config import SampleConfig
from nudge.data.tokenizer import Tokenizer
from nudge.fast.decoder import Reader
from nudge.infer import sampling


class Context:
    """The tokens the network sees now, at most `room`, and which of them its reader has still to read.

    When the context is full the window slides: the newest half of it is kept and read again. GPT-2's positions are
    absolute and part of every key, so the keys of a token that moves to another position cannot be shifted; keeping
    only half makes that second reading rare.
    """

    def __init__(self, reader: Reader, room: int) -> None:
        self.reader, self.room = reader, room
        self.ids: list[int] = []
        self.slid = False

    def admit(self, ids: Sequence[int]) -> Sequence[int]:
        """Take in new tokens; return what the reader must read for the logits of the next one."""
        self.ids += ids
        if len(self.ids) <= self.room:
            return ids
        self.slid = True
        self.ids = self.ids[-max(1, self.room // 2) :]
        self.reader.clear()
        return self.ids

    def feed(self, ids: Sequence[int]) -> Tensor:
        """Read new tokens; return the logits [1, V] of the token after them, as float32 on the CPU."""
        return self.reader.feed(self.admit(ids))


class TokenStream(Iterator[int]):
    """The tokens that are drawn after `ids`, one by one.

    `ended` tells why there are no more (None: there may be). `pending` are the tokens that the network must read before
    `draw` can choose the next: `next()` does both, and who reads for several streams at once calls `draw`. `drawn` is
    the last choice, be it the end of the text, and `probabilities` [1, V] what it was drawn from.
    """

    drawn: int
    probabilities: Tensor

    def __init__(
        self,
        context: Context,
        ids: Sequence[int],
        sample: SampleConfig,
        *,
        n_known: int,
        eot: int,
        ends_with_document: bool = True,
    ) -> None:
        self.n_tokens = 0
        self.context = context
        self.pending = list(ids)
        self.ended: Literal["length", "end of text"] | None = None if sample.max_tokens else "length"
        self._sample = sample
        self._n_known = n_known
        self._end = eot if ends_with_document else None
        self._generator = torch.Generator().manual_seed(sample.seed)

    @property
    def slid(self) -> bool:
        """Whether the oldest tokens had to be forgotten."""
        return self.context.slid

    def __next__(self) -> int:
        token = None if self.ended else self.draw(self.context.feed(self.pending))
        if token is None:
            raise StopIteration
        return token

    def draw(self, logits: Tensor) -> int | None:
        """The next token by its logits [1, V]; None where the document ends."""
        sample = self._sample
        self.probabilities = sampling.probabilities(
            logits[:, : self._n_known],  # an imported vocabulary may be padded with rows for no token
            temperature=sample.temperature,
            top_k=sample.top_k,
            top_p=sample.top_p,
        )
        self.drawn = token = int(sampling.draw(self.probabilities, self._generator))
        if token == self._end:
            self.ended = "end of text"
            return None
        self.n_tokens += 1
        self.pending = [token]
        if self.n_tokens == sample.max_tokens:
            self.ended = "length"
        return token


class TextStream(Iterator[str]):
    """The text of a token stream, piece by piece. A piece is never half a character nor part of a stop string.

    `slid`, `ended` and `n_tokens` are those of the token stream; `ended` may also be "stop".
    """

    def __init__(self, tokens: TokenStream, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self.tokens = tokens
        self._tokenizer, self._stop = tokenizer, stop
        self._stopped = False
        self._held = ""  # may be the beginning of a stop string
        # Bytes that can no longer become a character turn into U+FFFD; those that still may wait for the next token.
        # What waits when the tokens end is dropped: it is the beginning of a character that was not finished.
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
        """The text that is certain now that this token has come: maybe none."""
        self._held += self._decoder.decode(self._tokenizer.decode_bytes([token]))
        found = [position for text in self._stop if (position := self._held.find(text)) >= 0]
        self._stopped = bool(found)
        n_ready = min(found) if found else len(self._held) - _overlap(self._held, self._stop)
        ready, self._held = self._held[:n_ready], "" if found else self._held[n_ready:]
        return ready

    def rest(self) -> str:
        """What was held back, once there are no more tokens."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: Sequence[str]) -> int:
    """How many of the last characters of `text` begin one of the stop strings."""
    longest = max((len(s) for s in stop), default=1) - 1
    return next((n for n in range(min(longest, len(text)), 0, -1) if any(s.startswith(text[-n:]) for s in stop)), 0)
