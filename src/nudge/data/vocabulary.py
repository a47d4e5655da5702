"""A vocabulary learned from the text that is being prepared, with progress, and so that Ctrl-C ends it at once."""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator

from nudge.data import tokenizer as tokenizers
from nudge.data.chunking import chunks
from nudge.data.tokenizer import Tokenizer
from nudge.events import Preparing

TRAINED_ON = 100_000_000  # bytes, spread evenly over larger text: more changes hardly any merge and takes memory


def learn(
    spec: str, documents: Iterable[tuple[str, int]], training_part: Callable[[str], str], *, total: int
) -> Generator[Preparing, None, Tokenizer]:
    """Learn the vocabulary `chars` or `bpe-N` from documents, given as (text, position in the source of `total` bytes).

    Byte pairs are learned from the training text alone. Characters are those of all text, as each needs an id.
    """
    size = tokenizers.trained_size(spec)
    if size is None:
        learner = _Learner(tokenizers.chars, documents, part=lambda text: text, share=1.0)
    else:
        share = TRAINED_ON / max(total, 1)
        learner = _Learner(lambda texts: tokenizers.train_bpe(texts, size), documents, part=training_part, share=share)
    learner.start()
    try:
        while learner.is_alive():
            learner.join(timeout=0.1)
            yield Preparing(what="vocabulary", done=learner.position, total=total)
    finally:
        learner.stopped = True  # after Ctrl-C or an error the text ends for the thread, and the thread with it
        learner.join(timeout=1.0)
    if learner.error:
        raise learner.error
    assert learner.tokenizer is not None, "the thread has ended without an error"
    return learner.tokenizer


class _Learner(threading.Thread):
    """A thread that learns from an evenly spread share of the text, and dies with the program.

    It shows how far it has read, and keeps its result or its error.
    """

    def __init__(
        self,
        function: Callable[[Iterator[str]], Tokenizer],
        documents: Iterable[tuple[str, int]],
        *,
        part: Callable[[str], str],
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
        except BaseException as error:  # raised again by the thread that waits
            self.error = self.error or error

    def _texts(self) -> Iterator[str]:
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
        except Exception as error:  # kept here: what the library would make of it is not this error
            self.error = error
