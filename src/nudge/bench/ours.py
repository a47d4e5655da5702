"""The measured parts of nudge: the functions that its commands call, each behind a small interface."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nudge.config import Config, ResolvedConfig
from nudge.data.encoding import Group, group_documents
from nudge.data.split import Split
from nudge.data.tokenizer import Tokenizer
from nudge.fast.decoder import Decoder, PlainReader, feed_each, feed_prompts
from nudge.fast.weights import DType, take_over
from nudge.machine.hardware_probe import probe
from nudge.model.gpt import GPT, init_weights
from nudge.train.resolve import resolve_machine
from nudge.train.update import make_update


def resolve_here(config: Config) -> ResolvedConfig:
    """Resolve a config like `nudge train` on this machine: device, dtype, threads, update and sequences per pass."""
    return resolve_machine(config, probe(config.machine, config.model))


def training_update(config: ResolvedConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function that makes a full update of a new network: forward, backward, clip, optimizer.

    It takes tokens and targets [B, T] and returns the loss, all on the config's device.
    """
    network = GPT(config.model)
    init_weights(network, config.seed)
    update = make_update(network.to(config.machine.device), config)

    def once(tokens: Tensor, targets: Tensor) -> Tensor:
        size = config.train.micro_batch
        passes = range(0, len(tokens), size)
        losses = [
            update.forward_backward(tokens[at : at + size], targets[at : at + size], size / len(tokens))
            for at in passes
        ]
        loss = torch.stack(losses).sum()
        update.step(config.train.lr, loss)
        return loss

    return once


def reader(network: GPT, dtype: DType, *, batch: int, room: int) -> Callable[[], Callable[[Tensor], Tensor]]:
    """Return a function that begins a new context and returns a reader: ids [B, T] -> logits [B, V] of the next token.

    Raises: NotImplementedError with the reason if the decoder cannot run here.
    """
    weights, note = take_over(network, dtype)
    if weights is None and (batch > 1 or dtype == "int8"):
        raise NotImplementedError(note or "nudge's kernels for decoding are for a CPU")
    if weights is None:
        network = network.to(getattr(torch, dtype))

    def begin() -> Callable[[Tensor], Tensor]:
        if weights is None:
            plain = PlainReader(network, room)
            return lambda ids: plain.feed(ids[0].tolist())
        decoders = [Decoder(weights, room=room) for _ in range(batch)]

        def read(ids: Tensor) -> Tensor:
            if ids.size(1) == 1:
                return feed_each(decoders, ids[:, 0].tolist())
            return feed_prompts(decoders, ids.tolist())

        return read

    return begin


def encoder(tokenizer: Tokenizer, threads: int) -> Callable[[Sequence[str]], Iterable[npt.NDArray[np.uint32]]]:
    """Return the encoder of `nudge data prepare`, which starts each document with the end-of-text token."""
    pool, of_thread = ThreadPoolExecutor(threads), threading.local()

    def encode_group(group: Group) -> npt.NDArray[np.uint32]:
        if not hasattr(of_thread, "tokenizer"):
            of_thread.tokenizer = tokenizer.for_thread()
        ids, _ = of_thread.tokenizer.encode_documents(group.texts)
        return ids

    def encode(texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        groups = group_documents(((text, 0) for text in texts), Split(val_share=0.0))
        return list(map(encode_group, groups) if threads == 1 else pool.map(encode_group, groups))

    return encode
