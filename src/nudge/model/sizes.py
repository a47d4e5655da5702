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


def training_bytes(model: ModelConfig, *, micro_tokens: int, dtype: str, fast: bool = False) -> int:
    """Memory that training needs at its peak: state and activations, without the Python process itself (~0.4 GB).

    `fast`: by the update that is written out (train/explicit.py), else by autograd (model/gpt.py). The counts of
    numbers per token are those of these two files: change them together.
    """
    if fast:
        return _fast_bytes(model, micro_tokens, real=2 if dtype == "bfloat16" else 4)
    low = dtype == "bfloat16"
    state = 16 * parameter_counts(model).total  # float32: weights, gradients, two moments
    if low:
        state += 2 * matmul_parameters(model)  # autocast keeps a low-precision copy of each matrix during a pass
    per_channel = 52 if low else 68
    per_channel += 16 if model.rotary else 0  # queries and keys are turned in float32
    per_logit = 14 if low else 12
    activations = micro_tokens * (model.n_layer * model.n_embd * per_channel + model.vocab_size * per_logit)
    return state + activations


def _fast_bytes(model: ModelConfig, tokens: int, *, real: int) -> int:
    """`real`: bytes of a number in products. Weights and moments are float32, gradients and a copy of weights real."""
    N, T, C, V = parameter_counts(model).total, model.block_size, model.n_embd, model.vocab_size
    state = N * (12 + 4 + (real if real == 4 else 2 * real))  # 4: the gradients of earlier passes
    probabilities = real * model.n_head * (T if T <= 256 else (T + 256) // 2)
    kept = model.n_layer * (C * (8 + 14 * real) + probabilities)
    shared = C * (8 + 18 * real) + probabilities
    return state + tokens * (kept + shared) + min(tokens, 1024) * V * real


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
