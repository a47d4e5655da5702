"""Long text, cut only where a tokenizer splits it anyway, so that the parts can be encoded apart and give the same ids.

A byte-pair tokenizer first splits text by a pattern and never merges across the splits. The patterns used here (gpt2,
cl100k, our own) all split before a space that follows something else, and after a single newline between two characters
that are not white space; and none looks back behind a split. So the text on either side of such a place can be encoded
by itself, and all cores can work on one long document.
"""

import re
from collections.abc import Iterator

CHUNK_CHARS = 1 << 19  # large enough that the cost of a call vanishes, small enough that cores share a book
# The most that is encoded in one call. tiktoken's splitting engine keeps a backtracking entry for each character of
# white space in `\s+(?!\S)` and panics at a million of them.
LONGEST_CHUNK = CHUNK_CHARS + (1 << 18)

_BOUNDARY = re.compile(r"(?<=\S)(?= )|(?<=\S\n)(?=\S)")
_SPACE = re.compile(r"\s+")


def chunks(text: str) -> Iterator[str]:
    """Yield `text` in parts of about half a million characters that encode to the same ids as the whole.

    The exception is white space longer than that, on which tiktoken would fail: it is cut, too.
    """
    start = 0
    while len(text) - start > LONGEST_CHUNK:
        boundary = _BOUNDARY.search(text, start + CHUNK_CHARS)
        end = boundary.start() if boundary else len(text)
        if end - start <= LONGEST_CHUNK:
            yield text[start:end]
        else:
            yield from _without_long_space(text[start:end])
        start = end
    if start < len(text) or not text:
        yield text[start:]


def _without_long_space(text: str) -> Iterator[str]:
    start = 0
    for run in _SPACE.finditer(text):
        for cut in range(run.start() + CHUNK_CHARS, run.end(), CHUNK_CHARS):
            yield text[start:cut]
            start = cut
    yield text[start:]
