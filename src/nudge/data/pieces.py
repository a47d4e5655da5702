"""Cutting long text only where a tokenizer cuts anyway, so that its parts can be encoded apart and give the same ids.

A byte-pair tokenizer first splits text by a pattern and never merges across the splits. All patterns used here
(gpt2, cl100k, our own) split after a single newline between two characters that are not white space, and none looks
back behind a split; so the text before and after it can be encoded apart. That lets all cores work on one long document.
"""

import re
from collections.abc import Iterator

PIECE_CHARS = 1 << 19  # enough that the cost of a call vanishes, few enough that cores share a book
_LONGEST_SEARCH = 1 << 18  # a boundary is usually found within a line
# tiktoken's splitting engine keeps one backtracking entry per character of `\s+(?!\S)` and gives up (it panics) at a
# million of them: white space this long is the one thing that is cut where tiktoken would not have cut.
_LONGEST_SPACE = 500_000

_BOUNDARY = re.compile(r"(?<=\S\n)(?=\S)")
_SPACE = re.compile(r"\s+")


def pieces(text: str) -> Iterator[str]:
    """`text` in parts of about half a million characters that encode to the same ids as the whole."""
    start = 0
    while len(text) - start > PIECE_CHARS:
        near = start + PIECE_CHARS
        boundary = _BOUNDARY.search(text, near, near + _LONGEST_SEARCH)
        if boundary:
            yield text[start : boundary.start()]
        else:
            boundary = _BOUNDARY.search(text, near)
            yield from _without_long_space(text[start : boundary.start() if boundary else len(text)])
        start = boundary.start() if boundary else len(text)
    if start < len(text) or not text:
        yield text[start:]


def _without_long_space(text: str) -> Iterator[str]:
    start = 0
    for run in _SPACE.finditer(text):
        for cut in range(run.start() + _LONGEST_SPACE, run.end(), _LONGEST_SPACE):
            yield text[start:cut]
            start = cut
    yield text[start:]
