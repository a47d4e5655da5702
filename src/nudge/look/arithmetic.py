"""How one number of the forward pass was made from the numbers before it.

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
    """A number that went in. `index` is its channel, unit, token or head; the product of `factors` is its value."""

    label: str
    value: float
    index: int | None = None
    factors: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """One number and those it was made from.

    For `operation` "sum" the value is the sum of the terms and of `rest`, the sum of those that are not listed; there
    are `n_terms` in total. For the others the terms are the names in `formula`, and rest is 0. "hidden" is a cell of a
    pattern above the diagonal, which is 0: no token attends to a later one.
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
        """The value computed from the terms alone; equal to `value` up to the rounding of float32."""
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
class _Made:
    """The part of an Arithmetic that does not depend on which number it is."""

    terms: tuple[Term, ...]
    operation: Operation = "sum"
    rest: float = 0.0
    n_terms: int | None = None  # None: as many as are listed
    formula: str | None = None  # None: the one of its kind


@torch.no_grad()
def explain(trace: Trace, name: str, index: Sequence[int], *, n_terms: int = 8) -> Arithmetic:
    """Return how the number at `index` of a stage was made.

    Long sums list the `n_terms` largest by absolute value, then the bias. The trace keeps only the residual stream.
    Raises: ConfigError for an unknown stage, an index outside it, or n_terms below 1.
    """
    stage, at = trace.stage(name), tuple(int(i) for i in index)
    check_index(name, at, stage.shape)
    check_at_least("n_terms", n_terms)
    if stage.block is None:
        made = _outside(trace, stage.kind, at, n_terms)
    elif len(at) == 3:
        made = _in_head(trace, stage.block, stage.kind, at, n_terms)
    else:
        made = _in_block(trace, stage.block, stage.kind, at, n_terms)
    return _arithmetic(made, name=name, index=at, value=_value(trace, stage, at), formula=FORMULAS[stage.kind])


@torch.no_grad()
def explain_fold(
    trace: Trace, layer: int, head: int, sizes: Sequence[int], index: tuple[int, int], *, n_terms: int = 8
) -> Arithmetic:
    """Return how a cell of a pattern that is folded to words was made: what each token of one word gives the other.

    `sizes` is as in `fold`; `index` are the words of the row and the column. Raises: ConfigError for sizes that do not
    fit the trace, or a word that is not among them.
    """
    row, column = index
    check_number("word", row, len(sizes))
    check_number("word", column, len(sizes))
    first = sum(sizes[:column])
    taken = fold_rows(trace.pattern(layer, head), sizes)[row, first : first + sizes[column]]
    made = _products("token", taken, first=first, n_terms=n_terms)
    name, formula = f"fold(blocks.{layer}.attn.pattern)", "sum over tokens of mean over rows"
    return _arithmetic(made, name=name, index=(head, row, column), value=taken.sum().item(), formula=formula)


def _arithmetic(made: _Made, *, name: str, index: tuple[int, ...], value: float, formula: str) -> Arithmetic:
    return Arithmetic(
        name=name,
        index=index,
        value=value,
        operation=made.operation,
        formula=made.formula or formula,
        terms=made.terms,
        rest=made.rest,
        n_terms=len(made.terms) if made.n_terms is None else made.n_terms,
    )


def _value(trace: Trace, stage: Stage, at: tuple[int, ...]) -> float:
    if stage.kind in ("logits", "probabilities"):  # one row, not all of [T, V]
        logits = trace.network.logits(trace.peek("ln_f")[at[0]])
        return (logits.softmax(-1) if stage.kind == "probabilities" else logits)[at[1]].item()
    value = trace.peek(stage.name, at[0])[at[1:]] if len(at) == 3 else trace.peek(stage.name)[at]
    return value.item()


def _outside(trace: Trace, kind: str, at: tuple[int, ...], n_terms: int) -> _Made:
    """Return how a number before or after the blocks was made."""
    network, t, c = trace.network, at[0], at[-1]
    match kind:
        case "tokens":
            return _Made(terms=(Term(label="token", value=trace.tokens[t], index=t),))
        case "wte" | "wpe":
            row = trace.tokens[t] if kind == "wte" else t
            table = network.wte if kind == "wte" else network.wpe
            return _Made(terms=(Term(label=f"row {row}", value=table.weight[row, c].item(), index=row),))
        case "embedding":
            names = ("wte",) if network.config.rotary else ("wte", "wpe")
            return _added(trace, names, at, formula=" + ".join(names))
        case "ln_f":
            return _normalized(network.ln_f, trace.peek(stream_before(network.config.n_layer))[t], c)
        case "logits":
            return _products("channel", trace.peek("ln_f")[t], network.head_weight[c], n_terms=n_terms)
        case _:
            return _softmax("logit", network.logits(trace.peek("ln_f")[t]), c)


