"""The decoding of several sequences together: each weight is read from memory once for all of them."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor

from nudge.fast.decoder import MAX_TEXTS, Decoder, feed_each, feed_prompts
from nudge.infer.streams import TextStream

PROMPT_TOKENS = 1024  # read in one pass: enough to use all cores, and they fit the memory


def finish(streams: Iterable[TextStream]) -> list[str]:
    """Run streams to their end, MAX_TEXTS at a time, and return their texts. When one ends, the next one starts."""
    texts: list[str] = []
    active: list[tuple[int, TextStream]] = []
    coming = iter(streams)
    while True:
        for stream in itertools.islice(coming, MAX_TEXTS - len(active)):
            active.append((len(texts), stream))
            texts.append("")
        if not active:
            return texts
        for i, stream in active:
            texts[i] += stream.rest() if stream.ended else ""
        active = [(i, stream) for i, stream in active if not stream.ended]
        for (i, stream), logits in zip(active, _read([stream for _, stream in active]), strict=True):
            token = stream.tokens.draw(logits)
            texts[i] += "" if token is None else stream.push(token)


def _read(streams: Sequence[TextStream]) -> list[Tensor]:
    """Read each stream's pending tokens; return the logits [1, V] of each stream's next token."""
    readers = [stream.tokens.reader for stream in streams]
    pending = [stream.tokens.take_pending() for stream in streams]
    decoders = [reader for reader in readers if isinstance(reader, Decoder)]
    if len(decoders) < len(readers):  # the plain network reads one sequence at a time
        return [reader.feed(ids) for reader, ids in zip(readers, pending, strict=True)]
    rows: dict[int, Tensor] = {}
    if single := [i for i, ids in enumerate(pending) if len(ids) == 1]:
        logits = feed_each([decoders[i] for i in single], [pending[i][0] for i in single])
        rows.update(zip(single, logits.split(1), strict=True))
    for group in _group_prompts({i: len(ids) for i, ids in enumerate(pending) if len(ids) > 1}):
        logits = feed_prompts([decoders[i] for i in group], [pending[i] for i in group])
        rows.update(zip(group, logits.split(1), strict=True))
    return [rows[i] for i in range(len(streams))]


def _group_prompts(lengths: dict[int, int]) -> Iterator[list[int]]:
    """Group prompts (index -> length) up to PROMPT_TOKENS per group; a longer prompt is alone."""
    group: list[int] = []
    for i, length in lengths.items():
        if group and sum(lengths[j] for j in group) + length > PROMPT_TOKENS:
            yield group
            group = []
        group.append(i)
    if group:
        yield group
