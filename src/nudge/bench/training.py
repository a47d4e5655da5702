"""The contenders in training: full updates (forward, backward, clip, AdamW) of networks of the same sizes.

All read the same random tokens from memory, so that only the update is measured. The functions run in the processes of
the contenders (nudge.bench.worker).
"""

import contextlib
import importlib.util
import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nudge.bench import ours, suites
from nudge.bench.limits import check_dtype
from nudge.bench.peers import NotHereError, Prepared, checkout
from nudge.config import Config, ModelConfig, TrainConfig, from_dict
from nudge.machine.device import synchronize
from nudge.version import __version__

Update = Callable[[Tensor, Tensor], Tensor]


def nudge_update(*, config: dict[str, Any], batch: int, threads: int, turn_s: float) -> Prepared:
    """Prepare the update that `nudge train` would choose with this config."""
    torch.set_num_threads(threads)
    resolved = ours.resolve_here(from_dict(config))
    update = ours.training_update(resolved)
    version = f"nudge {__version__} ({resolved.machine.update}, {resolved.machine.dtype})"
    return version, _make_round(update, resolved, _device(resolved), batch, turn_s)


def nanogpt(
    *,
    config: dict[str, Any],
    batch: int,
    threads: int,
    turn_s: float,
    folder: str,
    dtype: str,
    compiled: bool,
    fused: bool,
) -> Prepared:
    """Prepare nanoGPT's model.py with its optimizer and the loop of its train.py, with biases like GPT-2.

    `fused`: the fused AdamW, which nanoGPT uses only on a GPU.
    """
    torch.set_num_threads(threads)
    run = from_dict(config)
    device = _device(run)
    check_dtype(dtype, device)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    module = nanogpt_module(folder)
    model = module.GPT(module.GPTConfig(**suites.shape(run.model, "vocab_size"), bias=True, dropout=0.0)).to(device)
    optimizer = nanogpt_optimizer(model, run.train, "cuda" if fused else device.type)
    forward = torch.compile(model) if compiled else model

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return forward(x, y)[1]

    update = plain_update(loss, model, optimizer, run.train, device, dtype)
    return checkout("nanoGPT", folder), _make_round(update, run, device, batch, turn_s)


def transformers(*, config: dict[str, Any], batch: int, threads: int, turn_s: float, dtype: str) -> Prepared:
    """Prepare Hugging Face's GPT2LMHeadModel with the fused AdamW of its Trainer, without dropout like the others."""

    import transformers as hf

    torch.set_num_threads(threads)
    run = from_dict(config)
    device = _device(run)
    check_dtype(dtype, device)
    model: Any = hf.GPT2LMHeadModel(huggingface_config(run.model))
    model.to(device).train()
    train = run.train
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=train.lr, betas=(train.beta1, train.beta2), weight_decay=train.weight_decay, fused=True
    )

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return model(input_ids=x, labels=x, use_cache=False).loss  # the model shifts the labels itself

    update = plain_update(loss, model, optimizer, train, device, dtype)
    return f"transformers {hf.__version__}", _make_round(update, run, device, batch, turn_s)


def nanogpt_module(folder: str) -> Any:
    """Import nanoGPT's model.py from a checkout. Raises: NotHereError."""
    path = Path(folder) / "model.py"
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise NotHereError(f"no model.py in {folder}: give --nanogpt the folder of a nanoGPT checkout")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nanogpt_optimizer(model: Any, train: TrainConfig, device_type: str) -> torch.optim.Optimizer:
    """Return nanoGPT's AdamW for its model."""
    return model.configure_optimizers(train.weight_decay, train.lr, (train.beta1, train.beta2), device_type)


def huggingface_config(model: ModelConfig) -> Any:
    """Return a network's config for transformers, without dropout."""
    import transformers as hf

    return hf.GPT2Config(
        n_layer=model.n_layer,
        n_head=model.n_head,
        n_embd=model.n_embd,
        n_positions=model.block_size,
        vocab_size=model.vocab_size,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=model.vocab_size - 1,
        eos_token_id=model.vocab_size - 1,
    )


def _device(config: Config) -> torch.device:
    """Return the config's device, or the one that the probe would choose."""
    return torch.device(config.machine.device or ("cuda" if torch.cuda.is_available() else "cpu"))


def plain_update(
    loss: Update,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    train: TrainConfig,
    device: torch.device,
    dtype: str,
) -> Update:
    """Return an update with the steps of nanoGPT's train.py."""
    bf16 = dtype == "bfloat16"

    def update(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext():
            value = loss(x, y)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), train.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value.detach()

    return update


def _make_round(
    update: Update, config: Config, device: torch.device, batch: int, turn_s: float
) -> Callable[[], Mapping[str, float]]:
    """Return a function that times one round of about `turn_s` seconds.

    Its first call warms up and sets the number of updates.
    """
    tokens = torch.randint(
        config.model.vocab_size, (8, batch, config.model.block_size + 1), generator=torch.Generator().manual_seed(0)
    ).to(device)
    pairs = itertools.cycle([(window[:, :-1].contiguous(), window[:, 1:].contiguous()) for window in tokens])
    count = 0

    def time_updates(n: int) -> float:
        synchronize(device)
        begin = time.perf_counter()
        for _ in range(n):
            last = update(*next(pairs))
        if not torch.isfinite(last).item():  # also waits for the device
            raise FloatingPointError("the loss is not finite")
        synchronize(device)
        return time.perf_counter() - begin

    def run_round() -> Mapping[str, float]:
        nonlocal count
        if not count:
            time_updates(2)  # compile, allocate
            count = max(1, round(turn_s / time_updates(1)))
        seconds = time_updates(count)
        figures = {"tokens_per_s": count * batch * config.model.block_size / seconds, "updates": float(count)}
        if device.type == "cuda":
            figures["gpu_peak_bytes"] = float(torch.cuda.max_memory_allocated(device))
        return figures

    return run_round
