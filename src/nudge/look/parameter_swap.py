"""A second network that shares most parameters with the first network, which is not changed.

`torch.func.functional_call` or hooks would change the network during the call, and disturb another thread that
generates text with it at the same time.
"""

import copy
from collections.abc import Mapping

import torch.nn as nn
from torch import Tensor

from nudge.model.gpt import GPT


def with_parameters(network: GPT, values: Mapping[str, Tensor]) -> GPT:
    """Return a network in which `values` replace the parameters of the same names; the others are shared."""
    # A deep copy does not copy objects in its memo. So only the modules are copied, which takes milliseconds.
    memo: dict[int, object] = {
        id(p): nn.Parameter(values[name]) if name in values else p for name, p in network.named_parameters()
    }
    return copy.deepcopy(network, memo)
