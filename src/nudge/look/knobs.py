"""A trained network as a mixing desk: turn a part of it up, down or off, and see what it then predicts.

Every knob is a factor on parameters. A block's attention writes into the residual stream through its `c_proj`, so half
of its volume is half of `c_proj`; a head's is half of the rows of `c_proj.weight` that read this head; and so on. The
turned network shares all that is not turned with the network itself, which is never touched.

Legend of shapes: C channels, K channels of a head, V vocabulary.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from nudge.data.tokenizer import Tokenizer
from nudge.errors import ConfigError, nearest
from nudge.look.parameter_swap import with_parameters
from nudge.look.prediction import Prediction, check_context, kl_divergence, predict, scores, start_of_document
from nudge.look.single_update import Moved
from nudge.model.gpt import GPT

HEAD = "head"  # [V, C]. In a GPT-2 it is the same matrix as wte, but what reads and what writes are two knobs.


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """Factors of parts of a network (1: as trained, 0: off), and single values.

    `attention` and `mlp` by block, `heads` by (block, head), `parameters` by a name of `names`, `weights` by such a
    name and an index: that one number is set, and then turned with the rest.
    """

    attention: Mapping[int, float] = field(default_factory=dict)
    mlp: Mapping[int, float] = field(default_factory=dict)
    heads: Mapping[tuple[int, int], float] = field(default_factory=dict)
    parameters: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[tuple[str, tuple[int, ...]], float] = field(default_factory=dict)

    @property
    def moved(self) -> int:
        """The number of knobs that are not as trained."""
        factors = (*self.attention.values(), *self.mlp.values(), *self.heads.values(), *self.parameters.values())
        return sum(factor != 1 for factor in factors) + len(self.weights)

    def muted(self, blocks: Iterable[int]) -> "Knobs":
        """These knobs with the attention and the MLP of some blocks off: a block then passes its input on unchanged."""
        off = dict.fromkeys(blocks, 0.0)
        return replace(self, attention={**self.attention, **off}, mlp={**self.mlp, **off})


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """What comes next with the knobs as trained and as turned. Shapes: probabilities [V] each, float32, on the CPU."""

    base: Tensor = field(repr=False, compare=False)
    changed: Tensor = field(repr=False, compare=False)
    kl: float  # KL(base || changed), in nats

    @property
    def same(self) -> bool:
        """Whether every probability is the same, bit for bit."""
        return torch.equal(self.base, self.changed)

    def top(self, k: int) -> tuple[Moved, ...]:
        """The k likeliest tokens as trained, then those of the k likeliest as turned that are not among them."""
        first = (p.sort(descending=True, stable=True).indices[:k].tolist() for p in (self.base, self.changed))
        return tuple(
            Moved(token=token, before=self.base[token].item(), after=self.changed[token].item())
            for token in dict.fromkeys(itertools.chain(*first))
        )

    def rest(self, tokens: Iterable[int]) -> tuple[float, float]:
        """What all tokens but these have together: as trained, and as turned."""
        others = torch.ones_like(self.base, dtype=torch.bool)
        others[list(tokens)] = False
        return self.base[others].double().sum().item(), self.changed[others].double().sum().item()


def parameters(network: GPT) -> dict[str, Tensor]:
    """What `Knobs.parameters` and `Knobs.weights` accept: every parameter by its name, and "head"; as trained."""
    named = {name: p.detach() for name, p in network.named_parameters() if name != "head.weight"}
    return {**named, HEAD: network.head_weight.detach()}


def names(network: GPT) -> tuple[str, ...]:
    """The names of `parameters`."""
    return tuple(parameters(network))


def value(network: GPT, name: str, index: tuple[int, ...]) -> float:
    """One number of a parameter, as trained. Raises: ConfigError for a name or an index that the network has not."""
    trained = parameters(network)
    name = _known(name, trained)
    _check_index(name, index, trained[name].shape)
    return trained[name][index].item()


@torch.no_grad()
def turn(
    network: GPT, tokenizer: Tokenizer, context: Sequence[int], knobs: Knobs, *, base: Prediction | None = None
) -> Turned:
    """What comes after `context` with the knobs turned, beside what comes as trained. The network stays as it is.

    `base` is what `predict` said of this network and this context, if that is known: it saves half of the time.

    Raises: ConfigError for a context that does not fit the network, a part that it has not, or knobs turned so far that
    its scores are no longer numbers; CheckpointError if they are not even as trained.
    """
    context = tuple(context) or start_of_document(network, tokenizer)
    check_context(context, network.config)
    values = _values(network, knobs)
    if base is None:
        base = predict(network, tokenizer, context)
    elif base.context != context:
        raise ConfigError("the base is about another context", "give what predict says of this one, or none")
    changed = scores(with_parameters(network, values), context, head=values.get(HEAD, network.head_weight))
    if not changed.isfinite().all():
        raise ConfigError("turned so far, the network's scores are no longer numbers", "turn the knobs back a little")
    return Turned(base=base.probabilities, changed=changed.softmax(-1), kl=kl_divergence(base.logits, changed))


def _values(network: GPT, knobs: Knobs) -> dict[str, Tensor]:
    """The parameters that are not as trained, by name. One whose knobs are all at 1 is not among them."""
    trained = parameters(network)
    values: dict[str, Tensor] = {}
    for (name, index), number in knobs.weights.items():
        name = _known(name, trained)
        _check_index(name, index, trained[name].shape)
        if name not in values:
            values[name] = trained[name].clone()
        values[name][index] = _number(number, f"{name}[{', '.join(map(str, index))}]")

    def scale(name: str, factor: float | Tensor) -> None:
        values[name] = values.get(name, trained[name]) * factor

    config = network.config
    for part, factors in (("attn", knobs.attention), ("mlp", knobs.mlp)):
        for block, factor in factors.items():
            _check_number("block", block, config.n_layer)
            if _number(factor, f"blocks.{block}.{part}") != 1:
                scale(f"blocks.{block}.{part}.c_proj.weight", factor)
                scale(f"blocks.{block}.{part}.c_proj.bias", factor)
    for (block, head), factor in knobs.heads.items():
        _check_number("block", block, config.n_layer)
        _check_number("head", head, config.n_head)
        if _number(factor, f"head {head} of block {block}") != 1:
            K = config.n_embd // config.n_head
            rows = torch.ones_like(trained[f"blocks.{block}.attn.c_proj.weight"][:, :1])  # [C, 1]
            rows[head * K : (head + 1) * K] = factor
            scale(f"blocks.{block}.attn.c_proj.weight", rows)
    for name, factor in knobs.parameters.items():
        if _number(factor, name) != 1:
            scale(_known(name, trained), factor)
        else:
            _known(name, trained)
    return values


def _known(name: str, trained: Mapping[str, Tensor]) -> str:
    name = HEAD if name == "head.weight" else name  # what it is called as a parameter, where it is not tied
    if name not in trained:
        raise ConfigError(f"this network has no parameter {name!r}", nearest(name, trained))
    return name


def _number(value: float, name: str) -> float:
    if not math.isfinite(value):
        raise ConfigError(f"the knob of {name} must be a number, got {value}", "1 is as trained, 0 is off")
    return value


def _check_number(what: str, number: int, n: int) -> None:
    if not 0 <= number < n:
        raise ConfigError(
            f"this network has no {what} {number}: it has {n}, numbered from 0",
            f"the closest is {what} {min(max(number, 0), n - 1)}",
        )


def _check_index(name: str, index: tuple[int, ...], shape: torch.Size) -> None:
    if len(index) != len(shape) or not all(0 <= i < n for i, n in zip(index, shape, strict=True)):
        raise ConfigError(
            f"{name} has the shape {list(shape)}, and no value at {list(index)}",
            f"the last one is at {[n - 1 for n in shape]}",
        )
