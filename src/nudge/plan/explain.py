"""The formulas of a plan with their numbers put in, so that anybody can compute them again."""

from collections.abc import Iterator
from dataclasses import dataclass

from nudge.model.sizes import matmul_parameters
from nudge.plan.hardware import BUS_SHARE, DISK_BYTES_PER_S
from nudge.plan.layout import Traffic
from nudge.plan.planner import CHINCHILLA, FAILURES_PER_GPU_HOUR, Plan
from nudge.util import formatting

GB = 1e9


@dataclass(frozen=True, slots=True)
class Formula:
    """One step of a plan: `name = expression = value unit`, and where it comes from."""

    name: str
    expression: str
    value: float
    unit: str
    source: str

    @property
    def shown(self) -> str:
        """Return the value with its unit, rounded for reading."""
        if self.unit == "$":
            return formatting.dollars(self.value)
        if self.value >= 1e15:
            text = formatting.scientific(self.value)
        else:
            text = formatting.whole(self.value) if self.value >= 1e4 else formatting.plain(self.value, 4)
        return f"{text} {self.unit}".rstrip()


def formulas(plan: Plan) -> tuple[Formula, ...]:
    """Return every formula behind a plan; each uses only values of those before it."""
    failures = () if plan.ask.device.name == "cpu" else _failures(plan)
    return (*_model(plan), *_memory(plan), *_update(plan), *_run(plan), *failures)


def _model(plan: Plan) -> Iterator[Formula]:
    model = plan.ask.model
    L, T, C, V, N = model.n_layer, model.block_size, model.n_embd, model.vocab_size, matmul_parameters(model)
    positions = "" if model.rotary else f" + {T:,}*{C:,}"
    head = f" + {V:,}*{C:,}" if model.untied else ""
    yield Formula(
        "parameters",
        f"{V:,}*{C:,}{positions} + {L}*(12*{C:,}^2 + 13*{C:,}) + 2*{C:,}{head}",
        plan.parameters.total,
        "",
        "V*C + T*C + L*(12C^2 + 13C) + 2C: embeddings, blocks, last norm (Radford et al. 2019)",
    )
    yield Formula(
        "in products",
        f"{L}*12*{C:,}^2 + {V:,}*{C:,}",
        N,
        "",
        "N = L*12C^2 + V*C: parameters in matrix products, the head once",
    )
    yield Formula(
        "per token",
        f"6*{N:,} + 12*{L}*{T:,}*{C:,}",
        plan.flops_per_token,
        "FLOP",
        "6N + 12LTC, forward and backward (Kaplan et al. 2020; PaLM, appendix B)",
    )
    yield Formula(
        "tokens",
        f"{plan.steps:,} updates * {plan.ask.batch_tokens:,}",
        plan.tokens,
        "",
        f"{plan.tokens_per_parameter:.1f} per parameter; about {CHINCHILLA} is optimal (Hoffmann et al. 2022)",
    )
    yield Formula(
        "all work",
        f"{plan.tokens:,} * {plan.flops_per_token:,}",
        plan.flops,
        "FLOP",
        "tokens * work per token",
    )


def _memory(plan: Plan) -> Iterator[Formula]:
    parts = [part for part in _memory_parts(plan) if part[1]]
    for name, n_bytes, expression, source in parts:
        yield Formula(name, f"{expression} / 1e9", n_bytes / GB, "GB", source)
    yield Formula(
        "memory",
        " + ".join(f"{n_bytes / GB:.4g}" for _, n_bytes, *_ in parts),
        plan.layout.needed_bytes / GB,
        "GB",
        f"of {plan.layout.memory_bytes / GB:.4g} GB: {plan.ask.device.source}",
    )


def _memory_parts(plan: Plan) -> Iterator[tuple[str, int, str, str]]:
    """Yield (name, bytes, expression, source) for each part of the memory of one GPU."""
    memory, model, N = plan.layout.memory, plan.ask.model, plan.parameters.total
    n_shards = plan.ask.count if plan.layout.kind == "shard" else 1
    shared = f" / {n_shards}" if n_shards > 1 else ""
    tokens = plan.layout.micro_batch * model.block_size

    def per_parameter(n_bytes: int) -> str:
        return f"{round(n_bytes * n_shards / N)}*{N:,}{shared}"

    yield "weights", memory.weights, per_parameter(memory.weights), "float32"
    # The peak is at the end of the backward pass if there are no logits any more and no scratch yet (model/sizes.py).
    at_the_end = not memory.logits and not memory.scratch
    table = 8 * model.vocab_size * model.n_embd if at_the_end else 0
    gradients = per_parameter(memory.gradients - table)
    source = "float32; at the end those of the word table twice more"
    yield "gradients", memory.gradients, f"({gradients} + {table:,})" if table else gradients, source
    hidden = 12 * model.n_layer * model.n_embd**2
    muon = f"(8*{N:,} - 4*{hidden:,}){shared}"
    moments = muon if plan.ask.optimizer == "muon" else per_parameter(memory.moments)
    yield "moments", memory.moments, moments, "8N, two in float32; of the 12LC^2 that Muon updates, one"
    yield "copies", memory.copies, f"{memory.copies:,}", "weights in bfloat16, 2 bytes each, while they are used"
    for name, n_bytes, source in (
        ("activations", memory.activations, "tokens of a pass * bytes"),
        ("logits", memory.logits, "tokens of a pass * bytes: V numbers each"),
    ):
        yield name, n_bytes, f"{tokens:,}*{n_bytes // tokens:,}", source
    for name, n_bytes, source in (
        ("communication", memory.communication, "gradients on the way, or whole blocks"),
        ("scratch", memory.scratch, "what Muon computes with"),
        ("CUDA", plan.layout.reserved_bytes, "itself and its libraries: assumed"),
    ):
        yield name, n_bytes, f"{n_bytes:,}", source


