"""GPT-2, the whole network in one file (Source: Radford et al. 2019, and OpenAI's gpt-2/src/model.py).

    tokens [B, T] -> wte + wpe -> n_layer x (ln_1, attention, +, ln_2, MLP, +) -> ln_f -> logits [B, T, V] -> softmax

Shapes: B batch, T tokens, C channels (n_embd), H heads, K channels of a head (C / H), V vocabulary, L layers.

The switches of ModelConfig (rotary, untied, zero_init) each replace one part; GPT-2 has them all off. The network is a
pure function of its input and its parameters: it keeps no state between calls.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from nudge.config import ModelConfig


class Linear(nn.Module):
    """The product x @ weight + bias: [.., n_in] -> [.., n_out], with GPT-2's layout of the weight, [n_in, n_out].

    OpenAI's checkpoints, Hugging Face's `Conv1D` and the learning material use this layout too; `torch.nn.Linear`
    stores the transpose.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.empty(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t(), self.bias)


# Parameters get their values from `init_weights` or from a checkpoint. PyTorch would first draw others here, from the
# user's own random generator; on the meta device it would import its compiler for that, which takes seconds.
class Embedding(nn.Embedding):
    """A table with one row for each token or position."""

    def reset_parameters(self) -> None:
        pass


class Head(nn.Linear):
    """The output head of an untied network."""

    def reset_parameters(self) -> None:
        pass


