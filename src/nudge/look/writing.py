"""What a network said each time that a token of its text was drawn."""

from collections.abc import Iterator
from dataclasses import dataclass

from nudge.infer.streams import TokenStream
from nudge.look.prediction import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A token that was drawn, the end of the text included.

    `probability` and `rank` are the network's own; `sampled` is the probability it was drawn with, after temperature,
    top-k and top-p. `likeliest` are the tokens the network held for the likeliest, and `likeliest_sampled` the
    probabilities of these to be drawn.
    """

    token: int
    probability: float
    rank: int
    sampled: float
    likeliest: tuple[Candidate, ...]
    likeliest_sampled: tuple[float, ...]


def watch(tokens: TokenStream, *, n_likeliest: int = 8) -> Iterator[Drawn]:
    """The tokens of a stream, the same as without watching, each with what the network said."""
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
            rank=1 + int((scores > scores[tokens.drawn]).sum()),
            sampled=sampled[tokens.drawn].item(),
            likeliest=tuple(
                Candidate(token=token, probability=probability, rank=rank)
                for token, probability, rank in zip(
                    top.tolist(), probabilities[top].tolist(), ranks.tolist(), strict=True
                )
            ),
            # A padded vocabulary has ids that stand for no token and are never drawn.
            likeliest_sampled=tuple(sampled[token].item() if token < len(sampled) else 0.0 for token in top.tolist()),
        )
