"""Where the numbers of a training lie: how much memory each GPU needs for it, and what travels between them."""

from dataclasses import asdict, dataclass
from typing import Literal

from nudge.config import ModelConfig
from nudge.model.sizes import TrainingMemory, parameter_counts, training_memory
from nudge.plan.hardware import BUS_SHARE, Device

RESERVED_BYTES = 1_000_000_000  # of a GPU: CUDA itself, and the work space of its libraries
MOST_TOKENS = 65_536  # in one pass on a GPU: more makes it no faster

Kind = Literal["data", "shard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way to place a training: `data`, each GPU has the whole state; `shard`, the GPUs divide it (FSDP)."""

    kind: Kind
    recompute: bool  # activations are computed again in the backward pass, which costs a third more arithmetic
    micro_batch: int  # sequences per pass of one GPU
    passes: int  # per update, on the GPU that has most to do
    memory: TrainingMemory
    reserved_bytes: int
    memory_bytes: int  # what the device has

    @property
    def parts(self) -> dict[str, int]:
        """What takes the memory, in bytes: the parts of TrainingMemory, and what is reserved."""
        return {**asdict(self.memory), "reserved": self.reserved_bytes}

    @property
    def needed_bytes(self) -> int:
        """All parts together."""
        return self.memory.total + self.reserved_bytes

    @property
    def free_bytes(self) -> int:
        """What is left of the device; below 0 where it does not fit."""
        return self.memory_bytes - self.needed_bytes

    @property
    def fits(self) -> bool:
        return self.needed_bytes <= self.memory_bytes

    @property
    def name(self) -> str:
        """In words."""
        kind = {"data": "whole state on each", "shard": "state divided (FSDP)"}[self.kind]
        return kind + (", activations recomputed" if self.recompute else "")


def place(
    model: ModelConfig,
    device: Device,
    count: int,
    *,
    sequences: int,
    dtype: str,
    optimizer: str,
    kind: Kind,
    recompute: bool,
    micro_batch: int | None = None,
) -> Layout:
    """That layout with the largest micro-batch that fits; with one sequence if none does.

    `sequences`: of an update, on the GPU that has most of them.
    """
    reserved = 0 if device.name == "cpu" else RESERVED_BYTES

    def with_batch(size: int) -> Layout:
        memory = training_memory(
            model,
            micro_tokens=size * model.block_size,
            dtype=dtype,
            update="compiled" if device.name != "cpu" else "fast" if model.is_gpt2 else "eager",
            n_shards=count if kind == "shard" else 1,
            recompute=recompute,
            processes=count,
            optimizer=optimizer,
            accumulate=size < sequences,
        )
        return Layout(
            kind=kind,
            recompute=recompute,
            micro_batch=size,
            passes=-(-sequences // size),
            memory=memory,
            reserved_bytes=reserved,
            memory_bytes=device.memory_bytes,
        )

    if micro_batch:
        return with_batch(micro_batch)
    most = max(1, MOST_TOKENS // model.block_size)
    sizes = (size for size in range(min(sequences, most), 1, -1) if sequences % size == 0)
    return next((layout for layout in map(with_batch, sizes) if layout.fits), with_batch(1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What the GPUs of a run say to each other in one update."""

    payload_bytes: int  # what is to be combined or gathered: gradients, or weights
    bandwidth_bytes_per_s: float  # of the slowest link on the way, as far as it is reached
    link: str
    seconds: float
    hidden_s: float  # of arithmetic under which it can hide

    @property
    def exposed_s(self) -> float:
        """Seconds for which the GPUs wait."""
        return max(0.0, self.seconds - self.hidden_s)


def ring_all_reduce_s(n: int, payload_bytes: float, bytes_per_s: float) -> float:
    """Seconds in which n devices add up what each has: 2(n-1)/n * S / bandwidth.

    Source: Patarasuk and Yuan 2009; NVIDIA's nccl-tests, PERFORMANCE.md.
    """
    return 2 * (n - 1) / n * payload_bytes / bytes_per_s


def sharded_pass_s(n: int, weights_bytes: float, bytes_per_s: float) -> float:
    """Seconds to gather the weights twice and scatter the gradients once: 3(n-1)/n * 2N / bandwidth in bfloat16.

    Source: Rajbhandari et al. 2020 (ZeRO), section 7.
    """
    return 3 * (n - 1) / n * weights_bytes / bytes_per_s


def traffic(
    model: ModelConfig, device: Device, count: int, layout: Layout, *, dtype: str, compute_s: float
) -> Traffic | None:
    """Between the GPUs in one update, of which `compute_s` is arithmetic; None for a single one.

    All-reduce happens once per update, under the backward half (two thirds) of its last pass. Sharded weights travel in
    every pass, under all of it.
    """
    if count == 1:
        return None
    n_params = parameter_counts(model).total
    inside = count <= device.per_node
    bandwidth = BUS_SHARE * (device.link_bytes_per_s if inside else device.network_bytes_per_s)
    if layout.kind == "data":
        payload = 4 * n_params  # gradients in float32
        seconds = ring_all_reduce_s(count, payload, bandwidth)
        hidden = 2 / 3 * compute_s / layout.passes
    else:
        payload = (2 if dtype == "bfloat16" else 4) * n_params
        seconds = layout.passes * sharded_pass_s(count, payload, bandwidth)
        hidden = compute_s
    return Traffic(
        payload_bytes=payload,
        bandwidth_bytes_per_s=bandwidth,
        link="inside the node" if inside else "between nodes",
        seconds=seconds,
        hidden_s=hidden,
    )
