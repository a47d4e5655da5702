"""Formulas for parameters, floating-point operations and bytes. Without torch: counting a GPT-3 takes no memory."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from nudge.config import Config, ModelConfig
from nudge.model.shape import Shape, shape_of

MUON_STACK_NUMBERS = 2**22  # orthogonalized at once: small matrices share a product, but a larger stack needs memory


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCounts:
    """Parameters by component. A head that is tied to `wte` counts as `wte`."""

    wte: int
    wpe: int
    attention: int  # of all layers
    mlp: int
    norms: int
    head: int = 0

    @property
    def total(self) -> int:
        return self.wte + self.wpe + self.attention + self.mlp + self.norms + self.head


def parameter_counts(model: ModelConfig) -> ParameterCounts:
    """Count weights and biases of a network of these sizes."""
    shape = shape_of(model)
    L, C, qkv, biases = model.n_layer, model.n_embd, _qkv_width(shape), int(shape.bias)
    return ParameterCounts(
        wte=model.vocab_size * C,
        wpe=0 if model.rotary else model.block_size * C,
        attention=L * (C * qkv + C * C + biases * (qkv + C)),
        mlp=L * (C * _mlp_width(shape) + biases * (_mlp_width(shape) - shape.hidden_width + C)),
        norms=(2 * L + 1) * (1 + biases) * C,
        head=model.vocab_size * C if model.untied else 0,
    )


def _qkv_width(shape: Shape) -> int:
    """Return the width of queries, keys and values together."""
    return shape.n_embd + 2 * shape.key_width


def _mlp_width(shape: Shape) -> int:
    """Return the width of the MLP's matrices together: one into the hidden layer or two (SwiGLU), and one back."""
    return (3 if shape.swiglu else 2) * shape.hidden_width


