"""A second network that shares the first one's parameters, so that some can be other ones without touching the first.

`torch.func.functional_call` would put the other parameters into the network itself for as long as the call takes, and
hooks would stay in it as long: a text that another thread writes with the same network meanwhile would be disturbed.
"""

import copy
from collections.abc import Mapping

import torch.nn as nn
from torch import Tensor

from nudge.model.gpt import GPT


def with_parameters(network: GPT, values: Mapping[str, Tensor]) -> GPT:
    """A network with these parameters instead of its own of the same names; the others are the very same tensors."""
    # What a deep copy finds in its memo it does not copy. So only the modules are, which takes milliseconds.
    memo: dict[int, object] = {
        id(p): nn.Parameter(values[name]) if name in values else p for name, p in network.named_parameters()
    }
    return copy.deepcopy(network, memo)
