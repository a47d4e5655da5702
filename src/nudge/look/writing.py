"""The network's prediction at each token that it draws."""

from collections.abc import Iterator
from dataclasses import dataclass

from nudge.infer.streams import TokenStream
from nudge.look.prediction import Candidate, candidates, rank_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A drawn token, which may be the end of the text.

    `probability` and `rank` are the network's own; `sampled` is the probability it was drawn with, after temperature,
    top-k and top-p. `likeliest` are the tokens that the network found likeliest, `likeliest_sampled` the probabilities
    with which these could be drawn.
    """

    token: int
    probability: float
    rank: int
    sampled: float
    likeliest: tuple[Candidate, ...]
    likeliest_sampled: tuple[float, ...]


def watch(tokens: TokenStream, *, n_likeliest: int = 8) -> Iterator[Drawn]:
    """Yield the tokens of a stream, the same as without watching, each with the network's prediction."""
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
            # A padded vocabulary has ids that stand for no token and are never drawn.
            likeliest_sampled=tuple(sampled[token].item() if token < len(sampled) else 0.0 for token in top.tolist()),
        )
