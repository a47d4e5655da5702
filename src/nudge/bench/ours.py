"""What of nudge is measured: the same functions that its commands call, each behind one small face."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nudge.config import Config
from nudge.data.encoding import Group, group_documents
from nudge.data.split import Split
from nudge.data.tokenizer import Tokenizer
from nudge.infer.engine import Context
from nudge.model.gpt import GPT, init_weights
from nudge.train.probe import probe
from nudge.train.start import fit_to_machine
from nudge.train.update import make_update


def fitted(config: Config) -> Config:
    """The config as `nudge train` fixes it on this machine: device, dtype, threads, update and sequences per pass."""
    return fit_to_machine(config, probe(config.machine))


def training_update(config: Config) -> Callable[[Tensor, Tensor], Tensor]:
    """One full update of a fresh network from tokens, targets [B, T] on its device: forward, backward, clip, optimizer.

    `config` is fitted. The update returns its loss, on the device.
    """
    network = GPT(config.model)
    init_weights(network, config.seed)
    update = make_update(network.to(config.machine.device or "cpu"), config)

    def once(tokens: Tensor, targets: Tensor) -> Tensor:
        size = config.train.micro_batch or len(tokens)
        passes = range(0, len(tokens), size)
        losses = [
            update.forward_backward(tokens[at : at + size], targets[at : at + size], size / len(tokens))
            for at in passes
        ]
        loss = torch.stack(losses).sum()
        update.step(config.train.lr, loss)
        return loss

    return once


def reader(network: GPT, dtype: str, *, batch: int, room: int) -> Callable[[], Callable[[Tensor], Tensor]]:
    """A way to begin a new context: what it returns reads ids [B, T] and gives the logits [B, V] of the next token.

    Raises: NotImplementedError for a dtype or a batch that the engine does not know yet.
    """
    if dtype not in ("float32", "bfloat16"):
        raise NotImplementedError(f"nudge does not decode in {dtype} yet")
    if batch > 1:
        raise NotImplementedError("nudge does not decode more than one sequence at a time yet")
    network = network.to(getattr(torch, dtype))

    def begin() -> Callable[[Tensor], Tensor]:
        context = Context(network, room=room)
        return lambda ids: context.feed(ids[0].tolist())

    return begin


def encoder(tokenizer: Tokenizer, threads: int) -> Callable[[Sequence[str]], Iterable[npt.NDArray[np.uint32]]]:
    """Text to ids as `nudge data prepare` does it; each document begins with the end-of-text token."""
    pool, of_thread = ThreadPoolExecutor(threads), threading.local()

    def encode_group(group: Group) -> npt.NDArray[np.uint32]:
        if not hasattr(of_thread, "tokenizer"):
            of_thread.tokenizer = tokenizer.for_thread()
        return of_thread.tokenizer.encode_documents(group.texts)

    def encode(texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        groups = group_documents(((text, 0) for text in texts), Split(val_share=0.0))
        return list(map(encode_group, groups) if threads == 1 else pool.map(encode_group, groups))

    return encode
