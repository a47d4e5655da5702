"""The logit lens: the network's prediction if it stopped after each block.

The final norm and the output head are applied to the residual stream after the embedding and after each block; only the
last row is the network's real prediction. Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nudge.errors import ConfigError
from nudge.look.forward_pass import POSITIONS_AT_ONCE, Trace, check_positions
from nudge.look.stages import stream_before


@dataclass(frozen=True, slots=True, kw_only=True)
class Lens:
    """The k likeliest next tokens at each layer and position, likeliest first.

    Shapes: `tokens` and `probabilities` [n_layers, n_positions, k]; `target_ranks` [n_layers, n_positions], 1 = the
    likeliest, None without targets.
    """

    layers: tuple[str, ...]  # "embedding", "block 0", ..
    positions: tuple[int, ...]
    tokens: Tensor
    probabilities: Tensor
    target_ranks: Tensor | None


@torch.no_grad()
def lens(
    trace: Trace, *, k: int = 5, positions: Sequence[int] | None = None, targets: Sequence[int] | None = None
) -> Lens:
    """Compute the logit lens at `positions`, by default all.

    `targets` are the real next tokens, one per position. Raises: ConfigError for a k, position or target that does not
    fit.
    """
    network = trace.network
    V, L = network.config.vocab_size, network.config.n_layer
    chosen = check_positions(trace, range(len(trace.tokens)) if positions is None else positions)
    if not 1 <= k <= V:
        raise ConfigError("lens_k", got=k, most=V)
    if targets is not None and (len(targets) != len(chosen) or not all(0 <= target < V for target in targets)):
        raise ConfigError("lens_targets", n=len(chosen), last=V - 1, got=list(targets))
    device = network.wte.weight.device
    tokens = torch.empty(L + 1, len(chosen), k, dtype=torch.long, device=device)
    probabilities = torch.empty(L + 1, len(chosen), k, device=device)
    ranks = None if targets is None else torch.empty(L + 1, len(chosen), dtype=torch.long, device=device)
    target_ids = None if targets is None else torch.tensor(list(targets), dtype=torch.long, device=device)
    for i in range(L + 1):
        stream = trace.peek(stream_before(i))[list(chosen)]
        for start in range(0, len(chosen), POSITIONS_AT_ONCE):
            part = slice(start, start + POSITIONS_AT_ONCE)
            logits = network.logits(network.ln_f(stream[part])).float()
            probabilities[i, part], tokens[i, part] = logits.softmax(-1).topk(k)
            if ranks is not None and target_ids is not None:
                ranks[i, part] = 1 + (logits > logits.gather(1, target_ids[part, None])).sum(1)
    return Lens(
        layers=("embedding", *(f"block {i}" for i in range(L))),
        positions=chosen,
        tokens=tokens,
        probabilities=probabilities,
        target_ranks=ranks,
    )
