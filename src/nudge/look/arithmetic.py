"""The arithmetic behind one number of the forward pass.

Legend of shapes: T tokens, C channels, H heads, K channels of a head, V vocabulary; no batch axis.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import LayerNorm

from nudge.look.arguments import check_at_least, check_index, check_number
from nudge.look.forward_pass import Trace, block_of, head_columns
from nudge.look.patterns import fold_rows
from nudge.look.stages import Stage, stream_before
from nudge.model.gpt import Rotation

Operation = Literal["sum", "norm", "softmax", "gelu", "hidden"]

_NORM = "(x - mean) / sqrt(var + eps) * w + b"
_PRODUCTS = "sum over c of x[c] * w[c] + bias"
FORMULAS = {  # by the kind of the stage; index names as in the legend
    "tokens": "tokens[t]",
    "wte": "wte.weight[token, c]",
    "wpe": "wpe.weight[t, c]",
    "embedding": "wte + wpe",
    "ln_1": _NORM,
    "attn.q": _PRODUCTS,
    "attn.k": _PRODUCTS,
    "attn.v": _PRODUCTS,
    "attn.scores": "sum over k of query[k] * key[k] / sqrt(K)",
    "attn.pattern": "e^(score - largest) / sum",
    "attn.heads": "sum over tokens of pattern * value",
    "attn.out": "sum over heads of head + bias",
    "mid": "x + attn.out",
    "ln_2": _NORM,
    "mlp.pre": _PRODUCTS,
    "mlp.post": "0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))",
    "mlp.out": _PRODUCTS,
    "block.out": "mid + mlp.out",
    "ln_f": _NORM,
    "logits": "sum over c of x[c] * w[c]",
    "probabilities": "e^(logit - largest) / sum",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One input of a number. `index` is its channel, unit, token or head; the product of `factors` is its value."""

    label: str
    value: float
    index: int | None = None
    factors: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """One number and the numbers that it was computed from.

    For `operation` "sum" the value is the sum of the terms and of `rest`, the sum of the terms that are not listed;
    there are `n_terms` in total. For other operations the terms are the names in `formula`, and `rest` is 0. "hidden"
    is a cell of a pattern above the diagonal, which is 0: no token attends to a later one.
    """

    name: str
    index: tuple[int, ...]
    value: float
    operation: Operation
    formula: str
    terms: tuple[Term, ...]
    rest: float = 0.0
    n_terms: int

    @property
    def recomputed(self) -> float:
        """Compute the value from the terms alone; it equals `value` up to the rounding of float32."""
        at = {term.label: term.value for term in self.terms}
        match self.operation:
            case "sum":
                return sum(term.value for term in self.terms) + self.rest
            case "norm":
                return (at["x"] - at["mean"]) / math.sqrt(at["var"] + at["eps"]) * at["w"] + at["b"]
            case "softmax":
                return math.exp(self.terms[0].value - at["largest"]) / at["sum"]
            case "gelu":
                x = at["x"]
                return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
            case _:
                return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Computation:
    """The part of an Arithmetic that does not depend on the number's place."""

    terms: tuple[Term, ...]
    operation: Operation = "sum"
    rest: float = 0.0
    n_terms: int | None = None  # None: all are listed
    formula: str | None = None  # None: the formula of the stage's kind


@torch.no_grad()
def explain(trace: Trace, name: str, index: Sequence[int], *, n_terms: int = 8) -> Arithmetic:
    """Explain how the number at `index` of a stage was computed.

    Long sums list the `n_terms` largest terms by absolute value, then the bias. The trace keeps only the residual
    stream. Raises: ConfigError for an unknown stage, an index outside it, or n_terms below 1.
    """
    stage, at = trace.stage(name), tuple(int(i) for i in index)
    check_index(name, at, stage.shape)
    check_at_least("n_terms", n_terms)
    if stage.block is None:
        computation = _explain_outside(trace, stage.kind, at, n_terms)
    elif len(at) == 3:
        computation = _explain_in_head(trace, stage.block, stage.kind, at, n_terms)
    else:
        computation = _explain_in_block(trace, stage.block, stage.kind, at, n_terms)
    return _arithmetic(computation, name=name, index=at, value=_value(trace, stage, at), formula=FORMULAS[stage.kind])