class LayerCache:
    """The keys and values of one layer: [B, H, up to `room` tokens, K]."""

    def __init__(self, batch: int, room: int, config: ModelConfig, *, dtype: torch.dtype, device: torch.device) -> None:
        shape = (batch, config.n_head, room, config.n_embd // config.n_head)
        self.k = torch.empty(shape, dtype=dtype, device=device)
        self.v = torch.empty(shape, dtype=dtype, device=device)
        self.n_tokens = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v [B, H, T, K] of new tokens; return those of all tokens so far."""
        start, self.n_tokens = self.n_tokens, self.n_tokens + k.size(2)
        self.k[:, :, start : self.n_tokens] = k
        self.v[:, :, start : self.n_tokens] = v
        return self.k[:, :, : self.n_tokens], self.v[:, :, : self.n_tokens]


class Cache:
    """The keys and values of every layer, so that a new token costs one position instead of the whole context."""

    def __init__(self, model: "GPT", *, batch: int = 1, room: int | None = None) -> None:
        weight = model.wte.weight
        self.layers = [
            LayerCache(batch, room or model.config.block_size, model.config, dtype=weight.dtype, device=weight.device)
            for _ in model.blocks
        ]

    @property
    def n_tokens(self) -> int:
        """The number of filled positions."""
        return self.layers[0].n_tokens


class Rotation:
    """Rotary positions: queries and keys are rotated by their position, so that a score depends on the distance only.

    Channels i and i + K/2 form a pair, which rotates by 10000^(-2i/K) per token. Source: Su et al. 2021.
    """

    def __init__(self, start: int, n_tokens: int, K: int, device: torch.device) -> None:
        speed = 10_000.0 ** (torch.arange(K // 2, device=device) * (-2 / K))
        angle = torch.arange(start, start + n_tokens, device=device)[:, None] * speed  # [T, K/2]
        self.cos, self.sin = angle.cos(), angle.sin()

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate x [B, H, T, K]; in float32, because bfloat16 cannot tell distant positions apart."""
        a, b = x.float().chunk(2, dim=-1)
        return torch.cat((a * self.cos - b * self.sin, a * self.sin + b * self.cos), dim=-1).to(x.dtype)


class Attention(nn.Module):
    """Causal self-attention: each token mixes in the values of itself and the tokens before it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd)  # q, k and v in one product
        self.c_proj = Linear(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, cache: LayerCache | None = None, rotation: Rotation | None = None) -> Tensor:
        """Map x [B, T, C] to [B, T, C]. With a cache, x holds the new tokens only."""
        B, T, C = x.shape
        q, k, v = self.c_attn(x).view(B, T, 3, self.n_head, C // self.n_head).permute(2, 0, 3, 1, 4).unbind(0)
        if rotation is not None:
            q, k = rotation(q), rotation(k)
        if cache is not None:
            k, v = cache.append(k.to(cache.k.dtype), v.to(cache.v.dtype))
            q = q.to(k.dtype)
        # PyTorch's is_causal is right without a cache or with an empty one; a single new token sees everything.
        n_all = k.size(2)
        mask = None if T in (1, n_all) else _triangle(T, n_all, x.device)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=n_all == T)
        return self.c_proj(y.transpose(1, 2).reshape(B, T, C))


def _triangle(n_new: int, n_all: int, device: torch.device) -> Tensor:
    """Return which of all tokens each new token may see: bool [n_new, n_all]."""
    rows = torch.arange(n_all - n_new, n_all, device=device)[:, None]
    return torch.arange(n_all, device=device)[None, :] <= rows


class MLP(nn.Module):
    """The feed-forward part, for each token by itself: C -> 4C, GELU (tanh form, as in GPT-2), 4C -> C."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    """One layer: attention and MLP each add to the residual stream x."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cache: LayerCache | None = None, rotation: Rotation | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), cache, rotation)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """The network. Its parameters start uninitialized: call `init_weights`, or load a checkpoint."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.wte = Embedding(config.vocab_size, config.n_embd)  # also the output head, if tied
        if not config.rotary:
            self.wpe = Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        if config.untied:
            self.head = Head(config.n_embd, config.vocab_size, bias=False)

    def hidden(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Return the output of the final norm, [B, T, C], for tokens [B, T]. With a cache, pass the new tokens only.

        There must be at least one token (a text without a prompt starts with the end-of-text token), and no more than
        block_size together with the cache.
        """
        start = cache.n_tokens if cache else 0
        T = tokens.size(1)
        assert 0 < T <= self.config.block_size - start, f"{start} + {T} tokens, room {self.config.block_size}"
        x, rotation = self.wte(tokens), None
        if self.config.rotary:
            rotation = Rotation(start, T, self.config.n_embd // self.config.n_head, tokens.device)
        else:
            x = x + self.wpe(torch.arange(start, start + T, device=tokens.device))
        for i, block in enumerate(self.blocks):
            x = block(x, cache.layers[i] if cache else None, rotation)
        return self.ln_f(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return a score for each token of the vocabulary, [.., V], for hidden [.., C]: softmax gives probabilities."""
        return F.linear(hidden, self.head_weight)

    @property
    def head_weight(self) -> Tensor:
        """The weight of the output head, [V, C]."""
        return self.head.weight if self.config.untied else self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits [B, T, V] for tokens [B, T]: at each position, the scores of the next token."""
        return self.logits(self.hidden(tokens))

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean of -ln p(target) over all positions, in nats, as float32.

        Shapes: tokens and targets [B, T]. Targets of -1 are ignored.
        """
        V = self.config.vocab_size
        # Padded to a multiple of 64, 50,257 -> 50,304 (as in nanoGPT): on a GPU the products are faster by a quarter.
        weight = F.pad(self.head_weight, (0, 0, 0, -V % 64))
        logits = F.linear(self.hidden(tokens), weight)[..., :V].float()
        return F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1), ignore_index=-1)


@torch.no_grad()
def init_weights(model: GPT, seed: int) -> None:
    """Set all parameters to random values, drawn as OpenAI did. The same seed gives the same values on every device."""
    parameters = dict(model.named_parameters())
    for name, value in first_weights(model, seed):
        parameters[name].copy_(value)


def first_weights(model: GPT, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and values of `init_weights`, on the CPU. Only the names and shapes of `model` are used.

    Matrices are normal with standard deviation 0.02 (positions 0.01); residual projections are divided by sqrt(2L), so
    that the residual stream does not grow with depth. Biases are 0, norms 1. The first loss is then close to ln V, that
    of a guess among V tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    stds = {"wpe.weight": 0.01, "c_proj.weight": 0.0 if config.zero_init else 0.02 / math.sqrt(2 * config.n_layer)}
    if config.untied:  # token embeddings dominate the residual stream, and the first logits are still 0
        stds |= {"wte.weight": 1.0, "head.weight": 0.0}
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            yield name, torch.full(parameter.shape, 1.0 if ".ln_" in f".{name}" and name.endswith("weight") else 0.0)
        else:
            std = next((std for end, std in stds.items() if name.endswith(end)), 0.02)
            yield name, torch.empty(parameter.shape).normal_(0.0, std, generator=generator)
