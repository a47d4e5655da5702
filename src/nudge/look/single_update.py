"""One real update on one example, which makes the right token a little likelier. Training repeats such updates."""

import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from nudge.errors import ConfigError, NudgeError, did_you_mean
from nudge.infer import sampling
from nudge.infer.engine import LanguageModel
from nudge.look.parameter_swap import with_parameters
from nudge.look.prediction import check_context, check_tokens, kl_divergence, loss_of, next_token_logits, rank_of
from nudge.look.values import relative_change
from nudge.model.gpt import GPT

FROM_3_TO_4_PERCENT = math.log(4 / 3)  # the lecture's example, as a change of the loss in nats
ADAM_EPS = 1e-8

Optimizer = Literal["sgd", "adamw"]
# Texts unrelated to any example; a vocabulary may lack characters of some of them.
CONTROLS = ("", "The ", "def main(", "그는 ", "1, 2, 3, ", "a", "0")
N_CONTROLS = 3

OPTIMIZERS: tuple[Optimizer, ...] = typing.get_args(Optimizer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A token and its probability before and after the update."""

    token: int
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The change of the prediction after another context: KL(before || after), in nats."""

    context: tuple[int, ...]
    kl: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Nudge:
    """The effect of one update on one example. Losses are in nats.

    Shapes: `before` and `after` [V], the probabilities of all tokens, float32, on the CPU. `weights` are all parameters
    after the update.
    """

    target: int
    lr: float
    optimizer: Optimizer
    before: Tensor = field(repr=False, compare=False)
    after: Tensor = field(repr=False, compare=False)
    loss_before: float
    loss_after: float
    rank_before: int  # 1: the likeliest token
    rank_after: int
    predicted_loss_change: float  # to first order, from the gradient
    moved: tuple[Moved, ...]  # the tokens whose probability changed most, largest change first
    relative_change: Mapping[str, float] = field(repr=False)  # |dW| / |W| of each parameter; inf if it was all zero
    total_relative_change: float  # of all parameters as one vector
    drift: tuple[Drift, ...]
    weights: Mapping[str, Tensor] = field(repr=False, compare=False)

    @property
    def probability_before(self) -> float:
        return self.before[self.target].item()

    @property
    def probability_after(self) -> float:
        return self.after[self.target].item()

    @property
    def loss_change(self) -> float:
        """Return the real change of the loss. Above 0: the step was too large and overshot the minimum."""
        return self.loss_after - self.loss_before


def nudge_once(
    network: GPT,
    context: Sequence[int],
    target: int,
    lr: float | None = None,
    *,
    optimizer: Optimizer = "sgd",
    controls: Sequence[Sequence[int]] = (),
    n_moved: int = 10,
) -> Nudge:
    """Update a copy of the network on one example, `target` after `context`.

    "sgd" steps by -lr * gradient. "adamw" is AdamW's first step, from moments of zero and without weight decay: after
    bias correction it is -lr * g / (|g| + 1e-8), nearly the same size for every weight. Without `lr` the step lowers
    the loss, to first order, as much as when a probability rises from 3% to 4%, but by at most half.

    Shapes: context and each of `controls` 1 .. block_size ids, of a float32 network.

    Raises: ConfigError for ids that do not fit the network, or a learning rate that is negative, infinite or far too
    high; CheckpointError if the network's logits are not finite.
    """
    if optimizer not in OPTIMIZERS:
        raise ConfigError("unknown_optimizer", name=optimizer, closest=did_you_mean(optimizer, OPTIMIZERS))
    if lr is not None and not 0 <= lr < math.inf:
        raise ConfigError("bad_learning_rate", got=lr)
    for ids in (context, *controls):
        check_context(ids, network.config)
    check_tokens([target], network.config.vocab_size)
    copy = with_parameters(network, {name: p.detach() for name, p in network.named_parameters()})
    before = next_token_logits(copy, context)
    sampling.check_finite(before)
    (-before.log_softmax(-1)[target]).backward()
    with torch.no_grad():
        direction, slope = _descent(copy, optimizer)
        if lr is None:
            lr = min(FROM_3_TO_4_PERCENT, loss_of(before, target) / 2) / max(slope, 1e-30)
        weights, relative, total_relative = _step(network, direction, lr)
        updated = with_parameters(network, weights)
        after, *others = [next_token_logits(updated, ids) for ids in (context, *controls)]
        if not all(row.isfinite().all() for row in (after, *others)):
            raise ConfigError("learning_rate_overflows", lr=lr)
        drift = tuple(
            Drift(context=tuple(ids), kl=kl_divergence(next_token_logits(network, ids), row))
            for ids, row in zip(controls, others, strict=True)
        )
    before = before.detach()
    p_before, p_after = before.softmax(-1), after.softmax(-1)
    return Nudge(
        target=target,
        lr=lr,
        optimizer=optimizer,
        before=p_before,
        after=p_after,
        loss_before=loss_of(before, target),
        loss_after=loss_of(after, target),
        rank_before=rank_of(before, target),
        rank_after=rank_of(after, target),
        predicted_loss_change=-lr * slope,
        moved=_largest_moves(p_before, p_after, n_moved),
        relative_change=relative,
        total_relative_change=total_relative,
        drift=drift,
        weights=weights,
    )


def _descent(copy: GPT, optimizer: Optimizer) -> tuple[dict[str, Tensor], float]:
    """Return the step of each parameter, and the decrease of the loss, both per unit of learning rate.

    The gradients are removed from `copy`, to save memory of the network's size.
    """
    direction: dict[str, Tensor] = {}
    slope = 0.0
    for name, parameter in copy.named_parameters():
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None, f"{name} has no part in the prediction"
        step = gradient if optimizer == "sgd" else gradient / (gradient.abs() + ADAM_EPS)
        slope += _dot(gradient, step)
        direction[name] = step
    return direction, slope


def _step(network: GPT, direction: dict[str, Tensor], lr: float) -> tuple[dict[str, Tensor], dict[str, float], float]:
    """Return the parameters after the step (in the memory of `direction`), and |dW| / |W| of each and of all."""
    relative: dict[str, float] = {}
    squared_step = squared_weight = 0.0
    for name, parameter in network.named_parameters():
        step = direction[name].mul_(-lr)
        squares = _dot(step, step), _dot(parameter, parameter)
        relative[name] = relative_change(*squares)
        squared_step, squared_weight = squared_step + squares[0], squared_weight + squares[1]
        step.add_(parameter)
    return direction, relative, relative_change(squared_step, squared_weight)


def _dot(a: Tensor, b: Tensor) -> float:
    """Return the sum of a * b, row by row: a single float32 sum of 38 million terms was off by 0.2%."""
    return (a * b).sum(-1).double().sum().item()


def _largest_moves(before: Tensor, after: Tensor, n: int) -> tuple[Moved, ...]:
    tokens = (after - before).abs().sort(descending=True, stable=True).indices[:n]
    return tuple(Moved(token=t, before=before[t].item(), after=after[t].item()) for t in tokens.tolist())


def control_contexts(model: LanguageModel, context: Sequence[int]) -> list[tuple[int, ...]]:
    """Return up to three contexts unrelated to an example's context, to show the update's other effects."""
    controls: list[tuple[int, ...]] = []
    for text in CONTROLS:
        try:
            ids = tuple(model.prompt_ids(text))
            check_context(ids, model.network.config)
        except NudgeError:  # the vocabulary lacks a character, or block_size is too small
            continue
        if ids != tuple(context) and ids not in controls:
            controls.append(ids)
    return controls[:N_CONTROLS]


@torch.inference_mode()
def find_example(network: GPT, tokens: Tensor, *, probability: float = 0.03, at_least: int = 8) -> int:
    """Find a position t in `tokens` [T] at which the network gives the next token about this probability.

    tokens[:t] is the context, of `at_least` tokens, and tokens[t] is the target.
    """
    log_probs = network(tokens[None, :-1])[0].float().log_softmax(-1)
    target_log_probs = log_probs.gather(1, tokens[1:, None])[:, 0]
    distance = (target_log_probs - math.log(probability)).abs()
    distance[: at_least - 1] = math.inf
    return int(distance.argmin()) + 1