@torch.no_grad()
def explain_fold(
    trace: Trace, layer: int, head: int, sizes: Sequence[int], index: tuple[int, int], *, n_terms: int = 8
) -> Arithmetic:
    """Explain a cell of a pattern that is folded to words: the weights of each token of the column's word.

    `sizes` is as in `fold`; `index` are the words of the row and the column. Raises: ConfigError for sizes that do not
    fit the trace, or an unknown word.
    """
    row, column = index
    check_number("word", row, len(sizes))
    check_number("word", column, len(sizes))
    first = sum(sizes[:column])
    taken = fold_rows(trace.pattern(layer, head), sizes)[row, first : first + sizes[column]]
    computation = _sum_products("token", taken, first=first, n_terms=n_terms)
    name, formula = f"fold(blocks.{layer}.attn.pattern)", "sum over tokens of mean over rows"
    return _arithmetic(computation, name=name, index=(head, row, column), value=taken.sum().item(), formula=formula)


def _arithmetic(
    computation: _Computation, *, name: str, index: tuple[int, ...], value: float, formula: str
) -> Arithmetic:
    return Arithmetic(
        name=name,
        index=index,
        value=value,
        operation=computation.operation,
        formula=computation.formula or formula,
        terms=computation.terms,
        rest=computation.rest,
        n_terms=len(computation.terms) if computation.n_terms is None else computation.n_terms,
    )


def _value(trace: Trace, stage: Stage, at: tuple[int, ...]) -> float:
    if stage.kind in ("logits", "probabilities"):  # one row, not all of [T, V]
        logits = trace.network.logits(trace.peek("ln_f")[at[0]])
        return (logits.softmax(-1) if stage.kind == "probabilities" else logits)[at[1]].item()
    value = trace.peek(stage.name, at[0])[at[1:]] if len(at) == 3 else trace.peek(stage.name)[at]
    return value.item()


def _explain_outside(trace: Trace, kind: str, at: tuple[int, ...], n_terms: int) -> _Computation:
    """Return how a number before or after the blocks was computed."""
    network, t, c = trace.network, at[0], at[-1]
    match kind:
        case "tokens":
            return _Computation(terms=(Term(label="token", value=trace.tokens[t], index=t),))
        case "wte" | "wpe":
            row = trace.tokens[t] if kind == "wte" else t
            table = network.wte if kind == "wte" else network.wpe
            return _Computation(terms=(Term(label=f"row {row}", value=table.weight[row, c].item(), index=row),))
        case "embedding":
            names = ("wte",) if network.config.rotary else ("wte", "wpe")
            return _sum_stages(trace, names, at, formula=" + ".join(names))
        case "ln_f":
            return _explain_norm(network.ln_f, trace.peek(stream_before(network.config.n_layer))[t], c)
        case "logits":
            return _sum_products("channel", trace.peek("ln_f")[t], network.head_weight[c], n_terms=n_terms)
        case _:
            return _explain_softmax("logit", network.logits(trace.peek("ln_f")[t]), c)


def _explain_in_block(trace: Trace, i: int, kind: str, at: tuple[int, ...], n_terms: int) -> _Computation:
    """Return how a number of a stage [T, C] or [T, 4C] of block i was computed."""
    block, (t, c) = block_of(trace.network, i), at
    match kind:
        case "ln_1":
            return _explain_norm(block.ln_1, trace.peek(stream_before(i))[t], c)
        case "ln_2":
            return _explain_norm(block.ln_2, trace.peek(f"blocks.{i}.mid")[t], c)
        case "mid":
            return _sum_stages(trace, (stream_before(i), f"blocks.{i}.attn.out"), at)
        case "block.out":
            return _sum_stages(trace, (f"blocks.{i}.mid", f"blocks.{i}.mlp.out"), at)
        case "attn.out":
            gathered = trace.peek(f"blocks.{i}.attn.heads")[:, t].double()  # [H, K]
            shares = (gathered * block.attn.c_proj.weight[:, c].view_as(gathered)).sum(1)
            return _sum_products("head", shares, bias=block.attn.c_proj.bias[c], n_terms=n_terms)
        case "mlp.pre":
            x, fc = trace.peek(f"blocks.{i}.ln_2")[t], block.mlp.c_fc
            return _sum_products("channel", x, fc.weight[:, c], bias=fc.bias[c], n_terms=n_terms)
        case "mlp.post":
            return _Computation(
                terms=(Term(label="x", value=trace.peek(f"blocks.{i}.mlp.pre")[at].item()),), operation="gelu"
            )
        case _:
            x, proj = trace.peek(f"blocks.{i}.mlp.post")[t], block.mlp.c_proj
            return _sum_products("unit", x, proj.weight[:, c], bias=proj.bias[c], n_terms=n_terms)


