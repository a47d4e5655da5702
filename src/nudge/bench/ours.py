"""What of nudge is measured: the same functions that its commands call, each behind one small face."""

import dataclasses
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
from nudge.train import preflight
from nudge.train.evaluation import compute_in
from nudge.train.optimizer import Optimizer
from nudge.train.probe import Machine, probe


def fitted(config: Config) -> tuple[Config, Machine]:
    """The config as `nudge train` fixes it on this machine: device, dtype, threads and sequences per pass."""
    machine = probe(config.machine)
    chosen = dataclasses.replace(
        config.machine,
        device=machine.device,
        dtype=machine.dtype,  # type: ignore[arg-type]  # a str there, one of two here
        threads=machine.threads,
    )
    size = preflight.choose_micro_batch(
        config, device=machine.device, dtype=machine.dtype, memory_bytes=machine.memory_bytes
    )
    return dataclasses.replace(
        config, machine=chosen, train=dataclasses.replace(config.train, micro_batch=size)
    ), machine


def training_update(config: Config) -> Callable[[Tensor, Tensor], Tensor]:
    """One full update of a fresh network from x, y [B, T] on its device: forward, backward, clip, optimizer.

    `config` is fitted. The update returns its loss, on the device.
    """
    device, dtype = torch.device(config.machine.device or "cpu"), config.machine.dtype or "float32"
    network = GPT(config.model)
    init_weights(network, config.seed)
    network.to(device)
    optimizer = Optimizer(network, config.train)

    def update(x: Tensor, y: Tensor) -> Tensor:
        size = config.train.micro_batch or len(x)
        loss = torch.zeros((), device=device)
        for start in range(0, len(x), size):
            with compute_in(device, dtype):
                part = network.loss(x[start : start + size], y[start : start + size]) * (size / len(x))
            part.backward()
            loss += part.detach()
        grad_norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.train.grad_clip)
        optimizer.step(config.train.lr, torch.isfinite(loss) & torch.isfinite(grad_norm))
        optimizer.zero_grad()
        return loss

    return update


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
