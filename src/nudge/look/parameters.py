"""The parameters of a network as a tree, from their names and shapes alone.

    model weights -> embedding (wte, wpe) / blocks.0 .. (attention, mlp, norms) / ln_f / head / other

`head` exists if it is not tied to wte, `other` if there are names that GPT-2 does not have.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Group = Literal["embedding", "attention", "mlp", "norm", "head", "other"]

# The kinds of parameters in the tree's order: the group of each, and what it does in one sentence.
_KINDS: dict[str, tuple[Group, str]] = {
    "wte.weight": ("embedding", "one row per token; turned round, it is also the head"),
    "wte.weight.untied": ("embedding", "one row per token"),
    "wpe.weight": ("embedding", "one row per position"),
    "attn.c_attn.weight": ("attention", "makes query, key and value"),
    "attn.c_attn.bias": ("attention", "shifts query, key and value"),
    "attn.c_proj.weight": ("attention", "mixes what the heads found"),
    "attn.c_proj.bias": ("attention", "shifts the mixture"),
    "mlp.c_fc.weight": ("mlp", "widens a vector fourfold: finds patterns"),
    "mlp.c_fc.bias": ("mlp", "how easily each pattern is found"),
    "mlp.c_proj.weight": ("mlp", "narrows it again: writes back what was found"),
    "mlp.c_proj.bias": ("mlp", "shifts what is written back"),
    "ln_1.weight": ("norm", "scale before attention"),
    "ln_1.bias": ("norm", "shift before attention"),
    "ln_2.weight": ("norm", "scale before the MLP"),
    "ln_2.bias": ("norm", "shift before the MLP"),
    "ln_f.weight": ("norm", "scale before the head"),
    "ln_f.bias": ("norm", "shift before the head"),
    "head.weight": ("head", "one row per token: scores it as the next one"),
    "other": ("other", "a name that GPT-2 does not have"),
}
ROLES: Mapping[str, str] = {
    **{kind: role for kind, (_, role) in _KINDS.items()},
    "model weights": "everything that was learned",
    "embedding": "tables: a row is a vector, the whole table is a weight",
    "block": "attention, then MLP",
    "attention": "each token looks back and takes over what it finds",
    "mlp": "each token by itself: widen, GELU, narrow",
    "norms": "bring every vector to one size",
    "ln_f": "the last norm, before the head",
    "head": "vectors become scores of the next token",
    "exp_avg": "AdamW: mean of recent gradients",
    "exp_avg_sq": "AdamW: mean of their squares",
    "momentum_buffer": "Muon: mean of recent gradients",
    "step": "AdamW: step number, one per tensor",
    "mask": "which token may see which; nothing learned",
}
_ORDER = list(_KINDS)
_NOT_IN_BLOCKS = {"wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias", "head.weight"}
_IN_BLOCK = re.compile(r"blocks\.(0|[1-9][0-9]{0,3})\.((?:attn|mlp|ln_[12])\..+)", re.S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A tensor of the model. `kind` is the key of its role in ROLES; `stored_as` is its name in the file."""

    name: str
    stored_as: str
    shape: tuple[int, ...]
    dtype: str
    n: int
    share: float  # of all parameters
    kind: str
    group: Group
    block: int | None

    @property
    def role(self) -> str:
        return ROLES[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A branch or (with `parameter`) a leaf of the tree. `name` is unique; `label` is its name below the block."""

    name: str
    kind: str
    n: int
    share: float
    children: tuple["Node", ...] = ()
    parameter: Parameter | None = None

    @property
    def label(self) -> str:
        return self.name if self.kind == "other" else re.sub(r"^blocks\.[0-9]+\.", "", self.name)

    @property
    def role(self) -> str:
        return ROLES[self.kind]


def parameters_of(found: Iterable[tuple[str, str, tuple[int, ...], str]]) -> tuple[Parameter, ...]:
    """Build parameters from (our name, the file's name, shape, dtype), in the tree's order."""
    listed = list(found)
    total = sum(math.prod(shape) for _, _, shape, _ in listed)
    untied = any(name == "head.weight" for name, _, _, _ in listed)
    parameters = []
    for name, stored_as, shape, dtype in listed:
        block, kind = _place(name, untied)
        n = math.prod(shape)
        parameters.append(
            Parameter(
                name=name,
                stored_as=stored_as,
                shape=shape,
                dtype=dtype,
                n=n,
                share=n / max(total, 1),
                kind=kind,
                group=_KINDS[kind][0],
                block=block,
            )
        )
    return tuple(sorted(parameters, key=_position))


def _place(name: str, untied: bool) -> tuple[int | None, str]:
    """Return the block and the kind of a parameter by its name."""
    match = _IN_BLOCK.fullmatch(name)
    if match and match[2] in _KINDS:
        return int(match[1]), match[2]
    if name == "wte.weight" and untied:
        return None, "wte.weight.untied"
    return None, name if name in _NOT_IN_BLOCKS else "other"


def _position(parameter: Parameter) -> tuple[int, int, int]:
    """Return the sort key of the tree's order: before, in, and after the blocks."""
    stage = 1 if parameter.block is not None else 0 if parameter.group == "embedding" else 2
    return stage, parameter.block or 0, _ORDER.index(parameter.kind)


def tree_of(parameters: Sequence[Parameter]) -> Node:
    """Build the tree of the parameters from `parameters_of`."""
    total = max(sum(parameter.n for parameter in parameters), 1)
    places: dict[tuple[Group, int | None], list[Parameter]] = {}
    for parameter in parameters:
        places.setdefault((parameter.group, parameter.block), []).append(parameter)

    def node(name: str, kind: str, children: list[Node]) -> Node:
        n = sum(child.n for child in children)
        return Node(name=name, kind=kind, n=n, share=n / total, children=tuple(children))

    def branch(name: str, kind: str, children: list[Node]) -> list[Node]:
        """Return one node, or none if there is nothing below it."""
        return [node(name, kind, children)] if children else []

    def leaves(group: Group, block: int | None = None) -> list[Node]:
        found = places.get((group, block), ())
        return [Node(name=p.name, kind=p.kind, n=p.n, share=p.share, parameter=p) for p in found]

    nodes = branch("embedding", "embedding", leaves("embedding"))
    for i in sorted({block for _, block in places if block is not None}):
        attention = branch(f"blocks.{i}.attention", "attention", leaves("attention", i))
        mlp = branch(f"blocks.{i}.mlp", "mlp", leaves("mlp", i))
        norms = branch(f"blocks.{i}.norms", "norms", leaves("norm", i))
        nodes += branch(f"blocks.{i}", "block", attention + mlp + norms)
    nodes += branch("ln_f", "ln_f", leaves("norm"))
    nodes += branch("head", "head", leaves("head"))
    nodes += branch("other", "other", leaves("other"))
    return node("model weights", "model weights", nodes)
