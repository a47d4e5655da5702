"""Layouts of a training on GPUs: the memory that each GPU needs, and the traffic between them."""

from dataclasses import asdict, dataclass
from typing import Literal

from nudge.config import Config, ModelConfig
from nudge.model.sizes import TrainingMemory, memory_of_run, parameter_counts
from nudge.plan.hardware import BUS_SHARE, Device

RESERVED_BYTES = 1_000_000_000  # for CUDA itself and the work space of its libraries
MOST_TOKENS = 65_536  # in one pass: more do not make a GPU faster

Kind = Literal["data", "shard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way to place a training. `data`: each GPU has the whole state; `shard`: the GPUs divide it (FSDP)."""

    kind: Kind
    recompute: bool  # compute activations again in the backward pass: a third more arithmetic
    micro_batch: int  # sequences per pass of one GPU
    passes: int  # per update, on the busiest GPU
    memory: TrainingMemory
    reserved_bytes: int
    memory_bytes: int  # of the device

    @property
    def parts(self) -> dict[str, int]:
        """Return the bytes of each part: the parts of TrainingMemory, and the reserved memory."""
        return {**asdict(self.memory), "reserved": self.reserved_bytes}

    @property
    def needed_bytes(self) -> int:
        """Return the sum of all parts."""
        return self.memory.total + self.reserved_bytes

    @property
    def free_bytes(self) -> int:
        """Return the rest of the device's memory; negative if the training does not fit."""
        return self.memory_bytes - self.needed_bytes

    @property
    def fits(self) -> bool:
        return self.needed_bytes <= self.memory_bytes

    @property
    def name(self) -> str:
        """Return a description for tables."""
        kind = {"data": "whole state on each", "shard": "state divided (FSDP)"}[self.kind]
        return kind + (", activations recomputed" if self.recompute else "")


def place(config: Config, device: Device, count: int) -> Layout:
    """Return the layout with the config's micro-batch, or with the largest that fits; with one sequence if none does.

    `config`: the share of the busiest of the `count` GPUs; `train.batch_tokens` counts that share only.
    """
    T, machine = config.model.block_size, config.machine
    sequences = config.train.batch_tokens // T

    def with_batch(size: int) -> Layout:
        return Layout(
            kind="shard" if machine.shard else "data",
            recompute=machine.recompute,
            micro_batch=size,
            passes=-(-sequences // size),
            memory=memory_of_run(config, micro_batch=size, processes=count),
            reserved_bytes=0 if device.name == "cpu" else RESERVED_BYTES,
            memory_bytes=device.memory_bytes,
        )

    if config.train.micro_batch:
        return with_batch(config.train.micro_batch)
    most = max(1, MOST_TOKENS // T)
    sizes = (size for size in range(min(sequences, most), 1, -1) if sequences % size == 0)
    return next((layout for layout in map(with_batch, sizes) if layout.fits), with_batch(1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The communication between the GPUs of a run in one update."""

    payload_bytes: int  # gradients to add up, or weights to gather
    bandwidth_bytes_per_s: float  # of the slowest link, in collectives
    link: str
    seconds: float
    hidden_s: float  # arithmetic that overlaps with it

    @property
    def exposed_s(self) -> float:
        """Return the seconds that the GPUs spend waiting."""
        return max(0.0, self.seconds - self.hidden_s)


def ring_all_reduce_s(n: int, payload_bytes: float, bytes_per_s: float) -> float:
    """Return the seconds of an all-reduce of S bytes among n devices: 2(n-1)/n * S / bandwidth.

    Source: Patarasuk and Yuan 2009; NVIDIA's nccl-tests, PERFORMANCE.md.
    """
    return 2 * (n - 1) / n * payload_bytes / bytes_per_s


def sharded_pass_s(n: int, weights_bytes: float, bytes_per_s: float) -> float:
    """Return the seconds to gather the weights twice and scatter the gradients once: 3(n-1)/n * weights / bandwidth.

    Source: Rajbhandari et al. 2020 (ZeRO), section 7.
    """
    return 3 * (n - 1) / n * weights_bytes / bytes_per_s


def traffic(
    model: ModelConfig, device: Device, count: int, layout: Layout, *, dtype: str, compute_s: float
) -> Traffic | None:
    """Return the traffic of one update whose arithmetic takes `compute_s`; None for a single GPU.

    All-reduce happens once per update and overlaps with the backward part (two thirds) of the last pass. Sharded
    weights are sent in every pass and overlap with all of the pass.
    """
    if count == 1:
        return None
    n_params = parameter_counts(model).total
    in_one_node = count <= device.per_node
    bandwidth = BUS_SHARE * (device.link_bytes_per_s if in_one_node else device.network_bytes_per_s)
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
        link="inside the node" if in_one_node else "between nodes",
        seconds=seconds,
        hidden_s=hidden,
    )
