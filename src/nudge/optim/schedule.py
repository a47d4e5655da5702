"""The learning rate of each update."""

import math

from nudge.config import TrainConfig


def learning_rate(train: TrainConfig, update: int) -> float:
    """The learning rate of update 0, 1, .. steps - 1: a straight warm-up, then cosine or stay-and-decay.

    It ends at `final_lr_ratio * lr`. Source: Loshchilov & Hutter 2017 (cosine); Hu et al. 2024 (warm-up-stable-decay).
    """
    return train.lr * _ratio(train, update)


def _ratio(train: TrainConfig, update: int) -> float:
    warmup = min(train.warmup_steps, train.steps // 2)  # a run of a few updates still reaches its learning rate
    if update < warmup:
        return (update + 1) / (warmup + 1)
    last = max(train.steps - 1, warmup + 1)
    if train.schedule == "cosine":
        share_left = 0.5 * (1 + math.cos(math.pi * min(1.0, (update - warmup) / (last - warmup))))
    else:
        decay_steps = max(1.0, train.decay_share * train.steps)
        share_left = min(1.0, max(0.0, (last - update) / decay_steps))
    return train.final_lr_ratio + (1 - train.final_lr_ratio) * share_left
