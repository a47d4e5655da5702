"""Cutting long text only where a tokenizer splits it anyway, so that separately encoded parts give the same ids.

A byte-pair tokenizer first splits text by a pattern and never merges across the splits. The patterns used here (gpt2,
cl100k, our own) all split before a space that follows a character other than white space, and after a single newline
between two characters other than white space. None looks back behind a split. So the text on either side of such a
place can be encoded by itself, and all cores can work on one long document.
"""

import re
from collections.abc import Iterator

from nudge.data.text import Text, pieces

CHUNK_CHARS = 1 << 19  # large enough that the cost of a call vanishes, small enough that cores share a book
# The most characters to encode in one call. tiktoken's splitting engine keeps a backtracking entry for each character
# of white space in `\s+(?!\S)`, and panics at a million of them.
LONGEST_CHUNK = CHUNK_CHARS + (1 << 18)
LONGEST_WORD = 1 << 22  # text without a boundary is cut here, so that memory never holds gigabytes without a space

_BOUNDARY = re.compile(r"(?<=\S)(?= )|(?<=\S\n)(?=\S)")
_SPACE = re.compile(r"\s+")


def chunks(text: Text) -> Iterator[str]:
    """Yield `text` in parts of about half a million characters, which encode to the same ids as the whole.

    Longer runs of white space are an exception: they are cut too, because tiktoken would fail on them. So are words of
    millions of characters.
    """
    rest = ""
    for piece in pieces(text):
        rest, start = rest + piece, 0
        while end := _end_of_chunk(rest, start):
            yield from _cut_long_space(rest[start:end])
            start = end
        rest = rest[start:]
    if rest or not len(text):
        yield from _cut_long_space(rest)


def _end_of_chunk(text: str, start: int) -> int:
    """Return where the chunk that begins at `start` ends; 0 if only the text that follows will tell."""
    if len(text) - start <= LONGEST_CHUNK:
        return 0
    longest = start + LONGEST_WORD
    boundary = _BOUNDARY.search(text, start + CHUNK_CHARS, longest)
    return boundary.start() if boundary else longest if len(text) > longest else 0


def _cut_long_space(text: str) -> Iterator[str]:
    """Yield `text`, if it is too long for one call in parts: cut after every CHUNK_CHARS characters of white space."""
    start = 0
    if len(text) <= LONGEST_CHUNK:
        yield text
        return
    for run in _SPACE.finditer(text):
        for cut in range(run.start() + CHUNK_CHARS, run.end(), CHUNK_CHARS):
            yield text[start:cut]
            start = cut
    yield text[start:]
