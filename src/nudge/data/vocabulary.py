"""The learning of a vocabulary from the text in preparation. It reports progress, and Ctrl-C ends it at once."""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator

from nudge.data import tokenizer as tokenizers
from nudge.data.chunking import chunks
from nudge.data.text import Text
from nudge.data.tokenizer import Tokenizer
from nudge.events import Preparing

TRAINING_BYTES = 100_000_000  # spread evenly over larger text: more text takes memory and hardly changes any merge


def learn(
    spec: str, documents: Iterable[tuple[Text, int]], training_part: Callable[[Text], Text], *, total: int
) -> Generator[Preparing, None, Tokenizer]:
    """Learn the vocabulary `chars` or `bpe-N`. `documents`: (text, position in the source of `total` bytes).

    Byte pairs are learned from the training text alone, characters from all text, because each needs an id.
    """
    size = tokenizers.trained_size(spec)
    if size is None:
        learner = _Learner(tokenizers.chars, documents, part=lambda text: text, share=1.0)
    else:
        share = TRAINING_BYTES / max(total, 1)
        learner = _Learner(lambda texts: tokenizers.train_bpe(texts, size), documents, part=training_part, share=share)
    learner.start()
    try:
        while learner.is_alive():
            learner.join(timeout=0.1)
            yield Preparing(what="vocabulary", done=learner.position, total=total)
    finally:
        learner.stopped = True  # after Ctrl-C or an error this ends the thread's text, and so the thread
        learner.join(timeout=1.0)
    if learner.error:
        raise learner.error
    assert learner.tokenizer is not None, "the thread has ended without an error"
    return learner.tokenizer


class _Learner(threading.Thread):
    """A daemon thread that learns from an evenly spread share of the text.

    `position` is its progress; `tokenizer` or `error` is its result.
    """

    def __init__(
        self,
        function: Callable[[Iterator[str]], Tokenizer],
        documents: Iterable[tuple[Text, int]],
        *,
        part: Callable[[Text], Text],
        share: float,
    ) -> None:
        super().__init__(daemon=True, name="busy in C")  # nudge.cli looks for this name
        self.position = 0
        self.stopped = False
        self.tokenizer: Tokenizer | None = None
        self.error: BaseException | None = None
        self._function, self._documents, self._part, self._share = function, documents, part, share

    def run(self) -> None:
        try:
            self.tokenizer = self._function(self._texts())
        except BaseException as error:  # the waiting thread raises it again
            self.error = self.error or error

    def _texts(self) -> Iterator[str]:
        """Yield evenly spread chunks that make up the share of the text."""
        seen = taken = 0
        try:
            for text, position in self._documents:
                self.position = position
                for chunk in chunks(self._part(text)):
                    if self.stopped:
                        return
                    seen += len(chunk)
                    if taken <= self._share * seen:
                        taken += len(chunk)
                        yield chunk
        except Exception as error:  # kept here, because the library would wrap it in another error
            self.error = error