def _in_block(trace: Trace, i: int, kind: str, at: tuple[int, ...], n_terms: int) -> _Made:
    """Return how a number of a stage [T, C] or [T, 4C] of block i was made."""
    block, (t, c) = block_of(trace.network, i), at
    match kind:
        case "ln_1":
            return _normalized(block.ln_1, trace.peek(stream_before(i))[t], c)
        case "ln_2":
            return _normalized(block.ln_2, trace.peek(f"blocks.{i}.mid")[t], c)
        case "mid":
            return _added(trace, (stream_before(i), f"blocks.{i}.attn.out"), at)
        case "block.out":
            return _added(trace, (f"blocks.{i}.mid", f"blocks.{i}.mlp.out"), at)
        case "attn.out":
            gathered = trace.peek(f"blocks.{i}.attn.heads")[:, t].double()  # [H, K]
            shares = (gathered * block.attn.c_proj.weight[:, c].view_as(gathered)).sum(1)
            return _products("head", shares, bias=block.attn.c_proj.bias[c], n_terms=n_terms)
        case "mlp.pre":
            x, fc = trace.peek(f"blocks.{i}.ln_2")[t], block.mlp.c_fc
            return _products("channel", x, fc.weight[:, c], bias=fc.bias[c], n_terms=n_terms)
        case "mlp.post":
            return _Made(terms=(Term(label="x", value=trace.peek(f"blocks.{i}.mlp.pre")[at].item()),), operation="gelu")
        case _:
            x, proj = trace.peek(f"blocks.{i}.mlp.post")[t], block.mlp.c_proj
            return _products("unit", x, proj.weight[:, c], bias=proj.bias[c], n_terms=n_terms)


def _in_head(trace: Trace, i: int, kind: str, at: tuple[int, ...], n_terms: int) -> _Made:
    """Return how a number of attention in block i, in one head, was made."""
    head, t, last = at

    def of_head(part: str) -> Tensor:
        return trace.peek(f"blocks.{i}.attn.{part}", head)

    match kind.removeprefix("attn."):
        case "q" | "k" as part if trace.network.config.rotary:
            return _rotated(trace.unrotated(i, part, head)[t], trace.rotation(), t, last)
        case "q" | "k" | "v" as part:
            x, c_attn = trace.peek(f"blocks.{i}.ln_1")[t], block_of(trace.network, i).attn.c_attn
            column = head_columns(trace.network, part, head).start + last
            return _products("channel", x, c_attn.weight[:, column], bias=c_attn.bias[column], n_terms=n_terms)
        case "scores":
            query, key = of_head("q")[t], of_head("k")[last]
            return _products("channel", query, key, torch.full_like(key, len(key) ** -0.5), n_terms=n_terms)
        case "pattern" if last > t:
            return _Made(terms=(), operation="hidden", formula="0")
        case "pattern":
            return _softmax("score", of_head("scores")[t, : t + 1], last)
        case _:
            return _products("token", of_head("pattern")[t, : t + 1], of_head("v")[: t + 1, last], n_terms=n_terms)


def _added(trace: Trace, names: tuple[str, ...], at: tuple[int, ...], formula: str | None = None) -> _Made:
    """Add the same index of each of these stages."""
    return _Made(terms=tuple(Term(label=name, value=trace.peek(name)[at].item()) for name in names), formula=formula)


def _products(label: str, *factors: Tensor, n_terms: int, bias: Tensor | None = None, first: int = 0) -> _Made:
    """Sum the products of `factors` [n] over n in float64, with the largest as terms of their own, and the bias."""
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
    return _Made(terms=tuple(terms), rest=products[order[n_terms:]].sum().item(), n_terms=n)


def _normalized(norm: LayerNorm, x: Tensor, c: int) -> _Made:
    """Normalize one channel of a token's residual stream `x` [C]."""
    wide = x.double()
    values = {"x": x[c].item(), "mean": wide.mean().item(), "var": wide.var(correction=0).item(), "eps": norm.eps}
    values |= {"w": norm.weight[c].item(), "b": norm.bias[c].item()}
    return _Made(terms=tuple(Term(label=name, value=value) for name, value in values.items()), operation="norm")


def _softmax(label: str, scores: Tensor, j: int) -> _Made:
    """Take the softmax of one of `scores` [n], minus the largest, which changes no share and keeps e^x in range."""
    wide = scores.double()
    values = {label: wide[j].item(), "largest": wide.max().item(), "sum": (wide - wide.max()).exp().sum().item()}
    return _Made(terms=tuple(Term(label=name, value=value) for name, value in values.items()), operation="softmax")


def _rotated(x: Tensor, rotation: Rotation | None, t: int, k: int) -> _Made:
    """Rotate channel k of a query or key `x` [K] by its position: (a, b) -> (a cos - b sin, a sin + b cos)."""
    assert rotation is not None, "the network has rotary positions"
    pair, half = k % (len(x) // 2), len(x) // 2
    a, b = x[pair].item(), x[pair + half].item()
    cos, sin = rotation.cos[t, pair].item(), rotation.sin[t, pair].item()
    parts = (("a * cos", a, cos), ("-b * sin", -b, sin)) if k < half else (("a * sin", a, sin), ("b * cos", b, cos))
    terms = tuple(Term(label=label, value=u * v, factors=(u, v)) for label, u, v in parts)
    return _Made(terms=terms, formula="a * cos - b * sin" if k < half else "a * sin + b * cos")