def _update(plan: Plan) -> Iterator[Formula]:
    ask, reached = plan.ask, plan.speed
    here = ask.model.block_size * -(-ask.batch_tokens // ask.model.block_size // ask.count)
    again = " * 4/3" if plan.layout.recompute else ""
    yield Formula(
        "arithmetic",
        f"{here:,} tokens * {plan.flops_per_token:,}{again} / ({plan.peak_flops:.4g} * {reached.mfu:.3f})",
        plan.compute_s,
        "s",
        f"on each GPU, per update; share of the peak: {reached.source}; peak: {ask.device.source}",
    )
    if plan.traffic:
        yield _traffic(plan, plan.traffic)
        yield Formula(
            "waiting",
            f"max(0, {plan.traffic.seconds:.4g} - {plan.traffic.hidden_s:.4g})",
            plan.traffic.exposed_s,
            "s",
            "traffic that does not fit under arithmetic: all-reduce runs under the backward half of the last "
            "pass, sharded weights under all of it",
        )
    yield Formula(
        "update",
        f"{plan.compute_s:.4g}" + (f" + {plan.traffic.exposed_s:.4g}" if plan.traffic else ""),
        plan.step_s.likely,
        "s",
        f"from {plan.step_s.low:.4g} to {plan.step_s.high:.4g} s, with {reached.high:.0%} and {reached.low:.0%}",
    )


def _traffic(plan: Plan, traffic: Traffic) -> Formula:
    n, payload, bandwidth = plan.ask.count, traffic.payload_bytes, traffic.bandwidth_bytes_per_s
    if plan.layout.kind == "data":
        expression = f"2*({n}-1)/{n} * {payload:,} / {bandwidth:.4g}"
        form = "2(n-1)/n * S / bandwidth: ring all-reduce of float32 gradients"
    else:
        expression = f"{plan.layout.passes} passes * 3*({n}-1)/{n} * {payload:,} / {bandwidth:.4g}"
        form = "3(n-1)/n * weights / bandwidth: gathered twice, gradients scattered once (ZeRO)"
    source = f"{form}; {traffic.link}, {BUS_SHARE:.0%} of the data sheet"
    return Formula("traffic", expression, traffic.seconds, "s", source)


def _run(plan: Plan) -> Iterator[Formula]:
    ask = plan.ask
    yield Formula(
        "tokens/s",
        f"{ask.batch_tokens:,} / {plan.step_s.likely:.4g}",
        plan.tokens_per_s.likely,
        "",
        "tokens of an update / its time",
    )
    yield Formula(
        "time",
        f"{plan.steps:,} * {plan.step_s.likely:.4g} / 3600",
        plan.hours.likely,
        "h",
        "updates * time of one; without evaluation, samples and checkpoints",
    )
    if plan.usd and ask.price:
        yield Formula(
            "cost",
            f"{plan.hours.likely:.4g} h * {ask.count} * ${ask.price.usd_per_hour:g}",
            plan.usd.likely,
            "$",
            f"price per GPU-hour, {ask.price.date}: {ask.price.source}",
        )
    if ask.device.watts:
        yield Formula(
            "energy",
            f"{plan.hours.likely:.4g} h * {ask.count} * {ask.device.watts / 1000:g} kW",
            plan.energy_kwh.likely,
            "kWh",
            "GPUs alone at their limit; no PUE: hosts and cooling come on top",
        )


def _failures(plan: Plan) -> Iterator[Formula]:
    ask, failures = plan.ask, plan.failures
    writers = -(-ask.count // ask.device.per_node) if plan.layout.kind == "shard" else 1
    yield Formula(
        "failures",
        f"{FAILURES_PER_GPU_HOUR:.3g} * {ask.count} * {plan.hours.likely:.4g} h",
        failures.expected,
        "",
        "Llama 3 report: 419 in 54 days on 16,384 GPUs",
    )
    by = f" / {writers} nodes" if writers > 1 else ""
    yield Formula(
        "one checkpoint",
        f"12 * {plan.parameters.total:,} / {DISK_BYTES_PER_S:.3g}{by}",
        failures.checkpoint_s,
        "s",
        "weights and two moments in float32; disk: 0.5 GB/s assumed",
    )
    yield Formula(
        "save every",
        f"sqrt(2 * {failures.checkpoint_s:.4g} s * {failures.mtbf_hours * 3600:.4g} s)",
        failures.save_every_s / 60,
        "min",
        "sqrt(2 * checkpoint time * mean time between failures) (Young 1974)",
    )
