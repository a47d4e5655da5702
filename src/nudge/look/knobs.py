"""Knobs on a trained network: turn a part of it up, down or off, and see the prediction.

Every knob is a factor on parameters. A block's attention writes to the residual stream through its `c_proj`, so its
knob scales `c_proj`; a head's knob scales the rows of `c_proj.weight` that read this head; and so on. The turned
network shares all other parameters with the original network, which is never changed.

Legend of shapes: C channels, K channels of a head, V vocabulary.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from nudge.data.tokenizer import Tokenizer
from nudge.errors import ConfigError, did_you_mean
from nudge.look.arguments import check_index, check_number
from nudge.look.parameter_swap import with_parameters
from nudge.look.prediction import (
    Prediction,
    check_context,
    kl_divergence,
    next_token_logits,
    predict,
    start_of_document,
)
from nudge.look.single_update import Moved
from nudge.model.gpt import GPT

HEAD = "head"  # [V, C]. In a GPT-2 it is the same matrix as wte, but input and output have separate knobs.


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """Factors of parts of a network (1: as trained, 0: off), and single values.

    `attention` and `mlp` by block, `heads` by (block, head), `parameters` by a name of `names`. `weights` sets single
    numbers, by such a name and an index, before the factors apply.
    """

    attention: Mapping[int, float] = field(default_factory=dict)
    mlp: Mapping[int, float] = field(default_factory=dict)
    heads: Mapping[tuple[int, int], float] = field(default_factory=dict)
    parameters: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[tuple[str, tuple[int, ...]], float] = field(default_factory=dict)

    @property
    def moved(self) -> int:
        """Return the number of knobs that are not as trained."""
        factors = (*self.attention.values(), *self.mlp.values(), *self.heads.values(), *self.parameters.values())
        return sum(factor != 1 for factor in factors) + len(self.weights)

    def mute(self, blocks: Iterable[int]) -> "Knobs":
        """Return these knobs with attention and MLP of some blocks off; these blocks then return their input."""
        off = dict.fromkeys(blocks, 0.0)
        return replace(self, attention={**self.attention, **off}, mlp={**self.mlp, **off})


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """The next token's probabilities as trained and with the knobs turned. Shapes: [V] each, float32, on the CPU."""

    base: Tensor = field(repr=False, compare=False)
    changed: Tensor = field(repr=False, compare=False)
    kl: float  # KL(base || changed), in nats

    @property
    def same(self) -> bool:
        """Return whether every probability is the same, bit for bit."""
        return torch.equal(self.base, self.changed)

    def top(self, k: int) -> tuple[Moved, ...]:
        """Return the k likeliest tokens as trained, then the k likeliest as turned that are not among the first."""
        first = (p.sort(descending=True, stable=True).indices[:k].tolist() for p in (self.base, self.changed))
        return tuple(
            Moved(token=token, before=self.base[token].item(), after=self.changed[token].item())
            for token in dict.fromkeys(itertools.chain(*first))
        )

    def rest(self, tokens: Iterable[int]) -> tuple[float, float]:
        """Return the probability of all other tokens together: as trained, and as turned."""
        others = torch.ones_like(self.base, dtype=torch.bool)
        others[list(tokens)] = False
        return self.base[others].double().sum().item(), self.changed[others].double().sum().item()


def parameters(network: GPT) -> dict[str, Tensor]:
    """Return every parameter as trained, by the names that `Knobs` accepts: the network's names, and "head"."""
    by_name = {name: p.detach() for name, p in network.named_parameters() if name != "head.weight"}
    return {**by_name, HEAD: network.head_weight.detach()}


def names(network: GPT) -> tuple[str, ...]:
    """Return the names of `parameters`."""
    return tuple(parameters(network))


def value(network: GPT, name: str, index: tuple[int, ...]) -> float:
    """Return one number of a parameter, as trained. Raises: ConfigError for an unknown name or index."""
    trained = parameters(network)
    name = _check_name(name, trained)
    check_index(name, index, trained[name].shape)
    return trained[name][index].item()


@torch.no_grad()
def turn(
    network: GPT, tokenizer: Tokenizer, context: Sequence[int], knobs: Knobs, *, base: Prediction | None = None
) -> Turned:
    """Predict the token after `context` as trained and with the knobs turned. The network is not changed.

    `base` is `predict`'s result for this network and context, if there is one: it saves half of the time.

    Raises: ConfigError for a context that does not fit the network, an unknown part, or knobs turned so far that the
    logits overflow; CheckpointError if the logits are not finite as trained.
    """
    context = tuple(context) or start_of_document(network, tokenizer)
    check_context(context, network.config)
    values = _changed_parameters(network, knobs)
    if base is None:
        base = predict(network, tokenizer, context)
    elif base.context != context:
        raise ConfigError("base_of_other_context")
    changed = next_token_logits(with_parameters(network, values), context, head=values.get(HEAD, network.head_weight))
    if not changed.isfinite().all():
        raise ConfigError("knobs_overflow")
    return Turned(base=base.probabilities, changed=changed.softmax(-1), kl=kl_divergence(base.logits, changed))


def _changed_parameters(network: GPT, knobs: Knobs) -> dict[str, Tensor]:
    """Return the changed parameters by name, without those whose knobs are all at 1."""
    trained = parameters(network)
    values: dict[str, Tensor] = {}
    for (name, index), number in knobs.weights.items():
        name = _check_name(name, trained)
        check_index(name, index, trained[name].shape)
        if name not in values:
            values[name] = trained[name].clone()
        values[name][index] = _check_finite(number, f"{name}[{', '.join(map(str, index))}]")

    def scale(name: str, factor: float | Tensor) -> None:
        values[name] = values.get(name, trained[name]) * factor

    config = network.config
    for part, factors in (("attn", knobs.attention), ("mlp", knobs.mlp)):
        for block, factor in factors.items():
            check_number("block", block, config.n_layer)
            if _check_finite(factor, f"blocks.{block}.{part}") != 1:
                scale(f"blocks.{block}.{part}.c_proj.weight", factor)
                scale(f"blocks.{block}.{part}.c_proj.bias", factor)
    for (block, head), factor in knobs.heads.items():
        check_number("block", block, config.n_layer)
        check_number("head", head, config.n_head)
        if _check_finite(factor, f"head {head} of block {block}") != 1:
            K = config.n_embd // config.n_head
            rows = torch.ones_like(trained[f"blocks.{block}.attn.c_proj.weight"][:, :1])  # [C, 1]
            rows[head * K : (head + 1) * K] = factor
            scale(f"blocks.{block}.attn.c_proj.weight", rows)
    for name, factor in knobs.parameters.items():
        name = _check_name(name, trained)
        if _check_finite(factor, name) != 1:
            scale(name, factor)
    return values


def _check_name(name: str, trained: Mapping[str, Tensor]) -> str:
    """Return the knob's name of a parameter. Raises: ConfigError for an unknown one."""
    name = HEAD if name == "head.weight" else name  # the parameter's name if the head is not tied
    if name not in trained:
        raise ConfigError("unknown_parameter", name=name, closest=did_you_mean(name, trained))
    return name


def _check_finite(value: float, name: str) -> float:
    if not math.isfinite(value):
        raise ConfigError("knob_not_finite", name=name, got=value)
    return value
