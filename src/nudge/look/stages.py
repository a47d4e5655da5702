"""The names, shapes and roles of all values between the tokens and the probabilities.

Legend of shapes: T tokens, C channels, H heads, V vocabulary; no batch axis.
"""

from dataclasses import dataclass

from nudge.config import ModelConfig

ROLES = {
    "tokens": "The ids of the tokens that the network reads.",
    "wte": "Each token's row of the token table: what the token is.",
    "wpe": "Each position's row of the position table: where the token stands.",
    "embedding": "The residual stream as it begins, before the first block.",
    "ln_1": "The residual stream with mean 0 and variance 1 per token, scaled and shifted: what attention reads.",
    "attn.q": "Queries: what each token looks for, one vector per head.",
    "attn.k": "Keys: what each token can be found by, one vector per head.",
    "attn.v": "Values: what each token hands over when it is found, one vector per head.",
    "attn.scores": "How well each query fits each key, for every pair, before the causal mask.",
    "attn.pattern": "How much each token takes from itself and each token before it; a row sums to 1.",
    "attn.heads": "What each head gathered: the values, weighted by the pattern.",
    "attn.out": "What attention adds to the residual stream: the gatherings of all heads, mixed.",
    "mid": "The residual stream after attention.",
    "ln_2": "The residual stream with mean 0 and variance 1 per token, scaled and shifted: what the MLP reads.",
    "mlp.pre": "The hidden units of the MLP before GELU.",
    "mlp.post": "The hidden units after GELU, which lets large values pass and holds negative ones back.",
    "mlp.out": "What the MLP adds to the residual stream.",
    "block.out": "The residual stream after the block.",
    "ln_f": "The residual stream after the last block, normalized: what the output head reads.",
    "logits": "A score for every token of the vocabulary, as the one that comes next.",
    "probabilities": "The scores as probabilities; a row sums to 1.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A named value of the forward pass. `kind` is the name without the number of the block."""

    name: str
    kind: str
    block: int | None
    shape: tuple[int, ...]

    @property
    def role(self) -> str:
        """Return the purpose of the stage, in one sentence."""
        return ROLES[self.kind]


def stages_of(config: ModelConfig, T: int) -> tuple[Stage, ...]:
    """Return all stages of a pass over T tokens, in the order of the computation."""
    C, H, V = config.n_embd, config.n_head, config.vocab_size
    by_head, pairs = (H, T, C // H), (H, T, T)
    first = {"tokens": (T,), "wte": (T, C), "wpe": (T, C), "embedding": (T, C)}
    if config.rotary:
        del first["wpe"]
    block: dict[str, tuple[int, ...]] = {"ln_1": (T, C), "attn.q": by_head, "attn.k": by_head, "attn.v": by_head}
    block |= {"attn.scores": pairs, "attn.pattern": pairs, "attn.heads": by_head, "attn.out": (T, C), "mid": (T, C)}
    block |= {"ln_2": (T, C), "mlp.pre": (T, 4 * C), "mlp.post": (T, 4 * C), "mlp.out": (T, C), "block.out": (T, C)}
    last = {"ln_f": (T, C), "logits": (T, V), "probabilities": (T, V)}
    return (
        *(Stage(name=kind, kind=kind, block=None, shape=shape) for kind, shape in first.items()),
        *(
            Stage(name=f"blocks.{i}.{kind.removeprefix('block.')}", kind=kind, block=i, shape=shape)
            for i in range(config.n_layer)
            for kind, shape in block.items()
        ),
        *(Stage(name=kind, kind=kind, block=None, shape=shape) for kind, shape in last.items()),
    )


def stream_before(i: int) -> str:
    """Return the name of the residual stream before block i; for i = L, before `ln_f`."""
    return f"blocks.{i - 1}.out" if i else "embedding"
