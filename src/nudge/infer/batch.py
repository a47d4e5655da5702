"""Several sequences decoded together: each weight is read from memory once for all of them."""

import ctypes
import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from nudge.infer.decode import Decoder, embed, forward, head
from nudge.infer.streams import TextStream
from nudge.infer.weights import CSequence

MAX_BATCH = 64


def finish(streams: Iterable[TextStream]) -> list[str]:
    """All that the streams say, MAX_BATCH of them at a time: a place that becomes free is taken by the next one."""
    texts: list[str] = []
    active: list[tuple[int, TextStream]] = []
    coming = iter(streams)
    while True:
        for stream in itertools.islice(coming, MAX_BATCH - len(active)):
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
    if len(together) == 1:
        ((i, decoder, id_),) = together
        read[i] = decoder.feed([id_])
    elif together:
        logits = feed_each([decoder for _, decoder, _ in together], [id_ for *_, id_ in together])
        read.update({i: logits[row : row + 1] for row, (i, *_) in enumerate(together)})
    return [read[i] for i in range(len(streams))]


@torch.inference_mode()
def feed_each(decoders: Sequence[Decoder], ids: Sequence[int]) -> Tensor:
    """One new token for each of several sequences of the same weights, of any lengths: logits [B, V], float32.

    The weights are read once for all of them, so B tokens take hardly longer than one as long as B is small.
    """
    weights = decoders[0].weights
    for decoder, id_ in zip(decoders, ids, strict=True):
        decoder._check([id_])
    config, n_threads = weights.config, torch.get_num_threads()
    sequences = (ctypes.POINTER(CSequence) * len(decoders))(*(ctypes.pointer(decoder.c) for decoder in decoders))
    longest = max(decoder.c.room for decoder in decoders)
    scores = torch.empty(n_threads, longest)

    def attend(layer: int, qkv: Tensor) -> Tensor:
        qkv, y = qkv.float(), torch.empty(len(decoders), config.n_embd)
        weights.kernels.nudge_attend(
            ctypes.byref(weights.c),
            *(sequences, len(decoders), layer),
            *(qkv.data_ptr(), scores.data_ptr(), longest, y.data_ptr(), n_threads),
        )
        return y.to(weights.torch_dtype)

    x = embed(weights, ids, [decoder.n_tokens for decoder in decoders])
    x = forward(weights, x, attend, pack=len(decoders) > 1)
    for decoder in decoders:
        decoder.c.n_tokens += 1
    return head(weights, x, pack=len(decoders) > 1)
