"""Parameters, floating-point operations and bytes in closed form. No torch: counting a GPT-3 takes no memory."""

from dataclasses import dataclass

from nudge.config import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCounts:
    """Parameters by component. A head that is tied to `wte` is counted there."""

    wte: int
    wpe: int
    attention: int  # all layers
    mlp: int
    norms: int
    head: int = 0

    @property
    def total(self) -> int:
        return self.wte + self.wpe + self.attention + self.mlp + self.norms + self.head


def parameter_counts(model: ModelConfig) -> ParameterCounts:
    """Parameters of a network of these sizes, weights and biases."""
    L, C = model.n_layer, model.n_embd
    return ParameterCounts(
        wte=model.vocab_size * C,
        wpe=0 if model.rotary else model.block_size * C,
        attention=L * (C * 3 * C + 3 * C + C * C + C),
        mlp=L * (C * 4 * C + 4 * C + 4 * C * C + C),
        norms=L * 4 * C + 2 * C,
        head=model.vocab_size * C if model.untied else 0,
    )


def matmul_parameters(model: ModelConfig) -> int:
    """Parameters that take part in matrix products: the blocks' matrices and the head."""
    return model.n_layer * 12 * model.n_embd**2 + model.vocab_size * model.n_embd


def training_flops_per_token(model: ModelConfig, n_tokens: int | None = None) -> int:
    """6N for the products with parameters and 12LTC for attention; forward is a third of it.

    Source: Kaplan et al. 2020, appendix B of Chowdhery et al. 2022 (PaLM). T is the context length, full by default.
    """
    T = n_tokens or model.block_size
    return 6 * matmul_parameters(model) + 12 * model.n_layer * T * model.n_embd


def checkpoint_bytes(model: ModelConfig) -> int:
    """A checkpoint with weights and two AdamW moments in float32, give or take a few kilobytes of names."""
    return 12 * parameter_counts(model).total


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMemory:
    """Bytes of one process at the peak of an update, by part, without the program itself (~0.4 GB)."""

    weights: int  # in float32
    gradients: int
    moments: int  # the optimizer's
    copies: int  # of weights, in the dtype of products
    activations: int  # what the forward pass keeps for the backward pass, and what lies between two of its products
    logits: int
    communication: int = 0  # DDP: its buckets; sharded: the blocks that are whole at a time

    @property
    def total(self) -> int:
        return (
            self.weights
            + self.gradients
            + self.moments
            + self.copies
            + self.activations
            + self.logits
            + self.communication
        )


def training_memory(
    model: ModelConfig,
    *,
    micro_tokens: int,
    dtype: str,
    update: str = "eager",
    n_shards: int = 1,
    recompute: bool = False,
    processes: int = 1,
    optimizer: str = "adamw",
) -> TrainingMemory:
    """Memory that one process of a training needs at its peak, with passes of `micro_tokens`.

    `update`: fast, compiled or eager (train/update.py). `n_shards`: processes that divide weights, gradients and
    moments among them (FSDP); 1: each has all. `recompute`: the backward pass computes the activations of a block
    again from the block's input. `processes`: of the whole run.
    """
    fast, low = update == "fast", dtype == "bfloat16"
    real = 2 if low else 4
    N, C, V = parameter_counts(model).total, model.n_embd, model.vocab_size
    block = 12 * C * C + 13 * C
    by_muon = model.n_layer * 12 * C * C if optimizer == "muon" else 0
    if fast:
        kept, shared = _fast_activations(model, real)
        logits = min(micro_tokens, 1024) * V * real
        gradients, copies = N * (real + 4), N * 2 if low else 0  # 4: the gradients of earlier passes
    else:
        kept = model.n_layer * C * ((52 if low else 68) + (16 if model.rotary else 0))
        shared = 0
        logits = micro_tokens * V * (14 if low else 12)
        gradients, copies = 4 * N, 2 * matmul_parameters(model) if low else 0
    if recompute:
        kept = kept // model.n_layer + 4 * C * model.n_layer
    communication = 0
    if n_shards > 1:
        communication = 2 * block * (4 + real)
        copies = 0  # those of the blocks that are whole at a time
    elif processes > 1:
        communication = 4 * N
    return TrainingMemory(
        weights=4 * N // n_shards,
        gradients=gradients // n_shards,
        moments=(8 * N - 4 * by_muon) // n_shards,
        copies=copies,
        activations=micro_tokens * (kept + shared),
        logits=logits,
        communication=communication,
    )


def _fast_activations(model: ModelConfig, real: int) -> tuple[int, int]:
    """Bytes per token in train/explicit.py: of what all blocks keep, and of the buffers that they share."""
    T, C = model.block_size, model.n_embd
    probabilities = real * model.n_head * (T if T <= 256 else (T + 256) // 2)
    return model.n_layer * (C * (8 + 14 * real) + probabilities), C * (8 + 18 * real) + probabilities


def training_bytes(model: ModelConfig, *, micro_tokens: int, dtype: str, fast: bool = False) -> int:
    """Memory that training needs at its peak, in all; `fast`: by the update that is written out."""
    return training_memory(model, micro_tokens=micro_tokens, dtype=dtype, update="fast" if fast else "eager").total


def micro_batch(
    model: ModelConfig, *, sequences: int, dtype: str, budget_bytes: int, most_tokens: int, fast: bool = False
) -> int | None:
    """The most sequences per pass that divide an update evenly and fit the memory; None if not even one does.

    A pass has at most `most_tokens` tokens, if that is one sequence or more.
    """
    for size in range(sequences, 0, -1):
        if sequences % size == 0 and (size == 1 or size * model.block_size <= most_tokens):
            needed = training_bytes(model, micro_tokens=size * model.block_size, dtype=dtype, fast=fast)
            if needed <= budget_bytes:
                return size
    return None
