"""Reading attention patterns: what a head does, in a word; and a pattern of tokens as one of whole words.

A pattern is [T, T]: row t says how much token t takes from each token, itself and those before it; a row sums to 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nudge.errors import ConfigError

_HALF = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """Where a head looks most of the time, and how much: `share` is the mean over the rows.

    Of the kinds `itself`, `previous` and `first` it is the weight on the token itself, the one before it, or the first
    one. Of `spread` it is e^entropy as a share of the tokens in sight: 1 is looking at all of them alike. `mixed` is a
    head that does none of these in half of what it does; its share is the largest weight of the first three.
    """

    kind: Literal["itself", "previous", "first", "spread", "mixed"]
    share: float


def habit(pattern: Tensor) -> Habit | None:
    """What a head does in one pattern, by a plain rule: the kind that at least half of the weight goes to.

    The first two rows are left out, because there the first token is also the previous one or the token itself. None
    if no row is left. It is about this text only: on another one the same head may do something else.
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
    """[T, T] -> [W, T]: what a word takes from each token, the mean over the word's own tokens.

    `sizes`: of how many tokens each of the W words is. Raises: ConfigError if they are not the pattern's T altogether.
    """
    T = len(pattern)
    if min(sizes, default=1) < 1 or sum(sizes) != T:
        raise ConfigError(
            f"the words are {sum(sizes)} tokens together and this pattern has {T}", "give the tokens of each word"
        )
    sums = pattern.new_zeros(len(sizes), T).index_add_(0, _word_of_each(sizes, pattern), pattern)
    return sums / torch.tensor(sizes, device=pattern.device)[:, None]


def fold(pattern: Tensor, sizes: Sequence[int]) -> Tensor:
    """[T, T] -> [W, W], from tokens to words: the sum over the columns of a word, the mean over its rows.

    A row still sums to 1. Raises: ConfigError as `fold_rows` does.
    """
    rows = fold_rows(pattern, sizes)
    return rows.new_zeros(len(sizes), len(sizes)).index_add_(1, _word_of_each(sizes, pattern), rows)


def shrink(pattern: Tensor, size: int) -> Tensor:
    """[<= size, <= size]: a pattern in small, each cell the largest weight of the square it stands for.

    The largest and not the mean, which would fade a head that looks at a single token to nothing. Raises: ConfigError
    for a size below 1.
    """
    if size < 1:
        raise ConfigError(f"size must be 1 or more, got {size}", "leave it out for the default")
    return F.max_pool2d(pattern[None], math.ceil(len(pattern) / size), ceil_mode=True)[0]


def _word_of_each(sizes: Sequence[int], like: Tensor) -> Tensor:
    words = torch.arange(len(sizes), device=like.device)
    return words.repeat_interleave(torch.tensor(sizes, device=like.device))
