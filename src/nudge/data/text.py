"""The text of a document: a string, or for a long one a `LongText`, which is never held as a whole."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LongText:
    """A document that is read piece by piece, anew for each use. Like a string, it has a length and slices."""

    read: Callable[[], Iterator[str]]
    start: int  # characters
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def __getitem__(self, part: slice) -> "LongText":
        start, end, _ = part.indices(len(self))
        return LongText(self.read, self.start + start, self.start + end)

    def pieces(self) -> Iterator[str]:
        at = 0
        for piece in self.read():
            if at >= self.end:
                return
            if at + len(piece) > self.start:
                yield piece[max(self.start - at, 0) : self.end - at]
            at += len(piece)


Text = str | LongText


def pieces(text: Text) -> Iterator[str]:
    """Yield a text as strings that fit into memory."""
    if isinstance(text, LongText):
        yield from text.pieces()
    else:
        yield text
