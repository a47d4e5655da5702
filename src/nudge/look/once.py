"""One real update on one example: the right token gets a little more likely. That is all that training does."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from nudge.model.gpt import GPT

FROM_3_TO_4_PERCENT = math.log(4 / 3)  # the lecture's example, as a change of the loss in nats


@dataclass(frozen=True, slots=True, kw_only=True)
class Nudge:
    """The target token before and after one step of gradient descent on it alone."""

    target: int
    lr: float
    probability_before: float
    probability_after: float
    rank_before: int  # 1: the most likely token
    rank_after: int
    predicted_loss_change: float  # -lr * |g|^2, in nats
    loss_change: float


def nudge_once(network: GPT, context: Tensor, target: int, lr: float | None = None) -> Nudge:
    """Update on one example by gradient descent, on a copy: the network stays as it is.

    Shapes: context [T] token ids, 1 .. block_size of them. `lr` None: the rate at which the loss falls, to first order,
    as it does when a probability rises from 3% to 4%.
    """
    parameters = {name: p.detach() for name, p in network.named_parameters()}

    def scores(values: dict[str, Tensor]) -> Tensor:
        return functional_call(network, values, (context[None],))[0, -1].float()

    def loss(values: dict[str, Tensor]) -> Tensor:
        return -scores(values).log_softmax(-1)[target]

    gradient = torch.func.grad(loss)(parameters)
    squared_norm = sum(g.double().square().sum().item() for g in gradient.values())
    if lr is None:
        lr = FROM_3_TO_4_PERCENT / max(squared_norm, 1e-30)
    with torch.no_grad():
        before = scores(parameters).log_softmax(-1)
        after = scores({name: p - lr * gradient[name] for name, p in parameters.items()}).log_softmax(-1)
    return Nudge(
        target=target,
        lr=lr,
        probability_before=before[target].exp().item(),
        probability_after=after[target].exp().item(),
        rank_before=int((before > before[target]).sum()) + 1,
        rank_after=int((after > after[target]).sum()) + 1,
        predicted_loss_change=-lr * squared_norm,
        loss_change=(before[target] - after[target]).item(),
    )


@torch.inference_mode()
def find_example(network: GPT, tokens: Tensor, *, probability: float = 0.03, at_least: int = 8) -> int:
    """Where in `tokens` [T] the network gives the token that really comes next about this probability.

    Returns a position t: tokens[:t] is the context, tokens[t] the target. `at_least` tokens of context come before it.
    """
    log_probs = network(tokens[None, :-1])[0].float().log_softmax(-1)
    of_next = log_probs.gather(1, tokens[1:, None])[:, 0]
    distance = (of_next - math.log(probability)).abs()
    distance[: at_least - 1] = math.inf
    return int(distance.argmin()) + 1
