"""Parameters, floating-point operations and bytes in closed form. No torch: counting a GPT-3 takes no memory."""

from dataclasses import dataclass, fields, replace

from nudge.config import Config, ModelConfig

MUON_STACK_NUMBERS = 2**22  # that Muon orthogonalizes at once: small matrices share a product, more would need memory


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
    gradients: int  # 0: the peak is over before there are any
    moments: int  # the optimizer's
    copies: int  # of weights, in the dtype of products
    activations: int  # what the forward pass keeps for the backward pass, and what lies between two of its products
    logits: int
    communication: int = 0  # DDP: its buckets; sharded: the blocks that are whole at a time
    scratch: int = 0  # what Muon computes with

    @property
    def total(self) -> int:
        return sum(getattr(self, part.name) for part in fields(self))


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
    accumulate: bool = True,
) -> TrainingMemory:
    """Memory that one process of a training needs at its peak, with passes of `micro_tokens`.

    `update`: fast, compiled or eager (train/update.py). `n_shards`: processes that divide weights, gradients and
    moments among them (FSDP); 1: each has all. `recompute`: the backward pass computes the activations of a block
    again from the block's input. `processes`: of the whole run. `accumulate`: an update has several passes.

    What a token needs is counted in fast/fused_update.py and model/gpt.py: change them together. bench/memory.py
    compares it with what a process on a CPU really takes. Not measured: GPUs, where attention is taken to keep no
    probabilities (flash attention) and `compiled` to need what `eager` needs, though it keeps less; several processes.
    """
    low = dtype == "bfloat16"
    N, hidden = parameter_counts(model).total, model.n_layer * 12 * model.n_embd**2
    moments = 8 * N - (4 * hidden if optimizer == "muon" else 0)
    scratch = _muon_scratch(model, low=low, fast=update == "fast") if optimizer == "muon" else 0
    if update == "fast":
        return _fast_memory(
            model, micro_tokens, low=low, moments=moments, scratch=scratch, beside=accumulate or processes > 1
        )
    gradients, communication = 4 * N // n_shards, 0
    if n_shards > 1:
        communication = _whole_at_a_time(model, low=low)
    elif processes > 1:  # DDP's buckets are the gradients, but those of earlier passes lie beside them
        gradients, communication = gradients if accumulate else 0, 4 * N
    state = TrainingMemory(
        weights=4 * N // n_shards,
        gradients=gradients,
        moments=moments // n_shards,
        copies=0,
        activations=0,
        logits=0,
        communication=communication,
    )
    loss = replace(
        state,
        gradients=state.gradients if accumulate else 0,
        copies=_copies(model, low=low, sharded=n_shards > 1),
        activations=micro_tokens * _kept_per_token(model, low=low, recompute=recompute),
        logits=micro_tokens * model.vocab_size * 12,  # log-probabilities, the gradient by them, and that by the logits
    )
    last = replace(state, gradients=state.gradients + 8 * model.vocab_size * model.n_embd)  # those of `wte` add up
    step = replace(state, scratch=scratch)
    return max(loss, last, step, key=lambda moment: moment.total)


def _kept_per_token(model: ModelConfig, *, low: bool, recompute: bool) -> int:
    """Bytes that autograd keeps of a token until the backward pass."""
    C, H, real = model.n_embd, model.n_head, 2 if low else 4
    # The stream before each norm, in float32. In real: each norm's output, q, k and v, their mixture, and the two wide
    # ones, before and after GELU; with rotary positions, q and k turned and the mixture in another order. Then two
    # numbers of each norm and one of each head.
    block = C * (8 + real * (2 + 3 + 1 + 8 + (3 if model.rotary else 0))) + 16 + 4 * H
    ends = C * (4 + real) + 8
    return (block + model.n_layer * 4 * C if recompute else model.n_layer * block) + ends


def _whole_at_a_time(model: ModelConfig, *, low: bool) -> int:
    """Bytes of what is put together of the shards: a block, the next one, and the gradients of one on their way."""
    block = 12 * model.n_embd**2
    return block * (2 + 2 + 2 + 4 if low else 16) + 4 * model.vocab_size * model.n_embd


def _copies(model: ModelConfig, *, low: bool, sharded: bool) -> int:
    """Bytes of weights that exist once more during a pass."""
    head = model.n_embd * (model.vocab_size + -model.vocab_size % 64)  # with rows of zeros (GPT.loss)
    return 4 * head if not low else 2 * head + (0 if sharded else 2 * model.n_layer * 12 * model.n_embd**2)


def _fast_memory(
    model: ModelConfig, tokens: int, *, low: bool, moments: int, scratch: int, beside: bool
) -> TrainingMemory:
    """Of fast/fused_update.py, whose buffers stay from one update to the next, so that its peak is all there is.

    `beside`: the gradients of earlier passes, or of other processes, are added up in float32.
    """
    N, T, C, V, real = parameter_counts(model).total, model.block_size, model.n_embd, model.vocab_size, 2 if low else 4
    probabilities = real * model.n_head * (T if T <= 256 else (T + 256) // 2)
    kept = model.n_layer * (C * (8 + 14 * real) + probabilities)
    shared = C * (8 + 18 * real) + probabilities
    return TrainingMemory(
        weights=4 * N,
        gradients=N * (real + (4 if beside else 0)),
        moments=moments,
        copies=2 * N if low else 0,
        activations=tokens * (kept + shared),
        logits=min(tokens, 1024) * V * real,
        scratch=scratch,
    )


def _muon_scratch(model: ModelConfig, *, low: bool, fast: bool) -> int:
    """Bytes that orthogonalizing a stack of matrices takes (optim/muon.py), at most."""
    wide = 4 * model.n_embd**2
    if fast:  # all matrices of a shape; the update, two copies of it, and of two products one by itself
        return model.n_layer * wide * (10 if low else 14)
    n = wide * min(model.n_layer, max(1, MUON_STACK_NUMBERS // wide))
    return n * (14 if low else 18)  # and the update of the stack before


def memory_of_run(config: Config, *, micro_batch: int | None = None, processes: int = 1) -> TrainingMemory:
    """`training_memory` of one process of a run, as its config says. `micro_batch`: sequences per pass, if others."""
    micro_tokens = (micro_batch or config.train.micro_batch or 1) * config.model.block_size
    machine = config.machine
    return training_memory(
        config.model,
        micro_tokens=micro_tokens,
        dtype=machine.dtype or "float32",
        update=machine.update or "eager",
        n_shards=processes if machine.shard else 1,
        recompute=machine.recompute,
        processes=processes,
        optimizer=config.train.optimizer,
        accumulate=micro_tokens < config.train.batch_tokens,  # or the gradients of other processes come to its own
    )


def micro_batch(config: Config, *, budget_bytes: int, most_tokens: int, processes: int = 1) -> int | None:
    """The most sequences per pass that divide a process's part of an update and fit the memory; None if not even one.

    A pass has at most `most_tokens` tokens, if that is one sequence or more.
    """
    T, sequences = config.model.block_size, config.train.batch_tokens // config.model.block_size // processes
    for size in range(sequences, 0, -1):
        fits_time = size == 1 or size * T <= most_tokens
        if sequences % size == 0 and fits_time:
            needed = memory_of_run(config, micro_batch=size, processes=processes)
            if needed.total <= budget_bytes:
                return size
    return None
