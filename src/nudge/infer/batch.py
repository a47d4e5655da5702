"""Several sequences decoded together: each weight is read from memory once for all of them."""

import itertools
from collections.abc import Iterable, Sequence

from torch import Tensor

from nudge.infer.decode import MAX_TEXTS, Decoder, feed_each
from nudge.infer.streams import TextStream


def finish(streams: Iterable[TextStream]) -> list[str]:
    """All that the streams say, MAX_TEXTS of them at a time: a place that becomes free is taken by the next one."""
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
    """The logits [1, V] of each stream's next token. Prompts are read one by one: each of them is many tokens."""
    read: dict[int, Tensor] = {}
    together: list[tuple[int, Decoder, int]] = []
    for i, stream in enumerate(streams):
        context, pending = stream.tokens.context, stream.tokens.pending
        ids = context.admit(pending)
        if len(ids) == 1 and isinstance(context.reader, Decoder):
            together.append((i, context.reader, ids[0]))
        else:
            read[i] = context.reader.feed(ids)
    if together:
        logits = feed_each([decoder for _, decoder, _ in together], [id_ for *_, id_ in together])
        read.update({i: logits[row : row + 1] for row, (i, *_) in enumerate(together)})
    return [read[i] for i in range(len(streams))]
