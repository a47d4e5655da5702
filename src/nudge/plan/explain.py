"""The formulas of a plan (formulas.toml) with their numbers filled in, so that anybody can check them."""

from dataclasses import dataclass
from typing import Any

from nudge.config import ModelConfig
from nudge.model.shape import Shape
from nudge.model.sizes import block_matrices, matmul_parameters
from nudge.plan import facts
from nudge.plan.hardware import BUS_SHARE, DISK_BYTES_PER_S
from nudge.plan.planner import FAILURES_PER_GPU_HOUR, Plan
from nudge.util import formatting

GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """One step of a plan: `name = expression = value unit`, with its source."""

    name: str
    expression: str
    value: float
    unit: str
    source: str

    @property
    def shown(self) -> str:
        """Return the value with its unit, rounded for display."""
        if self.unit == "$":
            return formatting.dollars(self.value)
        if self.value >= 1e15:
            text = formatting.scientific(self.value)
        else:
            text = formatting.whole(self.value) if self.value >= 1e4 else formatting.plain(self.value, 4)
        return f"{text} {self.unit}".rstrip()


def formulas(plan: Plan) -> tuple[Formula, ...]:
    """Return every formula of a plan; each uses only values of earlier ones."""
    values = _values(plan)
    numbers = _numbers(plan) | _memory_numbers(plan)
    found = []
    for name, words in facts.read("formulas.toml").items():
        if name in values:
            words = words.get(plan.layout.kind, words)
            expression, source = (words[key].format_map(numbers) for key in ("expression", "source"))
            unit = words.get("unit", "")
            found.append(Formula(name=name, expression=expression, value=values[name], unit=unit, source=source))
    return tuple(found)


def _values(plan: Plan) -> dict[str, float]:
    """Return the value of each formula that applies to the plan."""
    failures = plan.failures
    values: dict[str, float] = {
        "parameters": plan.parameters.total,
        "in products": matmul_parameters(plan.ask.model),
        "per token": plan.flops_per_token,
        "tokens": plan.tokens,
        "all work": plan.flops,
        **{name: n_bytes / GB for name, n_bytes in _memory_parts(plan).items()},
        "memory": plan.layout.needed_bytes / GB,
        "arithmetic": plan.compute_s,
        "update": plan.step_s.likely,
        "tokens/s": plan.tokens_per_s.likely,
        "time": plan.hours.likely,
    }
    if plan.traffic:
        values |= {"traffic": plan.traffic.seconds, "waiting": plan.traffic.exposed_s}
    if plan.usd:
        values["cost"] = plan.usd.likely
    if plan.ask.device.watts:
        values["energy"] = plan.energy_kwh.likely
    if plan.ask.device.name != "cpu":
        values |= {"failures": failures.expected, "one checkpoint": failures.checkpoint_s}
        values["save every"] = failures.save_every_s / 60
    return values


def _memory_parts(plan: Plan) -> dict[str, int]:
    """Return the bytes of each nonempty part of the memory."""
    parts = {"CUDA" if name == "reserved" else name: n_bytes for name, n_bytes in plan.layout.parts.items()}
    return {name: n_bytes for name, n_bytes in parts.items() if n_bytes}


def _numbers(plan: Plan) -> dict[str, Any]:
    """Return the values of the placeholders in the formulas, except for those about memory."""
    ask, model, device = plan.ask, plan.ask.model, plan.ask.device
    L, T, C, V, n = model.n_layer, model.block_size, model.n_embd, model.vocab_size, ask.count
    writers = -(-n // device.per_node) if plan.layout.kind == "shard" else 1
    objects = {"plan": plan, "ask": ask, "layout": plan.layout, "traffic": plan.traffic}
    sizes = {"L": L, "T": T, "C": C, "V": V, "n": n, "in_products": matmul_parameters(model)}
    return {
        **objects,
        **sizes,
        "positions": "" if model.rotary else f" + {T:,}*{C:,}",
        "head": f" + {V:,}*{C:,}" if model.untied else "",
        **_block_words(model),
        "here": T * -(-ask.batch_tokens // T // n),
        "again": " * 4/3" if plan.layout.recompute else "",
        "bus_share": BUS_SHARE,
        "waiting": f" + {plan.traffic.exposed_s:.4g}" if plan.traffic else "",
        "hours": plan.hours.likely,
        "kilowatts": device.watts / 1000,
        "failures_per_gpu_hour": FAILURES_PER_GPU_HOUR,
        "disk_bytes_per_s": DISK_BYTES_PER_S,
        "nodes": f" / {writers} nodes" if writers > 1 else "",
        "mtbf_s": plan.failures.mtbf_hours * 3600,
    }


def _block_words(model: ModelConfig) -> dict[str, str]:
    """Return the parameters of a block: its matrices and its vectors, with numbers and in symbols."""
    C, norm = model.n_embd, 2  # vectors in a norm
    matrices, vectors, symbols = f"12*{C:,}^2", f"13*{C:,}", ("12C^2", "13C")
    if isinstance(model, Shape):
        K, F, n = model.key_width, model.hidden_width, 3 if model.swiglu else 2
        matrices = f"(2*{C:,}^2 + 2*{C:,}*{K:,} + {n}*{C:,}*{F:,})"
        vectors = f"7*{C:,} + 2*{K:,} + {n - 1}*{F:,}" if model.bias else f"2*{C:,}"
        symbols = (f"(2C^2 + 2CK + {n}CF)", f"7C + 2K + {n - 1}F" if model.bias else "2C")
        norm = 2 if model.bias else 1
    return {
        "block": f"{matrices} + {vectors}",
        "block_matrices": matrices,
        "last_norm": f"{norm}*{C:,}",
        "block_symbols": " + ".join(symbols),
        "matrix_symbols": symbols[0],
        "norm_symbols": f"{norm}C",
    }


def _memory_numbers(plan: Plan) -> dict[str, Any]:
    """Return the values of the placeholders in the formulas about memory."""
    memory, model, N = plan.layout.memory, plan.ask.model, plan.parameters.total
    n_shards = plan.ask.count if plan.layout.kind == "shard" else 1
    shared = f" / {n_shards}" if n_shards > 1 else ""
    tokens = plan.layout.micro_batch * model.block_size

    def per_parameter(n_bytes: int) -> str:
        return f"{round(n_bytes * n_shards / N)}*{N:,}{shared}"

    # The peak is at the end of the backward pass if it has neither logits nor scratch memory (model/sizes.py).
    at_the_end = not memory.logits and not memory.scratch
    table = 8 * model.vocab_size * model.n_embd if at_the_end else 0
    gradients = per_parameter(memory.gradients - table)
    muon = f"(8*{N:,} - 4*{model.n_layer * block_matrices(model):,}){shared}"
    return {
        "memory": memory,
        "weights": per_parameter(memory.weights),
        "gradients": f"({gradients} + {table:,})" if table else gradients,
        "moments": muon if plan.ask.optimizer == "muon" else per_parameter(memory.moments),
        "pass_tokens": tokens,
        "activations_per_token": memory.activations // tokens,
        "logits_per_token": memory.logits // tokens,
        "parts": " + ".join(f"{n_bytes / GB:.4g}" for n_bytes in _memory_parts(plan).values()),
        "memory_gb": plan.layout.memory_bytes / GB,
    }
