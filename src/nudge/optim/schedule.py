"""The learning rate of each update."""

import math

from nudge.config import TrainConfig


def learning_rate(train: TrainConfig, update: int) -> float:
    """Return the learning rate of an update (0 .. steps - 1).

    It rises linearly during the warm-up. Then it falls as half a cosine or, with wsd, stays constant and falls linearly
    at the end. The last update has `final_lr_ratio * lr`.

    Source: Loshchilov & Hutter 2017 (cosine); Hu et al. 2024 (wsd: warm-up-stable-decay).
    """
    return train.lr * _ratio(train, update)


def _ratio(train: TrainConfig, update: int) -> float:
    """Return the learning rate of an update as a share of `lr`."""
    warmup = min(train.warmup_steps, train.steps // 2)  # so that a short run still reaches its learning rate
    if update < warmup:
        return (update + 1) / (warmup + 1)
    last = max(train.steps - 1, warmup + 1)
    if train.schedule == "cosine":
        share_left = 0.5 * (1 + math.cos(math.pi * min(1.0, (update - warmup) / (last - warmup))))
    else:
        decay_steps = max(1.0, train.decay_share * train.steps)
        share_left = min(1.0, max(0.0, (last - update) / decay_steps))
    return train.final_lr_ratio + (1 - train.final_lr_ratio) * share_left
