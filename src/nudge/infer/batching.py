"""Several sequences decoded together: each weight is read from memory once for all of them."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor

from nudge.fast.decoder import MAX_TEXTS, Decoder, feed_each, feed_prompts
from nudge.infer.streams import TextStream

PROMPT_TOKENS = 1024

_Waiting = tuple[int, Decoder, Sequence[int]]  # the number of a stream, its decoder, the tokens to read


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
    """The logits [1, V] of each stream's next token."""
    read: dict[int, Tensor] = {}
    one: list[_Waiting] = []
    many: list[_Waiting] = []
    for i, stream in enumerate(streams):
        context = stream.tokens.context
        ids = context.admit(stream.tokens.pending)
        if isinstance(context.reader, Decoder):
            (one if len(ids) == 1 else many).append((i, context.reader, ids))
        else:
            read[i] = context.reader.feed(ids)
    if one:
        logits = feed_each([decoder for _, decoder, _ in one], [ids[0] for *_, ids in one])
        read.update(zip([i for i, *_ in one], logits.split(1), strict=True))
    for group in _groups(many):
        logits = feed_prompts([decoder for _, decoder, _ in group], [ids for *_, ids in group])
        read.update(zip([i for i, *_ in group], logits.split(1), strict=True))
    return [read[i] for i in range(len(streams))]


def _groups(prompts: list[_Waiting]) -> Iterator[list[_Waiting]]:
    """Prompts that are read in one pass: about PROMPT_TOKENS together, which fill the machine and fit its memory."""
    group: list[_Waiting] = []
    for prompt in prompts:
        if group and sum(len(ids) for *_, ids in (*group, prompt)) > PROMPT_TOKENS:
            yield group
            group = []
        group.append(prompt)
    if group:
        yield group