def parameter_shapes(model: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and shape of each parameter of a network of these sizes, in the order of model/gpt.py."""
    C = model.n_embd
    yield "wte.weight", (model.vocab_size, C)
    if not model.rotary:
        yield "wpe.weight", (model.block_size, C)
    widths = {"attn.c_attn": (C, 3 * C), "attn.c_proj": (C, C), "mlp.c_fc": (C, 4 * C), "mlp.c_proj": (4 * C, C)}
    for i in range(model.n_layer):
        for part in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"):
            weight = widths.get(part, (C,))
            yield f"blocks.{i}.{part}.weight", weight
            yield f"blocks.{i}.{part}.bias", weight[-1:]
    yield "ln_f.weight", (C,)
    yield "ln_f.bias", (C,)
    if model.untied:
        yield "head.weight", (model.vocab_size, C)


def block_matrices(model: ModelConfig) -> int:
    """Count the parameters in the matrices of one block: 12C^2 in a GPT-2."""
    shape = shape_of(model)
    return model.n_embd * (_qkv_width(shape) + model.n_embd + _mlp_width(shape))


def matmul_parameters(model: ModelConfig) -> int:
    """Count the parameters in matrix products: the matrices of the blocks and the head."""
    return model.n_layer * block_matrices(model) + model.vocab_size * model.n_embd


def cache_bytes(model: ModelConfig) -> int:
    """Return the bytes of the keys and values of one whole context in 16 bits, which writing text keeps."""
    return 2 * 2 * model.n_layer * model.block_size * shape_of(model).key_width


def training_flops_per_token(model: ModelConfig, n_tokens: int | None = None) -> int:
    """Return 6N + 12LTC: N parameters in matrix products, and attention. The forward pass is a third of it.

    `n_tokens`: the length T of the context, the full one by default.

    Source: Kaplan et al. 2020; Chowdhery et al. 2022 (PaLM), appendix B.
    """
    T = n_tokens or model.block_size
    return 6 * matmul_parameters(model) + 12 * model.n_layer * T * model.n_embd


def checkpoint_bytes(model: ModelConfig) -> int:
    """Return the size of a checkpoint: weights and AdamW's two moments in float32, but not a few kilobytes of names."""
    return 12 * parameter_counts(model).total


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMemory:
    """The bytes that one process needs at the peak of an update, by part, without the program itself (~0.4 GB)."""

    weights: int  # in float32
    gradients: int  # 0 if the peak is before the backward pass
    moments: int  # the optimizer's
    copies: int  # of weights, in the dtype of products
    activations: int  # kept for the backward pass, and the buffers between two products
    logits: int
    communication: int = 0  # DDP: its buckets; FSDP: the gathered blocks
    scratch: int = 0  # Muon's work space

    @property
    def total(self) -> int:
        return sum(getattr(self, part.name) for part in fields(self))


def memory_of_run(config: Config, *, micro_batch: int | None = None, processes: int = 1) -> TrainingMemory:
    """Return the memory that one process of a run needs at its peak.

    `micro_batch`: sequences per pass instead of the config's. `processes`: of the whole run.

    The memory per token follows from fast/fused_update.py and model/gpt.py: change them together. bench/memory.py
    compares the result with the real memory of a process on a CPU. Several processes and GPUs are not measured. On a
    GPU, attention is assumed to keep no probabilities (flash attention), and `compiled` to need as much as `eager`,
    though it keeps less.
    """
    tokens = (micro_batch or config.train.micro_batch or 1) * config.model.block_size
    # If a pass has fewer tokens than an update, gradients of other passes or processes are added to its gradients.
    accumulate = tokens < config.train.batch_tokens
    if config.machine.update == "fast":
        return _fast_memory(config, tokens, accumulate=accumulate or processes > 1)
    return _autograd_memory(config, tokens, accumulate=accumulate, processes=processes)


def _autograd_memory(config: Config, tokens: int, *, accumulate: bool, processes: int) -> TrainingMemory:
    """Return the memory at the highest of three peaks: the loss, the end of the backward pass, the optimizer step."""
    model, bf16 = config.model, config.machine.dtype == "bfloat16"
    sharded = config.machine.shard and processes > 1
    n_shards = processes if sharded else 1
    N = parameter_counts(model).total
    gradients, communication = 4 * N // n_shards, 0
    if sharded:
        communication = _gathered_bytes(model, bf16=bf16)
    elif processes > 1:  # DDP's buckets are the gradients, but those of earlier passes are separate
        gradients, communication = gradients if accumulate else 0, 4 * N
    state = TrainingMemory(
        weights=4 * N // n_shards,
        gradients=gradients,
        moments=_moments_bytes(config) // n_shards,
        copies=0,
        activations=0,
        logits=0,
        communication=communication,
    )
    loss = replace(
        state,
        gradients=state.gradients if accumulate else 0,
        copies=_copies_bytes(model, bf16=bf16, sharded=sharded),
        activations=tokens * _kept_per_token(model, bf16=bf16, recompute=config.machine.recompute),
        logits=tokens * model.vocab_size * 12,  # log-probabilities, their gradient, and the gradient of the logits
    )
    # At the end of the backward pass the gradients of `wte` from both of its uses are added up.
    backward_end = replace(state, gradients=state.gradients + 8 * model.vocab_size * model.n_embd)
    step = replace(state, scratch=_muon_scratch(config))
    return max(loss, backward_end, step, key=lambda memory: memory.total)


def _fast_memory(config: Config, tokens: int, *, accumulate: bool) -> TrainingMemory:
    """Return the memory of fast/fused_update.py. It keeps its buffers between updates, so its memory is constant.

    `accumulate`: the gradients of several passes or processes are added up in float32.
    """
    model, bf16 = config.model, config.machine.dtype == "bfloat16"
    N, T, C, real = parameter_counts(model).total, model.block_size, model.n_embd, 2 if bf16 else 4
    probabilities = real * model.n_head * (T if T <= 256 else (T + 256) // 2)
    kept = model.n_layer * (C * (8 + 14 * real) + probabilities)
    shared = C * (8 + 18 * real) + probabilities
    return TrainingMemory(
        weights=4 * N,
        gradients=N * (real + (4 if accumulate else 0)),
        moments=_moments_bytes(config),
        copies=2 * N if bf16 else 0,
        activations=tokens * (kept + shared),
        logits=min(tokens, 1024) * model.vocab_size * real,
        scratch=_muon_scratch(config),
    )


def _moments_bytes(config: Config) -> int:
    """Count the bytes of the optimizer's moments: two float32 numbers per parameter, one if Muon updates it."""
    hidden = config.model.n_layer * block_matrices(config.model)
    return 8 * parameter_counts(config.model).total - (4 * hidden if config.train.optimizer == "muon" else 0)


def _kept_per_token(model: ModelConfig, *, bf16: bool, recompute: bool) -> int:
    """Count the bytes per token that autograd keeps for the backward pass."""
    shape, C, H, real = shape_of(model), model.n_embd, model.n_head, 2 if bf16 else 4
    # In float32: the residual stream before each norm. In the dtype of products: the outputs of both norms; q, k and v;
    # the output of attention; the MLP's wide layer before and after GELU (SwiGLU: the gate before and after SiLU, the
    # other layer, and their product); with rotary positions also the rotated q and k, and attention's output in another
    # order. Then two numbers for each norm and one for each head.
    wide = (4 if shape.swiglu else 2) * shape.hidden_width
    rotated = 2 * C + shape.key_width if model.rotary else 0
    block = 8 * C + real * (2 * C + _qkv_width(shape) + C + wide + rotated) + 16 + 4 * H
    ends = C * (4 + real) + 8
    return (block + model.n_layer * 4 * C if recompute else model.n_layer * block) + ends


def _gathered_bytes(model: ModelConfig, *, bf16: bool) -> int:
    """Count the bytes gathered from the shards: a block, the next block, and a block's gradients in transit."""
    block = block_matrices(model)
    return block * (2 + 2 + 2 + 4 if bf16 else 16) + 4 * model.vocab_size * model.n_embd


def _copies_bytes(model: ModelConfig, *, bf16: bool, sharded: bool) -> int:
    """Count the bytes of the copies of weights during a pass."""
    head = model.n_embd * (model.vocab_size + -model.vocab_size % 64)  # with rows of zeros (GPT.loss)
    return 4 * head if not bf16 else 2 * head + (0 if sharded else 2 * model.n_layer * block_matrices(model))


def _muon_scratch(config: Config) -> int:
    """Count the most bytes that orthogonalizing a stack of matrices takes (optim/muon.py)."""
    if config.train.optimizer != "muon":
        return 0
    model, bf16 = config.model, config.machine.dtype == "bfloat16"
    shape = shape_of(model)
    largest = model.n_embd * max(shape.hidden_width, _qkv_width(shape))  # numbers in a matrix: the MLP's in a GPT-2
    if config.machine.update == "fast":  # all matrices of a shape: the update, two copies of it, and products
        return model.n_layer * largest * (10 if bf16 else 14)
    n = largest * min(model.n_layer, max(1, MUON_STACK_NUMBERS // largest))
    return n * (14 if bf16 else 18)  # including the update of the previous stack


def micro_batch(config: Config, *, budget_bytes: int, most_tokens: int, processes: int = 1) -> int | None:
    """Return the most sequences per pass that divide a process's part of an update and fit the memory.

    Return None if not even one fits. A pass has at most `most_tokens` tokens, but at least one sequence.
    """
    T, sequences = config.model.block_size, config.train.batch_tokens // config.model.block_size // processes
    for size in range(sequences, 0, -1):
        fits_time = size == 1 or size * T <= most_tokens
        if sequences % size == 0 and fits_time:
            needed = memory_of_run(config, micro_batch=size, processes=processes)
            if needed.total <= budget_bytes:
                return size
    return None
