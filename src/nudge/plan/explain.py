"""A plan's formulas, each with its numbers put in: anybody can compute them again."""

from collections.abc import Iterator
from dataclasses import dataclass

from nudge.model.sizes import matmul_parameters
from nudge.plan.hardware import BUS_SHARE, DISK_BYTES_PER_S
from nudge.plan.layout import Traffic
from nudge.plan.planner import CHINCHILLA, FAILURES_PER_GPU_HOUR, Plan
from nudge.util import formatting

GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """One step of a plan: `name = expression = value unit`."""

    name: str
    expression: str
    value: float
    unit: str
    source: str

    @property
    def shown(self) -> str:
        """The value as a person writes it, with its unit."""
        if self.unit == "$":
            return formatting.dollars(self.value)
        if self.value >= 1e15:
            text = formatting.scientific(self.value)
        else:
            text = formatting.whole(self.value) if self.value >= 1e4 else formatting.plain(self.value, 4)
        return f"{text} {self.unit}".rstrip()


def formulas(plan: Plan) -> tuple[Formula, ...]:
    """Every formula behind a plan, in the order in which one needs the other."""
    failures = () if plan.ask.device.name == "cpu" else _failures(plan)
    return (*_model(plan), *_memory(plan), *_update(plan), *_run(plan), *failures)


def _model(plan: Plan) -> Iterator[Formula]:
    model, counts = plan.ask.model, plan.parameters
    L, T, C, V = model.n_layer, model.block_size, model.n_embd, model.vocab_size
    head = " + V*C" if model.untied else ""
    positions = "" if model.rotary else f" + {T:,}*{C:,}"
    yield Formula(
        name="parameters",
        expression=f"{V:,}*{C:,}{positions} + {L}*(12*{C:,}^2 + 13*{C:,}) + 2*{C:,}"
        + head.replace("V*C", f"{V:,}*{C:,}"),
        value=counts.total,
        unit="",
        source="V*C + T*C + L*(12C^2 + 13C) + 2C: embeddings, blocks, last norm (Radford et al. 2019)",
    )
    yield Formula(
        name="in products",
        expression=f"{L}*12*{C:,}^2 + {V:,}*{C:,}",
        value=matmul_parameters(model),
        unit="",
        source="N = L*12C^2 + V*C: what takes part in matrix products, the head once",
    )
    yield Formula(
        name="per token",
        expression=f"6*{matmul_parameters(model):,} + 12*{L}*{T:,}*{C:,}",
        value=plan.flops_per_token,
        unit="FLOP",
        source="6N + 12LTC, forward and backward (Kaplan et al. 2020; PaLM, appendix B)",
    )
    yield Formula(
        name="tokens",
        expression=f"{plan.steps:,} updates * {plan.ask.batch_tokens:,}",
        value=plan.tokens,
        unit="",
        source=f"{plan.tokens_per_parameter:.1f} per parameter; about {CHINCHILLA} is optimal (Hoffmann et al. 2022)",
    )
    yield Formula(
        name="all work",
        expression=f"{plan.tokens:,} * {plan.flops_per_token:,}",
        value=plan.flops,
        unit="FLOP",
        source="tokens * work per token",
    )


def _memory(plan: Plan) -> Iterator[Formula]:
    memory, ask = plan.layout.memory, plan.ask
    N, shards = plan.parameters.total, ask.count if plan.layout.kind == "shard" else 1
    by = f" / {shards}" if shards > 1 else ""
    tokens = plan.layout.micro_batch * ask.model.block_size

    def each(value: int) -> str:
        return f"{value * shards / N:.6g}*{N:,}{by}"

    table = 8 * ask.model.vocab_size * ask.model.n_embd
    twice_more = memory.gradients == 4 * N // shards + table
    gradients = f"({each(memory.gradients - table)} + {table:,})" if twice_more else each(memory.gradients)
    hidden = 12 * ask.model.n_layer * ask.model.n_embd**2
    moments = f"(8*{N:,} - 4*{hidden:,}){by}" if ask.optimizer == "muon" else each(memory.moments)
    parts = (
        ("weights", memory.weights, each(memory.weights), "float32"),
        ("gradients", memory.gradients, gradients, "float32; at the end those of the word table twice more"),
        ("moments", memory.moments, moments, "8N, two in float32; of the 12LC^2 that Muon updates, one"),
        ("copies", memory.copies, f"{memory.copies:,}", "weights in bfloat16, 2 bytes each, while they are used"),
        ("activations", memory.activations, f"{tokens:,}*{memory.activations // tokens:,}", "tokens of a pass * bytes"),
        (
            "logits",
            memory.logits,
            f"{tokens:,}*{memory.logits // tokens:,}",
            "tokens of a pass * bytes: V numbers each",
        ),
        ("communication", memory.communication, f"{memory.communication:,}", "gradients on the way, or whole blocks"),
        ("scratch", memory.scratch, f"{memory.scratch:,}", "what Muon computes with"),
        ("CUDA", plan.layout.reserved_bytes, f"{plan.layout.reserved_bytes:,}", "itself and its libraries: assumed"),
    )
    for name, value, expression, source in parts:
        if value:
            yield Formula(name=name, expression=f"{expression} / 1e9", value=value / GB, unit="GB", source=source)
    yield Formula(
        name="memory",
        expression=" + ".join(f"{value / GB:.4g}" for _, value, _, _ in parts if value),
        value=plan.layout.needed_bytes / GB,
        unit="GB",
        source=f"of {plan.layout.memory_bytes / GB:.4g} GB: {ask.device.source}",
    )


