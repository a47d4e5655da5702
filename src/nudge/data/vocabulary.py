"""Learning a vocabulary from the text that is being prepared, with progress, and so that Ctrl-C ends it at once."""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator

from nudge.data import tokenizer as tokenizers
from nudge.data.chunking import chunks
from nudge.data.tokenizer import Tokenizer
from nudge.events import Preparing

TRAINED_ON = 100_000_000  # bytes, spread evenly over larger text: more changes hardly any merge and takes memory


def is_learned(spec: str) -> bool:
    """Whether a tokenizer of that name is made from text."""
    return spec == "chars" or tokenizers.trained_size(spec) is not None


def learn(
    spec: str, documents: Iterable[tuple[str, int]], training_part: Callable[[str], str], *, total: int
) -> Generator[Preparing, None, Tokenizer]:
    """The vocabulary `chars` or `bpe-N` of some documents, given as (text, position in the source of `total` bytes).

    Byte pairs are learned from the training text alone. Characters are those of all text, as every one must have an id.
    """
    size = tokenizers.trained_size(spec)
    if size is None:
        reader = _Reader(documents, lambda text: text)
        task = _Task(lambda: tokenizers.chars(reader.texts()))
    else:
        reader = _Reader(documents, training_part, share=TRAINED_ON / max(total, 1))
        task = _Task(lambda: tokenizers.train_bpe(reader.texts(), size))
    task.start()
    try:
        while task.is_alive():
            task.join(timeout=0.1)
            yield Preparing(what="vocabulary", done=reader.position, total=total)
    finally:
        reader.stopped = True  # after Ctrl-C or an error the thread sees the end of the text and comes to its own
        task.join(timeout=1.0)
    return task.result(reader.error)


class _Reader:
    """The texts to learn from, read by another thread: it says how far it is, keeps an error, and can be stopped."""

    def __init__(self, documents: Iterable[tuple[str, int]], part: Callable[[str], str], *, share: float = 1.0) -> None:
        self.position = 0
        self.stopped = False
        self.error: BaseException | None = None
        self._documents = documents
        self._part = part
        self._share = share

    def texts(self) -> Iterator[str]:
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
        except Exception as error:  # passed on to the thread that asked
            self.error = error


class _Task(threading.Thread):
    """A function in a thread of its own, which dies with the program."""

    def __init__(self, function: Callable[[], Tokenizer]) -> None:
        super().__init__(daemon=True, name="busy in C")  # nudge.cli looks for this name
        self._function = function
        self._tokenizer: Tokenizer | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._tokenizer = self._function()
        except BaseException as error:  # passed on to the thread that asked
            self._error = error

    def result(self, earlier: BaseException | None) -> Tokenizer:
        if error := earlier or self._error:
            raise error
        assert self._tokenizer is not None, "the thread has ended without an error"
        return self._tokenizer
