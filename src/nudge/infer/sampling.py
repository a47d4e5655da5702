"""From scores to the next token: temperature, top-k, top-p and a draw. Pure functions of their arguments.

Shapes: B rows, V vocabulary. Logits are on the CPU, where the generator is: a seed then means the same text on every
machine whose logits are the same.
"""

import torch
from torch import Tensor

from nudge.errors import CheckpointError

_SMALLEST = torch.finfo(torch.float32).tiny
_LARGEST = torch.finfo(torch.float32).max


def probabilities(
    logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """Turn logits [B, V] into the probabilities [B, V] that a token is drawn with, float32.

    `temperature` divides the logits (0: all probability on the largest, the first of equals); then `top_k` keeps the
    k largest, then `top_p` the fewest of the rest that together have at least that share. Ties with the last one
    kept are kept too, so that the result does not depend on the order of ids.

    A row without a usable score (all -inf or NaN, from a diverged network) becomes uniform: showing a sample must not
    end a run.
    """
    logits = logits.float().nan_to_num(nan=-torch.inf, posinf=_LARGEST, neginf=-torch.inf)
    if temperature == 0:
        return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
    largest = logits.amax(-1, keepdim=True)
    # The shift changes no probability, and keeps a small temperature from overflowing.
    logits = torch.where(largest.isfinite(), (logits - largest) / max(temperature, _SMALLEST), 0.0)
    if top_k is not None and top_k < logits.size(-1):
        kth = logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    probs = logits.softmax(-1)
    if top_p is not None and top_p < 1:
        probs = _nucleus(probs, top_p)
    return probs


def _nucleus(probs: Tensor, top_p: float) -> Tensor:
    """Keep the fewest most likely tokens with at least `top_p` together (Source: Holtzman et al. 2019)."""
    descending = probs.sort(descending=True).values
    before = descending.cumsum(-1) - descending  # the share of all more likely tokens
    n_kept = (before < top_p).sum(-1, keepdim=True)  # at least 1: nothing is before the first
    last_kept = descending.gather(-1, n_kept - 1)
    probs = probs.masked_fill(probs < last_kept, 0.0)
    return probs / probs.sum(-1, keepdim=True)


def draw(probs: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one token from each row of probs [B, V]: [B]. It inverts the cumulative distribution.

    One uniform number per token: `torch.multinomial` would take V of them. Float64, because 50,257 float32 terms lose
    the tail. A token of probability 0 is never drawn.
    """
    cumulative = probs.double().cumsum(-1)
    uniform = torch.rand(probs.size(0), 1, dtype=torch.float64, generator=generator)
    # The first position whose sum exceeds the mark: as uniform < 1 there is one, and its own probability is not 0.
    return torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)[:, 0]


def check_finite(scores: Tensor) -> None:
    """Check the scores of a trained network. Raises: CheckpointError if some are not numbers."""
    if not scores.isfinite().all():
        raise CheckpointError("not_finite")