def _update(plan: Plan) -> Iterator[Formula]:
    ask, reached = plan.ask, plan.speed
    here = ask.model.block_size * -(-ask.batch_tokens // ask.model.block_size // ask.count)
    again = " * 4/3" if plan.layout.recompute else ""
    yield Formula(
        name="arithmetic",
        expression=f"{here:,} tokens * {plan.flops_per_token:,}{again} / ({plan.peak_flops:.4g} * {reached.mfu:.3f})",
        value=plan.compute_s,
        unit="s",
        source=f"on each GPU, per update; share of the peak: {reached.source}; peak: {ask.device.source}",
    )
    if plan.traffic:
        yield _traffic(plan, plan.traffic)
        yield Formula(
            name="waiting",
            expression=f"max(0, {plan.traffic.seconds:.4g} - {plan.traffic.hidden_s:.4g})",
            value=plan.traffic.exposed_s,
            unit="s",
            source="traffic that does not fit under arithmetic: all-reduce runs under the backward half of the last "
            "pass, sharded weights under all of it",
        )
    yield Formula(
        name="update",
        expression=f"{plan.compute_s:.4g}" + (f" + {plan.traffic.exposed_s:.4g}" if plan.traffic else ""),
        value=plan.step_s.likely,
        unit="s",
        source=f"from {plan.step_s.low:.4g} to {plan.step_s.high:.4g} s, with {reached.high:.0%} and {reached.low:.0%}",
    )


def _traffic(plan: Plan, traffic: Traffic) -> Formula:
    n, payload, bandwidth = plan.ask.count, traffic.payload_bytes, traffic.bandwidth_bytes_per_s
    if plan.layout.kind == "data":
        expression = f"2*({n}-1)/{n} * {payload:,} / {bandwidth:.4g}"
        form = "2(n-1)/n * S / bandwidth: ring all-reduce of float32 gradients"
    else:
        expression = f"{plan.layout.passes} passes * 3*({n}-1)/{n} * {payload:,} / {bandwidth:.4g}"
        form = "3(n-1)/n * weights / bandwidth: gathered twice, gradients scattered once (ZeRO)"
    return Formula(
        name="traffic",
        expression=expression,
        value=traffic.seconds,
        unit="s",
        source=f"{form}; {traffic.link}, {BUS_SHARE:.0%} of the data sheet",
    )


def _run(plan: Plan) -> Iterator[Formula]:
    ask = plan.ask
    yield Formula(
        name="tokens/s",
        expression=f"{ask.batch_tokens:,} / {plan.step_s.likely:.4g}",
        value=plan.tokens_per_s.likely,
        unit="",
        source="tokens of an update / its time",
    )
    yield Formula(
        name="time",
        expression=f"{plan.steps:,} * {plan.step_s.likely:.4g} / 3600",
        value=plan.hours.likely,
        unit="h",
        source="updates * time of one; without evaluation, samples and checkpoints",
    )
    if plan.usd and ask.price:
        yield Formula(
            name="cost",
            expression=f"{plan.hours.likely:.4g} h * {ask.count} * ${ask.price.usd_per_hour:g}",
            value=plan.usd.likely,
            unit="$",
            source=f"price per GPU-hour, {ask.price.date}: {ask.price.source}",
        )
    if ask.device.watts:
        yield Formula(
            name="energy",
            expression=f"{plan.hours.likely:.4g} h * {ask.count} * {ask.device.watts / 1000:g} kW",
            value=plan.energy_kwh.likely,
            unit="kWh",
            source="GPUs alone at their limit; no PUE: hosts and cooling come on top",
        )


def _failures(plan: Plan) -> Iterator[Formula]:
    ask, failures = plan.ask, plan.failures
    writers = -(-ask.count // ask.device.per_node) if plan.layout.kind == "shard" else 1
    yield Formula(
        name="failures",
        expression=f"{FAILURES_PER_GPU_HOUR:.3g} * {ask.count} * {plan.hours.likely:.4g} h",
        value=failures.expected,
        unit="",
        source="Llama 3 report: 419 in 54 days on 16,384 GPUs",
    )
    by = f" / {writers} nodes" if writers > 1 else ""
    yield Formula(
        name="one checkpoint",
        expression=f"12 * {plan.parameters.total:,} / {DISK_BYTES_PER_S:.3g}{by}",
        value=failures.checkpoint_s,
        unit="s",
        source="weights and two moments in float32; disk: 0.5 GB/s assumed",
    )
    yield Formula(
        name="save every",
        expression=f"sqrt(2 * {failures.checkpoint_s:.4g} s * {failures.mtbf_hours * 3600:.4g} s)",
        value=failures.save_every_s / 60,
        unit="min",
        source="sqrt(2 * checkpoint time * mean time between failures) (Young 1974)",
    )
