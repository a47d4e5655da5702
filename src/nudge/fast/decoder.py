"""The fast decoder for a CPU: a new token is one call of nudge/fast/native/decode.c; a prompt is read all at once.

    prompt, T tokens --------------> forward (products of all T at once) --- keys, values --+
    next token, of one text or many ---> nudge_tokens (C, one call) <-----------------------+--> logits [n, V]

nudge/model/gpt.py computes the same in readable code, and decodes where this decoder is unavailable.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from nudge.fast.attention import attention
from nudge.fast.kernels import Kernels
from nudge.fast.weights import CSequence, DType, Weights, pack_weights
from nudge.model.gpt import GPT, Cache

MAX_TEXTS = 64  # as in decode.c
QUERIES = 128  # tokens of a prompt in one step of attention


class Reader(Protocol):
    """A network and the keys and values of the tokens that it has read."""

    @property
    def n_tokens(self) -> int:
        """The number of tokens read."""

    def feed(self, ids: Sequence[int]) -> Tensor:
        """Read tokens; return the logits [1, V] of the next token, as float32 on the CPU."""

    def clear(self) -> None:
        """Empty the cache."""


class PlainReader:
    """A reader on any device: model/gpt.py and its cache."""

    def __init__(self, network: GPT, room: int) -> None:
        self.network, self.room = network, room
        self.clear()

    @property
    def n_tokens(self) -> int:
        return self._cache.n_tokens

    def clear(self) -> None:
        self._cache = Cache(self.network, room=self.room)

    @torch.inference_mode()
    def feed(self, ids: Sequence[int]) -> Tensor:
        tokens = torch.tensor([ids], device=self.network.wte.weight.device)
        return self.network.logits(self.network.hidden(tokens, self._cache)[:, -1]).float().cpu()


class Decoder:
    """A reader of one sequence on a CPU: `feed` reads one token in C, several in one pass of PyTorch.

    `room` is the number of tokens that the cache can hold. The decoder uses PyTorch's number of threads
    (torch.set_num_threads); any number gives the same logits, bit for bit. Several decoders may share weights, each in
    its own Python thread.
    """

    def __init__(self, weights: Weights | GPT, dtype: DType = "float32", *, room: int | None = None) -> None:
        self.weights = weights if isinstance(weights, Weights) else pack_weights(weights, dtype)
        config = self.weights.config
        room = min(room or config.block_size, config.block_size)
        self._shape = (config.n_layer, config.n_head, room, config.n_embd // config.n_head)
        self.clear()

    @property
    def n_tokens(self) -> int:
        return self.c_sequence.n_tokens

    def clear(self) -> None:
        """Empty the cache and free its memory."""
        self.k, self.v = (torch.empty(self._shape, dtype=self.weights.torch_dtype) for _ in range(2))
        self.c_sequence = CSequence(self.k.data_ptr(), self.v.data_ptr(), self._shape[2], 0)

    @torch.inference_mode()
    def feed(self, ids: Sequence[int]) -> Tensor:
        """Read tokens; return the logits [1, V] of the next token, as float32."""
        return feed_each([self], ids) if len(ids) == 1 else feed_prompts([self], [ids])

    def check(self, ids: Sequence[int]) -> None:
        """Check that there is room and that the ids exist: C would otherwise read and write out of bounds."""
        assert ids, "no token to read"
        room = self.c_sequence.room
        assert self.n_tokens + len(ids) <= room, f"{self.n_tokens} + {len(ids)} tokens, room {room}"
        assert min(ids) >= 0, "an id outside the vocabulary"
        assert max(ids) < self.weights.config.vocab_size, "an id outside the vocabulary"

    def attend(self, layer: int, qkv: Tensor) -> Tensor:
        """Add the keys and values of T new tokens to the cache; return their attention: qkv [T, 3C] -> [T, C]."""
        T, n_all = qkv.size(0), self.n_tokens + qkv.size(0)
        q, k, v = qkv.view(T, 3, self.weights.config.n_head, -1).permute(1, 2, 0, 3).unbind(0)  # [H, T, K] each
        self.k[layer, :, self.n_tokens : n_all] = k
        self.v[layer, :, self.n_tokens : n_all] = v
        keys, values = (cache[layer, :, :n_all].to(q.dtype) for cache in (self.k, self.v))
        y = causal_attention(self.weights.prompt_kernels, q, keys, values)
        return y.transpose(0, 1).reshape(T, -1)


@torch.inference_mode()
def feed_each(decoders: Sequence[Decoder], ids: Sequence[int]) -> Tensor:
    """Read one token for each of up to MAX_TEXTS sequences of any lengths; return the logits [n, V], as float32.

    The sequences share the weights, which are read from memory once for all of them. The logits of each are the same,
    bit for bit, as if it were read alone.
    """
    weights, n, n_threads = decoders[0].weights, len(decoders), torch.get_num_threads()
    assert n == len(ids) <= MAX_TEXTS, f"{len(ids)} tokens for {n} sequences, at most {MAX_TEXTS}"
    assert all(decoder.weights is weights for decoder in decoders), "sequences of different weights"
    for decoder, id_ in zip(decoders, ids, strict=True):
        decoder.check([id_])
    longest = max(decoder.c_sequence.room for decoder in decoders)
    sequences = (ctypes.POINTER(CSequence) * n)(*(ctypes.pointer(decoder.c_sequence) for decoder in decoders))
    tokens = (ctypes.c_int64 * n)(*ids)
    memory = torch.empty(weights.kernels.nudge_workspace(ctypes.byref(weights.c_struct), n, longest, n_threads))
    logits = torch.empty(n, weights.config.vocab_size)
    weights.kernels.nudge_tokens(
        ctypes.byref(weights.c_struct), sequences, tokens, n, longest, memory.data_ptr(), logits.data_ptr(), n_threads
    )
    for decoder in decoders:
        decoder.c_sequence.n_tokens += 1
    return logits


@torch.inference_mode()
def feed_prompts(decoders: Sequence[Decoder], prompts: Sequence[Sequence[int]]) -> Tensor:
    """Read several tokens for each sequence, all in one pass; return the logits [n, V], as float32.

    The sequences must share their weights.
    """
    weights, lengths = decoders[0].weights, [len(ids) for ids in prompts]
    for decoder, ids in zip(decoders, prompts, strict=True):
        decoder.check(ids)
    positions = [p for d, n in zip(decoders, lengths, strict=True) for p in range(d.n_tokens, d.n_tokens + n)]

    def attend(layer: int, qkv: Tensor) -> Tensor:
        parts = zip(decoders, qkv.split(lengths), strict=True)
        return torch.cat([decoder.attend(layer, part) for decoder, part in parts])

    x = forward(weights, embed(weights, [id_ for ids in prompts for id_ in ids], positions), attend)
    for decoder, n in zip(decoders, lengths, strict=True):
        decoder.c_sequence.n_tokens += n
    return head(weights, x[torch.tensor(lengths).cumsum(0) - 1])


def causal_attention(kernels: Kernels, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return the attention of the T newest tokens: q [H, T, K], k and v of all tokens [H, T_all, K] -> [H, T, K]."""
    kernels.use_threads(torch.get_num_threads())
    out = torch.empty_like(q)
    attention(kernels, q, k, v, out, n_queries=QUERIES, buffer=lambda _, shape: q.new_empty(shape))
    return out


def embed(weights: Weights, ids: Sequence[int], positions: Sequence[int]) -> Tensor:
    """Return the residual stream [M, C] of tokens at their positions, in float32 for all dtypes of weights."""
    return weights.head.weight[torch.tensor(ids)].float() + weights.wpe[torch.tensor(positions)]


def forward(weights: Weights, x: Tensor, attend: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Run all layers on M tokens: x [M, C] -> [M, C]. Only `attend(layer, qkv)` mixes tokens."""
    for i, layer in enumerate(weights.layers):
        h = F.layer_norm(x, x.shape[1:], *layer.ln_1).to(weights.prompt_dtype)
        x = x + layer.attn_proj(attend(i, layer.c_attn(h)))
        h = F.layer_norm(x, x.shape[1:], *layer.ln_2).to(weights.prompt_dtype)
        x = x + layer.mlp_proj(layer.c_fc(h, gelu=True))
    return x


def head(weights: Weights, x: Tensor) -> Tensor:
    """Return the logits [M, V] of x [M, C], as float32."""
    h = F.layer_norm(x, x.shape[1:], *weights.ln_f).to(weights.prompt_dtype)
    return weights.head(h).float()
