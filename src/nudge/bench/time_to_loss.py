"""The contenders that learn the characters of a text until the loss on its validation part is low enough.

Only the updates are timed, not the evaluations. The last tenth of the text is for validation. After each `every`
updates a contender is evaluated on all of it, in windows of the contender's context. A round is a run with a new seed.
"""

import contextlib
import dataclasses
import itertools
import math
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nudge.bench.peers import Prepared, checkout
from nudge.bench.suites import NANOGPT_MODEL, NANOGPT_TRAIN, shape
from nudge.bench.training import nanogpt_module, nanogpt_optimizer, plain_update
from nudge.config import Config, TrainConfig, from_dict, override
from nudge.data.split import Split
from nudge.data.text import pieces
from nudge.events import Evaluation, Event, Step
from nudge.train.run import run
from nudge.version import __version__

Progress = Generator[
    tuple[int, float, float], None, None
]  # updates made, seconds they took, loss on the validation text

EVALUATE_AT_ONCE = 256  # windows


def nudge_run(*, config: dict[str, Any], text: str, target: float, every: int, threads: int, work: str) -> Prepared:
    """Prepare a run like `nudge train`."""
    torch.set_num_threads(threads)
    given = from_dict(config)
    settings = {
        "data": {"paths": (text,), "tokenizer": "chars"},
        "eval": {"every": every, "tokens": 1 << 40},  # the whole validation text each time
        "sample": {"every": 0},
        "save": {"every": max(given.train.steps, 1)},
        "machine": {"threads": threads},
    }

    def learn(seed: int) -> Progress:
        seconds = 0.0
        with (
            tempfile.TemporaryDirectory(dir=work) as folder,
            contextlib.closing(_start(override(given, {**settings, "seed": seed}), Path(folder, "run"))) as events,
        ):
            for event in events:
                if isinstance(event, Step):
                    seconds = event.train_s
                elif isinstance(event, Evaluation) and event.step:
                    yield event.step, seconds, event.loss

    return f"nudge {__version__}", _make_round(learn, target)


def _start(config: Config, folder: Path) -> Generator[Event, None, None]:
    yield from run(config, folder)


def nanogpt(*, text: str, target: float, every: int, threads: int, folder: str, lr: float, steps: int) -> Prepared:
    """Prepare the CPU recipe of nanoGPT's README: its model, optimizer and schedule, in float32, not compiled."""
    torch.set_num_threads(threads)
    train, val, n_chars = read_characters(Path(text), val_share=Config().data.val_share)
    config = dataclasses.replace(NANOGPT_TRAIN, lr=lr, steps=steps)
    sizes = {**shape(NANOGPT_MODEL), "vocab_size": n_chars}
    module = nanogpt_module(folder)

    def learn(seed: int) -> Progress:
        torch.manual_seed(seed)
        model = module.GPT(module.GPTConfig(**sizes, bias=False, dropout=0.0))
        optimizer = nanogpt_optimizer(model, config, "cpu")
        model(*_batch(train))[1].backward()  # warm up
        optimizer.zero_grad(set_to_none=True)
        update = plain_update(lambda x, y: model(x, y)[1], model, optimizer, config, torch.device("cpu"), "float32")
        seconds = 0.0
        for done in range(steps):
            begun = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = nanogpt_lr(done, config)
            update(*_batch(train))
            seconds += time.perf_counter() - begun
            if (done + 1) % every == 0 or done + 1 == steps:
                yield done + 1, seconds, _validation_loss(model, val)

    return checkout("nanoGPT", folder), _make_round(learn, target)


def read_characters(path: Path, val_share: float) -> tuple[Tensor, Tensor, int]:
    """Read a text as character ids; return its training part, validation part and vocabulary size."""
    text = path.read_text(encoding="utf-8")
    id_of = {character: number for number, character in enumerate(sorted(set(text)))}
    parts = map(pieces, Split(val_share, cut_above=0)(text))
    train, val = (torch.tensor([id_of[character] for piece in part for character in piece]) for part in parts)
    return train, val, len(id_of)


def nanogpt_lr(done: int, config: TrainConfig) -> float:
    """Return the learning rate of nanoGPT's train.py: a warm-up, then a cosine down to a tenth."""
    if done < config.warmup_steps:
        return config.lr * (done + 1) / (config.warmup_steps + 1)
    share = (done - config.warmup_steps) / (config.steps - config.warmup_steps)
    return config.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))


def _batch(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Draw windows at random places of the text, like nanoGPT's get_batch."""
    T = NANOGPT_MODEL.block_size
    starts = torch.randint(len(tokens) - T, (NANOGPT_TRAIN.batch_tokens // T,)).tolist()
    x = torch.stack([tokens[start : start + T] for start in starts])
    y = torch.stack([tokens[start + 1 : start + 1 + T] for start in starts])
    return x, y


@torch.no_grad()
def _validation_loss(model: Any, tokens: Tensor) -> float:
    """Return the nats per character over all of the validation text, each character predicted once."""
    T, n_targets = NANOGPT_MODEL.block_size, len(tokens) - 1
    whole = n_targets // T * T
    windows = [
        (
            tokens[:whole].view(-1, T)[i : i + EVALUATE_AT_ONCE],
            tokens[1 : whole + 1].view(-1, T)[i : i + EVALUATE_AT_ONCE],
        )
        for i in range(0, whole // T, EVALUATE_AT_ONCE)
    ]
    if whole < n_targets:
        windows.append((tokens[None, whole:n_targets], tokens[None, whole + 1 :]))
    model.eval()
    nats = sum(model(x, y)[1].item() * y.numel() for x, y in windows)
    model.train()
    return nats / n_targets


def _make_round(learn: Callable[[int], Progress], target: float) -> Callable[[], Mapping[str, Any]]:
    """Return a function that runs with the next seed until the target, or to the end of its recipe.

    A run that does not reach the target counts with the time of its whole recipe, which is less than it would need.
    """
    seeds = itertools.count(0)

    def run_round() -> Mapping[str, Any]:
        seed = next(seeds)
        points = []
        with contextlib.closing(learn(seed)) as progress:
            for point in progress:
                points.append(point)
                if point[-1] <= target or seed == 0:  # seed 0 is the warm-up round
                    break
        updates, seconds, loss = points[-1]
        return {
            "seconds": seconds,
            "updates": float(updates),
            "loss": loss,
            "reached": float(loss <= target),
            "output": [[u, round(s, 3), round(v, 4)] for u, s, v in points],
        }

    return run_round
