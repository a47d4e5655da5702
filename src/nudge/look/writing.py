"""The network's prediction at each drawn token."""

from collections.abc import Iterator
from dataclasses import dataclass

from nudge.infer.streams import TokenStream
from nudge.look.prediction import Candidate, candidates, rank_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A drawn token, which may be the end of the text.

    `probability` and `rank` are the network's prediction; `sampled` is the probability with which the token was drawn,
    after temperature, top-k and top-p. `likeliest` are the network's likeliest tokens, `likeliest_sampled` the
    probabilities with which they could be drawn.
    """

    token: int
    probability: float
    rank: int
    sampled: float
    likeliest: tuple[Candidate, ...]
    likeliest_sampled: tuple[float, ...]


def watch(tokens: TokenStream, *, n_likeliest: int = 8) -> Iterator[Drawn]:
    """Yield the tokens of a stream with the network's predictions. Watching does not change the tokens."""
    while not tokens.ended:
        logits = tokens.read()
        tokens.draw(logits)
        scores, sampled = logits[0], tokens.probabilities[0]
        probabilities = scores.softmax(-1)
        top = probabilities.topk(min(n_likeliest, len(probabilities))).indices
        ranks = 1 + (scores > scores[top][:, None]).sum(-1)
        yield Drawn(
            token=tokens.drawn,
            probability=probabilities[tokens.drawn].item(),
            rank=rank_of(scores, tokens.drawn),
            sampled=sampled[tokens.drawn].item(),
            likeliest=candidates(top, probabilities, ranks),
            # A padded vocabulary has ids that are not tokens and are never drawn.
            likeliest_sampled=tuple(sampled[token].item() if token < len(sampled) else 0.0 for token in top.tolist()),
        )
