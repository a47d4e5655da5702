"""One forward pass, opened: every value between the tokens and the probabilities, computed when it is asked for.

The residual stream goes through the network's own blocks, so it never needs T x T numbers. What happens inside
attention, which a fused kernel does not show, is computed step by step: scores, causal mask, softmax, weighted sum.

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

from nudge.errors import ConfigError, nearest
from nudge.look.prediction import check_context
from nudge.look.stages import Stage, stages_of, stream_before
from nudge.model.gpt import GPT, Block, Rotation

CAP_BYTES = 256_000_000  # what a trace may hold, unless the caller says otherwise
POSITIONS_AT_ONCE = 64  # of a product with the whole vocabulary: 64 rows of GPT-2's are 13 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """A stage for a small picture: every `row_stride`-th row and `column_stride`-th column, the rest left out."""

    values: Tensor  # real values of the stage, none of them averaged
    row_stride: int
    column_stride: int


class Trace:
    """One forward pass, opened. Made by `trace`; `trace[name]` gives a stage as a tensor without a batch axis.

    Kept are the stages and pieces that were asked for and the residual stream between the blocks, `cap_bytes` together
    at most; what was not used for longest goes first and is computed again if need be.

    What is returned is the caller's own copy. Beyond the cap come, for the moment, this copy and what a value is made
    from: a few stages, or the [T, T] of one head.

    The network is neither changed nor hooked into, so others may use it meanwhile; its weights must stay as they are
    as long as the trace is used. A trace itself is for one thread at a time.
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
        """What is kept at this moment."""
        return sum(value.untyped_storage().nbytes() for value in self._kept.values())

    def stage(self, name: str) -> Stage:
        """Raises: ConfigError for an unknown name, naming the closest."""
        if name not in self._by_name:
            raise ConfigError(f"there is no stage {name!r} in this network", nearest(str(name), self._by_name))
        return self._by_name[name]

    @torch.no_grad()
    def __getitem__(self, name: str) -> Tensor:
        """A whole stage, kept from now on. Raises: ConfigError if its name is unknown or it alone is beyond the cap."""
        return self._keep(self.stage(name)).clone()

    @torch.no_grad()
    def peek(self, name: str, head: int | None = None) -> Tensor:
        """A stage, or one head of it, that is not kept unless it already was. To read only: it may be what is kept."""
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
        """[T, T]: query times key / sqrt(K), for all pairs; the pattern reads those at and below the diagonal."""
        return self._keep(self._of_head(layer, head, "scores"), head).clone()

    @torch.no_grad()
    def pattern(self, layer: int, head: int) -> Tensor:
        """[T, T]: row t says how much token t takes from each token."""
        return self._keep(self._of_head(layer, head, "pattern"), head).clone()

    @torch.no_grad()
    def logits(self, positions: Sequence[int]) -> Tensor:
        """[n, V] of n positions, without those of the others. Raises: ConfigError for a position outside 0 .. T-1."""
        return self._keep(self.stage("logits"), check_positions(self, positions)).clone()

    @torch.no_grad()
    def pooled(self, layer: int, head: int, size: int = 32) -> Tensor:
        """[<= size, <= size]: a pattern in small, each cell the largest weight of the square it stands for.

        The largest and not the mean, which would fade a head that looks at a single token to nothing. Not kept.
        """
        q, k = (self.peek(self._of_head(layer, head, part).name, head) for part in "qk")
        T = len(self.tokens)
        cell = math.ceil(T / _positive("size", size))
        n = math.ceil(T / cell)
        out = q.new_zeros(n, n)
        # One row of squares at a time: no [T, T], whose 4 MB blocks, with small results left lying between them, would
        # also let the heap grow by far more than is alive; and no products with keys that are hidden.
        for i in range(n):
            start, end = i * cell, min((i + 1) * cell, T)
            band = _shares(_scores(q[start:end], k[:end]), first=start)
            out[i, : i + 1] = F.pad(band, (0, -end % cell)).view(end - start, -1, cell).amax((0, 2))  # 0: the least
        return out

    @torch.no_grad()
    def extremes(self, name: str, head: int | None = None) -> tuple[float, float]:
        """The smallest and the largest value of a stage, or of one head of it. Nothing is kept."""
        stage = self.stage(name)
        if stage.kind not in ("logits", "probabilities"):
            low, high = self.peek(name, head).aminmax()
            return low.item(), high.item()
        pieces = []
        for start in range(0, len(self.tokens), POSITIONS_AT_ONCE):  # never all of [T, V]
            logits = self._logits(range(start, min(start + POSITIONS_AT_ONCE, len(self.tokens))))
            pieces.append((logits.softmax(-1) if stage.kind == "probabilities" else logits).aminmax())
        return min(piece.min.item() for piece in pieces), max(piece.max.item() for piece in pieces)

    @torch.no_grad()
    def strip(self, name: str, *, rows: int = 64, columns: int = 256, head: int | None = None) -> Strip:
        """A stage in small: [<= rows, <= columns] of its values, evenly spaced.

        `head` chooses from a stage that has heads, head 0 by default. The stage (of logits and probabilities nothing)
        is kept if the cap allows, because the next strip is mostly of a stage that is made from it.
        Raises: ConfigError for an unknown name or head.
        """
        stage = self.stage(name)
        n_rows, n_columns = stage.shape[-2:] if len(stage.shape) > 1 else (len(self.tokens), 1)
        row_stride = math.ceil(n_rows / _positive("rows", rows))
        column_stride = math.ceil(n_columns / _positive("columns", columns))
        if stage.kind in ("logits", "probabilities"):  # the largest stages: only the rows that are shown
            values = self._logits(range(0, n_rows, row_stride))
            values = values.softmax(-1) if stage.kind == "probabilities" else values
        else:
            if len(stage.shape) == 3 and head is None:
                head = 0
            if head is not None:
                self._check_head(stage, head)
            keep = _bytes(stage, head) <= self.cap_bytes
            values = self._keep(stage, head) if keep else self.peek(name, head)
            values = values.reshape(n_rows, n_columns)[::row_stride]
        return Strip(values=values[:, ::column_stride].clone(), row_stride=row_stride, column_stride=column_stride)

    # What is kept.

    def _keep(self, stage: Stage, piece: int | tuple[int, ...] | None = None) -> Tensor:
        """A stage, one head of it or some of its positions: as it is kept, or computed and kept."""
        key = (stage.name, piece)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        needed = _bytes(stage, piece)
        if needed > self.cap_bytes:
            raise ConfigError(
                f"{stage.name} is {needed:,} bytes, and this trace may hold {self.cap_bytes:,}",
                _smaller(stage, piece) + f"trace(network, tokens, cap_bytes={needed}), or fewer tokens",
            )
        # What it is made from first, then room for it, then itself: so both fit under the cap wherever they can.
        if stage.block is not None:
            self._residual(stage.block)
        self._make_room(needed)
        value = self._logits(piece) if isinstance(piece, tuple) else self._compute(stage, piece)
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

    # What is computed.

    def _compute(self, stage: Stage, head: int | None) -> Tensor:
        if stage.block is None:
            return self._outside(stage.kind)
        if len(stage.shape) == 2:
            return self._in_block(stage.block, stage.kind)
        if head is not None:
            return self._in_head(stage.block, stage.kind, head)
        out = self.network.wte.weight.new_empty(stage.shape)
        for h in range(stage.shape[0]):  # one after the other: only one head's [T, T] on top of the result
            out[h] = self._in_head(stage.block, stage.kind, h)
        return out

    def _outside(self, kind: str) -> Tensor:
        """The stages before and after the blocks."""
        network, T = self.network, len(self.tokens)
        match kind:
            case "tokens":
                return torch.tensor(self.tokens, device=network.wte.weight.device)
            case "wte":
                return network.wte(self._outside("tokens"))
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
        """The residual stream [T, C] before block i, from the nearest earlier place where it is kept."""
        names = [stream_before(j) for j in range(i + 1)]
        start = next((j for j in range(i, -1, -1) if (names[j], None) in self._kept), None)
        if start is None:
            x = self._outside("wte")
            if not self.network.config.rotary:
                x = x + self._outside("wpe")
            start = 0
            self._store((names[0], None), x)
        else:
            x = self._kept[names[start], None]
            self._kept.move_to_end((names[start], None))
        for j in range(start, i):
            x = block_of(self.network, j)(x[None], None, self.rotation())[0]
            self._store((names[j + 1], None), x)
        return x

    def _in_block(self, i: int, kind: str) -> Tensor:
        """The stages [T, C] and [T, 4C] of block i."""
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

    def _in_head(self, i: int, kind: str, head: int) -> Tensor:
        """The stages [T, K] and [T, T] of one head: attention on the explicit path."""

        def before(kind: str) -> Tensor:
            return self.peek(f"blocks.{i}.attn.{kind}", head)

        match kind.removeprefix("attn."):
            case "q" | "k" as part if (rotation := self.rotation()) is not None:
                return rotation(self.unturned(i, part, head))
            case "q" | "k" | "v" as part:
                return self.unturned(i, part, head)
            case "scores":
                return _scores(before("q"), before("k"))
            case "pattern":
                return _shares(before("scores"))
            case _:
                return before("pattern") @ before("v")

    @torch.no_grad()
    def unturned(self, layer: int, part: str, head: int) -> Tensor:
        """[T, K]: queries ("q"), keys ("k") or values ("v") of a head; with `rotary`, before they are turned."""
        c_attn = block_of(self.network, layer).attn.c_attn
        columns = head_columns(self.network, part, head)
        return F.linear(self.peek(f"blocks.{layer}.ln_1"), c_attn.weight[:, columns].t(), c_attn.bias[columns])

    def rotation(self) -> Rotation | None:
        """What turns queries and keys by their position; None if the network has a position table."""
        config = self.network.config
        if not config.rotary:
            return None
        return Rotation(0, len(self.tokens), config.n_embd // config.n_head, self.network.wte.weight.device)

    def _logits(self, positions: Sequence[int]) -> Tensor:
        return self.network.logits(self.peek("ln_f")[list(positions)])

    def _of_head(self, layer: int, head: int, kind: str) -> Stage:
        """The stage `kind` of a layer's attention, which has such a head."""
        n_layer = self.network.config.n_layer
        if not 0 <= layer < n_layer:
            raise ConfigError(f"layer {layer} is not in this network of {n_layer}", f"choose from 0 .. {n_layer - 1}")
        stage = self._by_name[f"blocks.{layer}.attn.{kind}"]
        self._check_head(stage, head)
        return stage

    def _check_head(self, stage: Stage, head: int) -> None:
        n_head = stage.shape[0] if len(stage.shape) == 3 else 0
        if not 0 <= head < n_head:
            hint = f"choose from 0 .. {n_head - 1}" if n_head else "leave out the head"
            raise ConfigError(f"{stage.name} has {n_head} heads, got head {head}", hint)


def trace(network: GPT, tokens: Sequence[int], *, cap_bytes: int = CAP_BYTES) -> Trace:
    """Open one forward pass over `tokens`. Nothing is computed yet.

    Shapes: 1 .. block_size token ids. Raises: ConfigError for another number of them or an id outside the vocabulary.
    """
    ids = tuple(int(token) for token in tokens)
    check_context(ids, network.config)
    if cap_bytes < 0:
        raise ConfigError(f"cap_bytes must be 0 or more, got {cap_bytes}", f"leave it out for {CAP_BYTES:,}")
    return Trace(network, ids, cap_bytes)


def check_positions(trace: Trace, positions: Sequence[int]) -> tuple[int, ...]:
    """`positions`, each of them 0 .. T-1. Raises: ConfigError for any other."""
    chosen, T = tuple(int(position) for position in positions), len(trace.tokens)
    strange = next((position for position in chosen if not 0 <= position < T), None)
    if strange is not None:
        raise ConfigError(f"position {strange} is not in this trace of {T} tokens", f"choose from 0 .. {T - 1}")
    return chosen


def _scores(q: Tensor, k: Tensor) -> Tensor:
    """q [n, K], k [m, K] -> [n, m]: how well each query fits each key."""
    return q @ k.t() / math.sqrt(q.size(1))


def _shares(scores: Tensor, first: int = 0) -> Tensor:
    """The pattern of scores [n, m], whose first row is token `first`: what comes later is hidden, a row sums to 1."""
    future = torch.ones(scores.shape, dtype=torch.bool, device=scores.device).triu(1 + first)
    return scores.masked_fill(future, -torch.inf).softmax(-1)


def block_of(network: GPT, i: int) -> Block:
    """Block i, with its type."""
    return cast(Block, network.blocks[i])


def head_columns(network: GPT, part: str, head: int) -> slice:
    """Where in `c_attn` the queries, keys or values of a head are: q of all heads, then k, then v."""
    C = network.config.n_embd
    K = C // network.config.n_head
    start = "qkv".index(part) * C + head * K
    return slice(start, start + K)


def _bytes(stage: Stage, piece: int | tuple[int, ...] | None) -> int:
    """Of float32 numbers; the ids are int64."""
    rows = 1 if isinstance(piece, int) else len(piece) if isinstance(piece, tuple) else stage.shape[0]
    return rows * math.prod(stage.shape[1:]) * (8 if stage.kind == "tokens" else 4)


def _smaller(stage: Stage, piece: int | tuple[int, ...] | None) -> str:
    """How to ask for less of a stage that is beyond the cap."""
    if stage.kind in ("logits", "probabilities"):
        return f"ask for fewer positions: trace.logits([{stage.shape[0] - 1}]); or "
    if piece is None and stage.kind in ("attn.scores", "attn.pattern"):
        return f"ask for one head: trace.{stage.kind.removeprefix('attn.')}({stage.block}, 0); or "
    if stage.kind == "attn.pattern":
        return f"ask for it in small: trace.pooled({stage.block}, {piece}); or "
    return ""


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ConfigError(f"{name} must be 1 or more, got {value}", "leave it out for the default")
    return value
