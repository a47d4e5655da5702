"""Published figures: training runs, GPT-2's quality and cost, and the lecture's claims about it (published.toml).

The work of every run is counted by one formula, 6N + 12LTC floating-point operations per token (model/sizes.py),
whatever formula its authors used. So their shares of the peak can be compared.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nudge.config import ModelConfig
from nudge.model import sizes
from nudge.plan import facts
from nudge.recipes import recipe

Kind = Literal["handwritten", "compiled", "eager", "lab"]
Unit = Literal["s", "min", "hours", "days", "GPU hours", "tokens/s/GPU"]
SECONDS = {"s": 1.0, "min": 60.0, "hours": 3600.0, "days": 86_400.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The sizes that determine the cost of a token in any network, GPT-2 or not."""

    n_layer: int
    n_embd: int
    vocab_size: int
    context: int  # the tokens that attention spans, as an average of the layers
    matmul_parameters: int  # used by one token; only the active ones in a mixture of experts
    attention_width: int  # heads x head size; usually n_embd

    @property
    def flops_per_token(self) -> int:
        """Return 6N + 12LTC, like model/sizes.py for a GPT-2."""
        return 6 * self.matmul_parameters + 12 * self.n_layer * self.context * self.attention_width


def network(model: ModelConfig, *, context: int | None = None) -> Network:
    """Return the sizes of a GPT-2. `context`: the model's block_size by default."""
    return Network(
        n_layer=model.n_layer,
        n_embd=model.n_embd,
        vocab_size=model.vocab_size,
        context=context or model.block_size,
        matmul_parameters=sizes.matmul_parameters(model),
        attention_width=model.n_embd,
    )


def _gpt2(n_layer: int, n_embd: int, vocab_size: int, context: int) -> Network:
    return network(ModelConfig(n_layer=n_layer, n_embd=n_embd, vocab_size=vocab_size, block_size=context))


def _llama(n_layer: int, n_embd: int, n_hidden: int, key_value_width: int, vocab_size: int, context: int) -> Network:
    """Return the sizes of a Llama: three matrices in the MLP (SwiGLU), narrow keys and values (grouped queries)."""
    block = 2 * n_embd**2 + 2 * n_embd * key_value_width + 3 * n_embd * n_hidden
    return Network(
        n_layer=n_layer,
        n_embd=n_embd,
        vocab_size=vocab_size,
        context=context,
        matmul_parameters=n_layer * block + vocab_size * n_embd,
        attention_width=n_embd,
    )


def _deepseek(
    *,
    n_layer: int,
    n_dense: int,
    n_embd: int,
    n_head: int,
    n_content: int,
    n_rotary: int,
    n_latent: int,
    n_query_latent: int,
    n_hidden: int,
    n_experts: int,
    n_expert_hidden: int,
    vocab_size: int,
    context: int,
) -> Network:
    """Return the sizes of a DeepSeek: a few dense layers, experts in the others, low-rank matrices in attention."""
    queries = n_embd * n_query_latent + n_query_latent * n_head * (n_content + n_rotary)
    keys_and_values = n_embd * (n_latent + n_rotary) + n_latent * n_head * 2 * n_content
    attention = queries + keys_and_values + n_head * n_content * n_embd
    hidden = n_dense * n_hidden + (n_layer - n_dense) * n_experts * n_expert_hidden
    return Network(
        n_layer=n_layer,
        n_embd=n_embd,
        vocab_size=vocab_size,
        context=context,
        matmul_parameters=n_layer * attention + 3 * n_embd * hidden + vocab_size * n_embd,
        attention_width=n_head * (2 * n_content + n_rotary) // 2,  # scores over content and rotary, values over content
    )


_SHAPES: dict[str, Callable[..., Network]] = {"gpt2": _gpt2, "llama": _llama, "deepseek": _deepseek}


def named_network(name: str, networks: Mapping[str, Mapping[str, Any]]) -> Network:
    """Return the network with that name in published.toml, or else in the recipes. Raises: ConfigError."""
    values = networks.get(name)
    if values is None:
        return network(recipe(name).model)
    return _SHAPES[values["shape"]](**{key: value for key, value in values.items() if key != "shape"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRun:
    """One run. `figure` is the published number; a time is the time of `tokens`."""

    name: str
    network: Network
    device: str  # plan/hardware.py
    count: int
    figure: float
    unit: Unit
    tokens: float = 0.0
    code: str  # runs of one code are a family: they are more alike than others
    kind: Kind  # handwritten kernels; PyTorch with or without torch.compile; a lab's own code on many machines
    source: str
    fp8: bool = False  # products in 8 bits instead of 16
    peak_share: float = 1.0  # share of the data sheet's peak, for devices that were slowed down
    usd: float | None = None
    note: str = ""
    why_left_out: str = ""  # of the calibration and validation

    @property
    def tokens_per_s(self) -> float:
        """Return the speed of all devices together."""
        if self.unit == "tokens/s/GPU":
            return self.figure * self.count
        if self.unit == "GPU hours":
            return self.tokens * self.count / (self.figure * 3600)
        return self.tokens / (self.figure * SECONDS[self.unit])

    def in_unit(self, tokens_per_s: float) -> float:
        """Convert tokens/s of all devices to the unit this run was published in."""
        if self.unit == "tokens/s/GPU":
            return tokens_per_s / self.count
        if self.unit == "GPU hours":
            return self.tokens * self.count / (tokens_per_s * 3600)
        return self.tokens / (tokens_per_s * SECONDS[self.unit])

    def mfu(self, peak_flops: float) -> float:
        """Return the share of its devices' peak speed that the run reached, by 6N + 12LTC."""
        return self.tokens_per_s * self.network.flops_per_token / (self.count * peak_flops)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The scores of one of OpenAI's GPT-2 checkpoints. Accuracies are percentages."""

    recipe: str
    hellaswag: float  # 0-shot, length-normalized accuracy
    lambada: float  # accuracy
    lambada_perplexity: float
    wikitext2_perplexity: float
    openwebtext_loss: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GPT2Cost:
    """The cost of training GPT-2 XL, according to the lecture."""

    when: str
    usd: float
    machine: str
    hours: float | None = None
    status: Literal["estimated", "measured", "hoped"]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A claim of the lecture that its figures or its source contradict, and the right statement."""

    said: str
    right: str
    source: str


_FILE = facts.read("published.toml")
RUNS = tuple(
    PublishedRun(**{**row, "network": named_network(row["network"], _FILE["networks"])}) for row in _FILE["runs"]
)
QUALITY = tuple(Quality(**row) for row in _FILE["quality"])
LECTURE_COSTS = tuple(GPT2Cost(**row) for row in _FILE["costs"])
CORRECTIONS = tuple(Correction(**row) for row in _FILE["corrections"])
