"""Attention patterns: a head's habit, and patterns of whole words.

A pattern is [T, T]: row t has the weights with which token t attends to itself and to each earlier token; a row sums to
1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nudge.errors import ConfigError
from nudge.look.arguments import check_at_least

_HALF = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """The tokens that a head attends to most; `share` is a mean over the rows.

    For `itself`, `previous` and `first` it is the weight on the token itself, the previous token, or the first token.
    For `spread` it is e^entropy as a share of the visible tokens: 1 if all have the same weight. A head is `mixed` if
    all of these are below half; its share is the largest of the first three.
    """

    kind: Literal["itself", "previous", "first", "spread", "mixed"]
    share: float


def habit(pattern: Tensor) -> Habit | None:
    """Return a head's habit in one pattern: the kind with at least half of the weight; None for fewer than 3 tokens.

    The first two rows are left out, because there the first token is also the previous token or the token itself. On
    another text the same head may have another habit.
    """
    rows = pattern[2:]
    if not len(rows):
        return None
    shares = {
        "itself": rows.diagonal(2).mean().item(),
        "previous": rows.diagonal(1).mean().item(),
        "first": rows[:, 0].mean().item(),
    }
    kind = max(shares, key=lambda kind: shares[kind])
    if shares[kind] >= _HALF:
        return Habit(kind=kind, share=shares[kind])  # type: ignore[arg-type]
    in_sight = torch.arange(3, len(pattern) + 1, device=pattern.device)
    spread = (torch.special.entr(rows).sum(1).exp() / in_sight).mean().item()
    return Habit(kind="spread", share=spread) if spread >= _HALF else Habit(kind="mixed", share=shares[kind])


def fold_rows(pattern: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the weights with which each word attends to each token, the mean over its tokens: [T, T] -> [W, T].

    `sizes` are the numbers of tokens of the W words. Raises: ConfigError if they do not add up to T.
    """
    T = len(pattern)
    if min(sizes, default=1) < 1 or sum(sizes) != T:
        raise ConfigError("word_sizes", got=sum(sizes), expected=T)
    sums = pattern.new_zeros(len(sizes), T).index_add_(0, _word_indices(sizes, pattern), pattern)
    return sums / torch.tensor(sizes, device=pattern.device)[:, None]


def fold(pattern: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return a pattern of words: [T, T] -> [W, W], the sum over the columns of a word, the mean over its rows.

    A row still sums to 1. Raises: ConfigError as `fold_rows` does.
    """
    rows = fold_rows(pattern, sizes)
    return rows.new_zeros(len(sizes), len(sizes)).index_add_(1, _word_indices(sizes, pattern), rows)


def shrink(pattern: Tensor, size: int) -> Tensor:
    """Return a small version of a pattern, [<= size, <= size]: each cell is the largest weight of its square.

    The mean would hide a head that attends to a single token. Raises: ConfigError for a size below 1.
    """
    check_at_least("size", size)
    return F.max_pool2d(pattern[None], math.ceil(len(pattern) / size), ceil_mode=True)[0]


def _word_indices(sizes: Sequence[int], like: Tensor) -> Tensor:
    """Return the index of each token's word, on the device of `like`. Shape: [T]."""
    words = torch.arange(len(sizes), device=like.device)
    return words.repeat_interleave(torch.tensor(sizes, device=like.device))
