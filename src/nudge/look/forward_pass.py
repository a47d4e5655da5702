"""The inside of one forward pass: every value between the tokens and the probabilities, computed on request.

The residual stream goes through the network's blocks, which never need T x T numbers. The inside of attention, which a
fused kernel hides, is computed step by step: scores, causal mask, softmax, weighted sum.

Legend of shapes: T tokens, C channels, H heads, K channels of a head, V vocabulary, L layers; no batch axis.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from nudge.errors import ConfigError, did_you_mean
from nudge.look.arguments import check_at_least, check_number
from nudge.look.prediction import check_context
from nudge.look.stages import Stage, stages_of, stream_before
from nudge.model.gpt import GPT, Block, Rotation

CAP_BYTES = 256_000_000  # the memory of a trace by default
_OVER_VOCABULARY = ("logits", "probabilities")  # the stages [T, V]
POSITIONS_AT_ONCE = 64  # in a product with the whole vocabulary: 64 rows of GPT-2's logits are 13 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """A stage for a small picture: every `row_stride`-th row and `column_stride`-th column."""

    values: Tensor  # picked, not averaged
    row_stride: int
    column_stride: int


class Trace:
    """One forward pass, made by `trace`; `trace[name]` is a stage as a tensor without a batch axis.

    It keeps the requested stages and pieces and the residual stream between the blocks, at most `cap_bytes` in total.
    The least recently used are dropped first, and computed again if needed.

    Methods return copies. The copy and the inputs of a value (a few stages, or the [T, T] of one head) take memory
    beyond the cap for a moment.

    The network is neither changed nor hooked, so other threads may use it at the same time; its weights must not change
    while the trace is used. Only one thread at a time may use a trace.
    """

    def __init__(self, network: GPT, tokens: tuple[int, ...], cap_bytes: int) -> None:
        self.network = network
        self.tokens = tokens
        self.cap_bytes = cap_bytes
        self.stages = stages_of(network.config, len(tokens))
        self._by_name = {stage.name: stage for stage in self.stages}
        # The newest at the end. Keys: (name, None) a whole stage, (name, head), (name, positions).
        self._kept: OrderedDict[tuple[str, int | tuple[int, ...] | None], Tensor] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        """Return the bytes that are kept now."""
        return sum(value.untyped_storage().nbytes() for value in self._kept.values())

    def stage(self, name: str) -> Stage:
        """Return a stage by its name. Raises: ConfigError for an unknown name."""
        if name not in self._by_name:
            raise ConfigError("unknown_stage", stage=str(name), closest=did_you_mean(str(name), self._by_name))
        return self._by_name[name]

    @torch.no_grad()
    def __getitem__(self, name: str) -> Tensor:
        """Return a whole stage, and keep it. Raises: ConfigError if it is unknown or larger than the cap."""
        return self._keep(self.stage(name)).clone()

    @torch.no_grad()
    def peek(self, name: str, head: int | None = None) -> Tensor:
        """Return a stage, or one head of it, without keeping it. Do not write to it: it may be the kept tensor."""
        stage = self.stage(name)
        if head is not None:
            self._check_head(stage, head)
        for key in ((name, None), (name, head)):
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key] if head is None or key[1] is not None else self._kept[key][head]
        return self._compute(stage, head)

    @torch.no_grad()
    def scores(self, layer: int, head: int) -> Tensor:
        """Return query times key / sqrt(K) for all pairs, [T, T]; the pattern uses the lower triangle."""
        return self._keep(self._head_stage(layer, head, "scores"), head).clone()

    @torch.no_grad()
    def pattern(self, layer: int, head: int) -> Tensor:
        """Return a head's pattern, [T, T]: row t has the weights with which token t attends to each token."""
        return self._keep(self._head_stage(layer, head, "pattern"), head).clone()

    @torch.no_grad()
    def logits(self, positions: Sequence[int]) -> Tensor:
        """Return the logits of n positions only, [n, V]. Raises: ConfigError for a position outside 0 .. T-1."""
        return self._keep(self.stage("logits"), check_positions(self, positions)).clone()

    @torch.no_grad()
    def pooled(self, layer: int, head: int, size: int = 32) -> Tensor:
        """Return a small version of a pattern, [<= size, <= size]: each cell is the largest weight of its square.

        The mean would hide a head that attends to a single token. Not kept.
        """
        check_at_least("size", size)
        q, k = (self.peek(self._head_stage(layer, head, part).name, head) for part in "qk")
        T = len(self.tokens)
        cell = math.ceil(T / size)
        n = math.ceil(T / cell)
        out = q.new_zeros(n, n)
        # One row of squares at a time: no products with hidden keys, and no [T, T] blocks of 4 MB, which fragment the
        # heap so that it grows by far more than is in use.
        for i in range(n):
            start, end = i * cell, min((i + 1) * cell, T)
            band = _masked_softmax(_scores(q[start:end], k[:end]), first=start)
            padded = F.pad(band, (0, -end % cell))  # with 0, which is never the largest
            out[i, : i + 1] = padded.view(end - start, -1, cell).amax((0, 2))
        return out

    @torch.no_grad()
    def extremes(self, name: str, head: int | None = None) -> tuple[float, float]:
        """Return the smallest and the largest value of a stage, or of one head of it. Keep nothing."""
        stage = self.stage(name)
        if stage.kind in _OVER_VOCABULARY:  # never all of [T, V]
            positions = torch.arange(len(self.tokens)).split(POSITIONS_AT_ONCE)
            pieces = [self._compute_over_vocabulary(stage.kind, some.tolist()).aminmax() for some in positions]
        else:
            pieces = [self.peek(name, head).aminmax()]
        return min(piece.min.item() for piece in pieces), max(piece.max.item() for piece in pieces)

    @torch.no_grad()
    def strip(self, name: str, *, rows: int = 64, columns: int = 256, head: int | None = None) -> Strip:
        """Return [<= rows, <= columns] of a stage's values, evenly spaced.

        `head` selects a head of a stage with heads, 0 by default. A stage other than logits or probabilities is kept if
        the cap allows, because the next strip is usually of a stage that is computed from it.
        Raises: ConfigError for an unknown name or head.
        """
        check_at_least("rows", rows)
        check_at_least("columns", columns)
        stage = self.stage(name)
        n_rows, n_columns = stage.shape[-2:] if len(stage.shape) > 1 else (len(self.tokens), 1)
        row_stride = math.ceil(n_rows / rows)
        column_stride = math.ceil(n_columns / columns)
        if stage.kind in _OVER_VOCABULARY:  # the largest stages: only the rows that are shown
            values = self._compute_over_vocabulary(stage.kind, range(0, n_rows, row_stride))
        else:
            if len(stage.shape) == 3 and head is None:
                head = 0
            if head is not None:
                self._check_head(stage, head)
            keep = _bytes(stage, head) <= self.cap_bytes
            values = self._keep(stage, head) if keep else self.peek(name, head)
            values = values.reshape(n_rows, n_columns)[::row_stride]
        return Strip(values=values[:, ::column_stride].clone(), row_stride=row_stride, column_stride=column_stride)

    # The cache.

    def _keep(self, stage: Stage, piece: int | tuple[int, ...] | None = None) -> Tensor:
        """Return a stage, one head of it or some of its positions from the cache, or compute and keep it."""
        key = (stage.name, piece)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        needed = _bytes(stage, piece)
        if needed > self.cap_bytes:
            less = _smaller_call(stage, piece)
            raise ConfigError("beyond_cap", stage=stage.name, needed=needed, cap=self.cap_bytes, less=less)
        # First compute the stage's input, then make room, then compute the stage: both fit under the cap if they can.
        if stage.block is not None:
            self._residual(stage.block)
        self._make_room(needed)
        value = (
            self._compute_over_vocabulary("logits", piece) if isinstance(piece, tuple) else self._compute(stage, piece)
        )
        self._store(key, value)
        return value

    def _store(self, key: tuple[str, int | tuple[int, ...] | None], value: Tensor) -> None:
        n_bytes = value.untyped_storage().nbytes()
        self._kept.pop(key, None)
        if n_bytes <= self.cap_bytes:
            self._make_room(n_bytes)
            self._kept[key] = value

    def _make_room(self, n_bytes: int) -> None:
        while self._kept and self.held_bytes + n_bytes > self.cap_bytes:
            self._kept.popitem(last=False)

    # The computation.

    def _compute(self, stage: Stage, head: int | None) -> Tensor:
        if stage.block is None:
            return self._compute_outside(stage.kind)
        if len(stage.shape) == 2:
            return self._compute_in_block(stage.block, stage.kind)
        if head is not None:
            return self._compute_in_head(stage.block, stage.kind, head)
        out = self.network.wte.weight.new_empty(stage.shape)
        for h in range(stage.shape[0]):  # one by one: only one head's [T, T] beside the result
            out[h] = self._compute_in_head(stage.block, stage.kind, h)
        return out

    def _compute_outside(self, kind: str) -> Tensor:
        """Compute a stage before or after the blocks."""
        network, T = self.network, len(self.tokens)
        match kind:
            case "tokens":
                return torch.tensor(self.tokens, device=network.wte.weight.device)
            case "wte":
                return network.wte(self._compute_outside("tokens"))
            case "wpe":
                return network.wpe(torch.arange(T, device=network.wte.weight.device))
            case "embedding":
                return self._residual(0)
            case "ln_f":
                return network.ln_f(self._residual(len(network.blocks)))
            case "logits":
                return network.logits(self.peek("ln_f"))
            case _:
                hidden, out = self.peek("ln_f"), network.wte.weight.new_empty(T, network.config.vocab_size)
                for start in range(0, T, POSITIONS_AT_ONCE):
                    rows = slice(start, start + POSITIONS_AT_ONCE)
                    out[rows] = network.logits(hidden[rows]).softmax(-1)
                return out

    def _residual(self, i: int) -> Tensor:
        """Compute the residual stream [T, C] before block i, starting from the nearest earlier one that is kept."""
        names = [stream_before(j) for j in range(i + 1)]
        start = next((j for j in range(i, -1, -1) if (names[j], None) in self._kept), None)
        if start is None:
            x = self._compute_outside("wte")
            if not self.network.config.rotary:
                x = x + self._compute_outside("wpe")
            start = 0
            self._store((names[0], None), x)
        else:
            x = self._kept[names[start], None]
            self._kept.move_to_end((names[start], None))
        for j in range(start, i):
            x = block_of(self.network, j)(x[None], None, self.rotation())[0]
            self._store((names[j + 1], None), x)
        return x

    def _compute_in_block(self, i: int, kind: str) -> Tensor:
        """Compute a stage [T, C] or [T, 4C] of block i."""
        block = block_of(self.network, i)

        def before(kind: str) -> Tensor:
            return self.peek(f"blocks.{i}.{kind}")

        match kind:
            case "ln_1":
                return block.ln_1(self._residual(i))
            case "attn.out":
                return block.attn(before("ln_1")[None], None, self.rotation())[0]
            case "mid":
                return self._residual(i) + before("attn.out")
            case "ln_2":
                return block.ln_2(before("mid"))
            case "mlp.pre":
                return block.mlp.c_fc(before("ln_2"))
            case "mlp.post":
                return F.gelu(before("mlp.pre"), approximate="tanh")
            case "mlp.out":
                return block.mlp.c_proj(before("mlp.post"))
            case _:
                return self._residual(i + 1)

    def _compute_in_head(self, i: int, kind: str, head: int) -> Tensor:
        """Compute a stage [T, K] or [T, T] of one head, without the fused kernel."""

        def before(kind: str) -> Tensor:
            return self.peek(f"blocks.{i}.attn.{kind}", head)

        match kind.removeprefix("attn."):
            case "q" | "k" as part if (rotation := self.rotation()) is not None:
                return rotation(self.unrotated(i, part, head))
            case "q" | "k" | "v" as part:
                return self.unrotated(i, part, head)
            case "scores":
                return _scores(before("q"), before("k"))
            case "pattern":
                return _masked_softmax(before("scores"))
            case _:
                return before("pattern") @ before("v")

    @torch.no_grad()
    def unrotated(self, layer: int, part: str, head: int) -> Tensor:
        """Return queries ("q"), keys ("k") or values ("v") of a head, [T, K]; with `rotary`, before the rotation."""
        c_attn = block_of(self.network, layer).attn.c_attn
        columns = head_columns(self.network, part, head)
        return F.linear(self.peek(f"blocks.{layer}.ln_1"), c_attn.weight[:, columns].t(), c_attn.bias[columns])

    def rotation(self) -> Rotation | None:
        """Return the rotation of queries and keys by their position; None if the network has a position table."""
        config = self.network.config
        if not config.rotary:
            return None
        return Rotation(0, len(self.tokens), config.n_embd // config.n_head, self.network.wte.weight.device)

    def _compute_over_vocabulary(self, kind: str, positions: Sequence[int]) -> Tensor:
        """Compute logits or probabilities of some positions, [n, V]."""
        logits = self.network.logits(self.peek("ln_f")[list(positions)])
        return logits if kind == "logits" else logits.softmax(-1)

    def _head_stage(self, layer: int, head: int, kind: str) -> Stage:
        """Return the stage `kind` of a layer's attention. Raises: ConfigError if there is no such layer or head."""
        check_number("layer", layer, self.network.config.n_layer)
        stage = self._by_name[f"blocks.{layer}.attn.{kind}"]
        self._check_head(stage, head)
        return stage

    def _check_head(self, stage: Stage, head: int) -> None:
        if len(stage.shape) != 3:
            raise ConfigError("stage_without_heads", stage=stage.name, head=head)
        check_number("head", head, stage.shape[0])


def trace(network: GPT, tokens: Sequence[int], *, cap_bytes: int = CAP_BYTES) -> Trace:
    """Return the trace of a forward pass over `tokens`. Nothing is computed yet.

    Shapes: 1 .. block_size token ids. Raises: ConfigError for another number of ids or an id outside the vocabulary.
    """
    ids = tuple(int(token) for token in tokens)
    check_context(ids, network.config)
    check_at_least("cap_bytes", cap_bytes, least=0)
    return Trace(network, ids, cap_bytes)


def check_positions(trace: Trace, positions: Sequence[int]) -> tuple[int, ...]:
    """Return `positions` as integers. Raises: ConfigError for one outside 0 .. T-1."""
    chosen = tuple(int(position) for position in positions)
    for position in chosen:
        check_number("position", position, len(trace.tokens))
    return chosen


def _scores(q: Tensor, k: Tensor) -> Tensor:
    """Return how well each query fits each key: q [n, K], k [m, K] -> [n, m]."""
    return q @ k.t() / math.sqrt(q.size(1))


def _masked_softmax(scores: Tensor, first: int = 0) -> Tensor:
    """Return the pattern of scores [n, m] whose first row is token `first`: later tokens get 0, rows sum to 1."""
    future = torch.ones(scores.shape, dtype=torch.bool, device=scores.device).triu(1 + first)
    return scores.masked_fill(future, -torch.inf).softmax(-1)


def block_of(network: GPT, i: int) -> Block:
    """Return block i with its type."""
    return cast(Block, network.blocks[i])


def head_columns(network: GPT, part: str, head: int) -> slice:
    """Return a head's columns of `c_attn`, which has q of all heads, then k, then v."""
    C = network.config.n_embd
    K = C // network.config.n_head
    start = "qkv".index(part) * C + head * K
    return slice(start, start + K)


def _bytes(stage: Stage, piece: int | tuple[int, ...] | None) -> int:
    """Return the bytes of a stage or a piece of it: ids are int64, all other numbers float32."""
    rows = 1 if isinstance(piece, int) else len(piece) if isinstance(piece, tuple) else stage.shape[0]
    return rows * math.prod(stage.shape[1:]) * (8 if stage.kind == "tokens" else 4)


def _smaller_call(stage: Stage, piece: int | tuple[int, ...] | None) -> str:
    """Return a call that returns a smaller part of a stage."""
    if stage.kind in _OVER_VOCABULARY:
        return f"trace.logits([{stage.shape[0] - 1}])"
    if stage.kind in ("attn.scores", "attn.pattern") and piece is None:
        return f"trace.{stage.kind.removeprefix('attn.')}({stage.block}, 0)"
    if stage.kind == "attn.pattern":
        return f"trace.pooled({stage.block}, {piece})"
    return f"trace.strip({stage.name!r})"