def _explain_in_head(trace: Trace, i: int, kind: str, at: tuple[int, ...], n_terms: int) -> _Computation:
    """Return how one number of one attention head of block i was computed."""
    head, t, channel_or_key = at

    def head_stage(part: str) -> Tensor:
        return trace.peek(f"blocks.{i}.attn.{part}", head)

    match kind.removeprefix("attn."):
        case "q" | "k" as part if trace.network.config.rotary:
            return _explain_rotation(trace.unrotated(i, part, head)[t], trace.rotation(), t, channel_or_key)
        case "q" | "k" | "v" as part:
            x, c_attn = trace.peek(f"blocks.{i}.ln_1")[t], block_of(trace.network, i).attn.c_attn
            column = head_columns(trace.network, part, head).start + channel_or_key
            return _sum_products("channel", x, c_attn.weight[:, column], bias=c_attn.bias[column], n_terms=n_terms)
        case "scores":
            query, key = head_stage("q")[t], head_stage("k")[channel_or_key]
            return _sum_products("channel", query, key, torch.full_like(key, len(key) ** -0.5), n_terms=n_terms)
        case "pattern" if channel_or_key > t:
            return _Computation(terms=(), operation="hidden", formula="0")
        case "pattern":
            return _explain_softmax("score", head_stage("scores")[t, : t + 1], channel_or_key)
        case _:
            values = head_stage("v")[: t + 1, channel_or_key]
            return _sum_products("token", head_stage("pattern")[t, : t + 1], values, n_terms=n_terms)


def _sum_stages(trace: Trace, names: tuple[str, ...], at: tuple[int, ...], formula: str | None = None) -> _Computation:
    """Add the same index of each of these stages."""
    return _Computation(
        terms=tuple(Term(label=name, value=trace.peek(name)[at].item()) for name in names), formula=formula
    )


def _sum_products(
    label: str, *factors: Tensor, n_terms: int, bias: Tensor | None = None, first: int = 0
) -> _Computation:
    """Multiply `factors` [n] elementwise in float64 and sum.

    List the `n_terms` largest products and the bias, and sum the others as `rest`.
    """
    columns = torch.stack([factor.double() for factor in factors])  # [n_factors, n]
    products = columns.prod(0)
    order = products.abs().argsort(descending=True, stable=True)
    terms = [
        Term(
            label=f"{label} {first + j}",
            value=products[j].item(),
            index=first + j,
            factors=tuple(columns[:, j].tolist()) if len(factors) > 1 else (),
        )
        for j in order[:n_terms].tolist()
    ]
    if bias is not None:
        terms.append(Term(label="bias", value=bias.item()))
    n = len(products) + (bias is not None)
    return _Computation(terms=tuple(terms), rest=products[order[n_terms:]].sum().item(), n_terms=n)


def _explain_norm(norm: LayerNorm, x: Tensor, c: int) -> _Computation:
    """Return how one channel of a token's residual stream `x` [C] was normalized."""
    x64 = x.double()
    values = {"x": x[c].item(), "mean": x64.mean().item(), "var": x64.var(correction=0).item(), "eps": norm.eps}
    values |= {"w": norm.weight[c].item(), "b": norm.bias[c].item()}
    return _Computation(terms=tuple(Term(label=name, value=value) for name, value in values.items()), operation="norm")


def _explain_softmax(label: str, scores: Tensor, j: int) -> _Computation:
    """Return how the softmax of one of `scores` [n] was computed.

    Subtracting the largest score changes no probability and keeps e^x in range.
    """
    scores64 = scores.double()
    largest = scores64.max()
    values = {label: scores64[j].item(), "largest": largest.item(), "sum": (scores64 - largest).exp().sum().item()}
    return _Computation(
        terms=tuple(Term(label=name, value=value) for name, value in values.items()), operation="softmax"
    )


def _explain_rotation(x: Tensor, rotation: Rotation | None, t: int, k: int) -> _Computation:
    """Return how channel k of a query or key `x` [K] was rotated: (a, b) -> (a cos - b sin, a sin + b cos)."""
    assert rotation is not None, "the network has rotary positions"
    pair, half = k % (len(x) // 2), len(x) // 2
    a, b = x[pair].item(), x[pair + half].item()
    cos, sin = rotation.cos[t, pair].item(), rotation.sin[t, pair].item()
    parts = (("a * cos", a, cos), ("-b * sin", -b, sin)) if k < half else (("a * sin", a, sin), ("b * cos", b, cos))
    terms = tuple(Term(label=label, value=u * v, factors=(u, v)) for label, u, v in parts)
    return _Computation(terms=terms, formula="a * cos - b * sin" if k < half else "a * sin + b * cos")
