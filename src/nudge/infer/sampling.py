"""The choice of the next token from logits: temperature, top-k, top-p and a draw. Pure functions of their arguments.

Shapes: B rows, V vocabulary. Logits are on the CPU, where the generator is, so that a seed gives the same text on every
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
    """Return the probabilities [B, V], float32, from which a token is drawn, given its logits [B, V].

    `temperature` divides the logits; 0 gives all probability to the largest logit, the first one if several are equal.
    Then `top_k` keeps the k most likely tokens. Of these, `top_p` keeps the fewest most likely tokens whose rescaled
    probabilities sum to at least `top_p`. A token as likely as the last one kept is kept too, so that the result does
    not depend on the order of ids.

    A row without a usable logit (all -inf or NaN, from a diverged network) becomes uniform: a sample must not end a
    run.
    """
    logits = logits.float().nan_to_num(nan=-torch.inf, posinf=_LARGEST, neginf=-torch.inf)
    if temperature == 0:
        return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
    largest = logits.amax(-1, keepdim=True)
    # Subtracting the largest changes no probability and prevents overflow at a small temperature.
    logits = torch.where(largest.isfinite(), (logits - largest) / max(temperature, _SMALLEST), 0.0)
    if top_k is not None and top_k < logits.size(-1):
        kth = logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    probs = logits.softmax(-1)
    if top_p is not None and top_p < 1:
        probs = _nucleus(probs, top_p)
    return probs


def _nucleus(probs: Tensor, top_p: float) -> Tensor:
    """Keep the fewest most likely tokens whose probabilities sum to at least `top_p`, and rescale their sum to 1.

    Source: Holtzman et al. 2019.
    """
    descending = probs.sort(descending=True).values
    before = descending.cumsum(-1) - descending  # the share of all more likely tokens
    n_kept = (before < top_p).sum(-1, keepdim=True)  # at least 1: `before` of the first is 0
    last_kept = descending.gather(-1, n_kept - 1)
    probs = probs.masked_fill(probs < last_kept, 0.0)
    return probs / probs.sum(-1, keepdim=True)


def draw(probs: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one token from each row of probs [B, V] -> [B], by inverting the cumulative distribution.

    This takes one random number per token, while `torch.multinomial` takes V. The sums are float64, because a sum of
    50,257 float32 terms loses the smallest ones. A token of probability 0 is never drawn.
    """
    cumulative = probs.double().cumsum(-1)
    uniform = torch.rand(probs.size(0), 1, dtype=torch.float64, generator=generator)
    # Find the first sum above uniform * total. It exists, because uniform < 1, and its token's probability is not 0.
    return torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)[:, 0]


def check_finite(scores: Tensor) -> None:
    """Check the scores of a trained network. Raises: CheckpointError if one is infinite or NaN."""
    if not scores.isfinite().all():
        raise CheckpointError("not_finite")
