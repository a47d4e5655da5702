"""Networks for tests of more than one file."""

import torch

from nudge.config import ModelConfig
from nudge.model.gpt import GPT, init_weights


@torch.no_grad()
def random_network(config: ModelConfig, *, spread: float, positions: float = 1.0) -> GPT:
    """Random weights, larger than fresh ones and with biases, so that no part of the network hides near zero.

    `positions` makes what is said depend more on the position, so that it does not settle on one word.
    """
    network = GPT(config)
    init_weights(network, seed=1)
    generator = torch.Generator().manual_seed(2)
    for parameter in network.parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.empty_like(parameter).normal_(0.0, 0.3, generator=generator))
        else:
            parameter.mul_(spread)
    network.wpe.weight.mul_(positions)
    return network.eval()
