"""A network's prediction: the probability of every token of its vocabulary, not only of the likeliest.

Legend of shapes: C channels, V vocabulary of the network (an imported one may be larger than its tokenizer's).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from nudge import config as configs
from nudge.config import ModelConfig, SampleConfig
from nudge.data.tokenizer import Tokenizer
from nudge.errors import ConfigError
from nudge.infer import sampling
from nudge.model.gpt import GPT


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A token that may come next."""

    token: int
    probability: float
    rank: int  # 1: the likeliest; equally likely tokens share a rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The token after a context, as a distribution over the whole vocabulary.

    Shapes: every tensor [V], float32, on the CPU. `probabilities` is the softmax of the logits; `sampled` is the
    distribution that tokens are drawn from, after temperature, top-k and top-p.
    """

    context: tuple[int, ...]
    logits: Tensor = field(repr=False, compare=False)
    probabilities: Tensor = field(repr=False, compare=False)
    sampled: Tensor = field(repr=False, compare=False)

    def rank(self, token: int) -> int:
        """Return 1 + the number of likelier tokens."""
        return rank_of(self.logits, self._checked(token))

    def probability(self, token: int) -> float:
        return self.probabilities[self._checked(token)].item()

    def loss(self, token: int) -> float:
        """Return -ln of the probability in nats, finite even if the probability is too small for a float32."""
        return loss_of(self.logits, self._checked(token))

    def top(self, k: int, *, sampled: bool = False) -> tuple[Candidate, ...]:
        """Return the k likeliest tokens, ties in order of ids; `sampled`: only of tokens that can be drawn."""
        scores, probabilities = (self.sampled, self.sampled) if sampled else (self.logits, self.probabilities)
        descending, tokens = scores.sort(descending=True, stable=True)
        tokens = tokens[:k] if not sampled else tokens[:k][descending[:k] > 0]
        ranks = 1 + torch.searchsorted(-descending, -scores[tokens])  # the number of strictly larger ones
        return candidates(tokens, probabilities, ranks)

    def rest(self, k: int, *, sampled: bool = False) -> float:
        """Return the total probability of all tokens except the k likeliest."""
        probabilities = self.sampled if sampled else self.probabilities
        return probabilities.sort(descending=True).values[k:].double().sum().item()

    @property
    def entropy(self) -> float:
        """Return the entropy of the distribution in nats: 0 if one token is certain, ln V if all are equally likely."""
        log_probabilities = self.logits.double().log_softmax(-1)
        return max(0.0, -(log_probabilities.exp() * log_probabilities).sum().item())

    def by_rank(self) -> Tensor:
        """Return the probabilities from the largest to the smallest. Shape: [V]."""
        return self.probabilities.sort(descending=True).values

    def _checked(self, token: int) -> int:
        """Return the token. Raises: ConfigError if it is not in the vocabulary."""
        check_tokens([token], len(self.logits))
        return token


def candidates(tokens: Tensor, probabilities: Tensor, ranks: Tensor) -> tuple[Candidate, ...]:
    """Return `tokens` [k] with their ranks [k] and their entries in `probabilities` [V]."""
    columns = (tokens.tolist(), probabilities[tokens].tolist(), ranks.tolist())
    return tuple(Candidate(token=t, probability=p, rank=r) for t, p, r in zip(*columns, strict=True))


def predict(
    network: GPT,
    tokenizer: Tokenizer,
    context: Sequence[int],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Prediction:
    """Predict the token after `context`, 0 .. block_size ids; an empty one is the start of a document.

    Raises: ConfigError for a context that does not fit the network, or invalid sampling settings; CheckpointError if
    the network's scores are not finite.
    """
    configs.check_ranges(SampleConfig(temperature=temperature, top_k=top_k, top_p=top_p))
    context = tuple(context) or start_of_document(network, tokenizer)
    check_context(context, network.config)
    with torch.no_grad():
        logits = next_token_logits(network, context)
    sampling.check_finite(logits)
    # As in generation: rows that pad the vocabulary are not tokens and are never drawn.
    known = logits[None, : tokenizer.vocab_size]
    sampled = torch.zeros_like(logits)
    sampled[: known.size(1)] = sampling.probabilities(known, temperature=temperature, top_k=top_k, top_p=top_p)[0]
    return Prediction(context=context, logits=logits, probabilities=logits.softmax(-1), sampled=sampled)


def next_token_logits(network: GPT, context: Sequence[int], *, head: Tensor | None = None) -> Tensor:
    """Return the logits of the token after `context`, in float32 on the CPU; gradients flow through.

    Shapes: logits [V]; `head` [V, C] replaces the network's head. The head is applied to the last position only: for
    all positions it would be a third of the work of GPT-2 small.
    """
    tokens = torch.tensor([context], device=network.wte.weight.device)
    return F.linear(network.hidden(tokens)[0, -1], network.head_weight if head is None else head).float().cpu()


def start_of_document(network: GPT, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the context that replaces an empty one. Raises: ConfigError if the network has none."""
    opening = tokenizer.opening
    if not opening or opening[0] >= network.config.vocab_size:
        raise ConfigError("no_start_token", last=network.config.vocab_size - 1)
    return opening


def check_context(context: Sequence[int], config: ModelConfig) -> None:
    """Check that a network of these sizes can read these ids. Raises: ConfigError."""
    if not context:
        raise ConfigError("empty_context")
    if len(context) > config.block_size:
        raise ConfigError("context_too_long", got=len(context), most=config.block_size)
    check_tokens(context, config.vocab_size)


def check_tokens(tokens: Sequence[int], vocab_size: int) -> None:
    """Check that all ids are in the vocabulary. Raises: ConfigError."""
    for token in tokens:
        if not 0 <= token < vocab_size:
            raise ConfigError("unknown_token", token=token, vocab_size=vocab_size, last=vocab_size - 1)


def rank_of(logits: Tensor, token: int) -> int:
    """Return 1 + the number of likelier tokens, by logits, which differ even if both probabilities round to 0."""
    return 1 + int((logits > logits[token]).sum())


def loss_of(logits: Tensor, token: int) -> float:
    """Return -ln of a token's probability, in nats."""
    return abs(logits.double().log_softmax(-1)[token].item())  # abs: 0, not -0


def kl_divergence(before: Tensor, after: Tensor) -> float:
    """Return KL(before || after) of two rows of logits [V], in nats."""
    p, q = before.double().log_softmax(-1), after.double().log_softmax(-1)
    return max(0.0, (p.exp() * (p - q)).sum().item())  # rounding may make it slightly negative
