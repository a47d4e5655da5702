"""One network in several processes.

data parallel (DDP)      every process has all parameters and computes a part of the batch; the gradients are summed
fully sharded (FSDP2)    every process computes a part of the batch too, but keeps only some rows of each parameter, of
                         its gradient and of its moments; a block is gathered just before it computes, then freed

Source: Li et al. 2020 (DDP), Rajbhandari et al. 2020 (ZeRO), Zhao et al. 2023 (FSDP).

Importing torch's sharded tensors takes a second, so only the functions that need them do.
"""

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeGuard, cast

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nudge.config import ResolvedConfig
from nudge.distributed.world import World
from nudge.errors import CheckpointError
from nudge.model.gpt import GPT, Block

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


class LossModule(nn.Module):
    """The loss of a network as a module, which DDP and torch.compile wrap."""

    def __init__(self, network: GPT) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        return self.network.loss(tokens, targets)


def recompute_blocks(network: GPT) -> None:
    """Make each block keep only its input; the backward pass then computes the block again."""
    for block in network.blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def shard(network: GPT, dtype: str, world: World) -> None:
    """Divide a network among all processes, in place. Its parameters become DTensors with some rows in each process.

    With `dtype` bfloat16, the blocks' matrices are sent in bfloat16, since autocast would round them anyway. Norms are
    sent in float32.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(world.device, (world.size,))
    exact = MixedPrecisionPolicy(cast_forward_inputs=False)
    rounded = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in cast("list[Block]", network.blocks):
        if dtype == "bfloat16":
            fully_shard(block.attn, mesh=mesh, mp_policy=rounded)
            fully_shard(block.mlp, mesh=mesh, mp_policy=rounded)
        fully_shard(block, mesh=mesh, mp_policy=exact)
    fully_shard(network, mesh=mesh, mp_policy=exact)
    register_fsdp_forward_method(network, "loss")


def is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Return whether this process has only some rows of a tensor."""
    return hasattr(tensor, "device_mesh")


def local_rows(tensor: Tensor) -> Tensor:
    """Return the rows of a parameter or gradient that this process has: all rows if it is not sharded."""
    return tensor.to_local().detach() if is_sharded(tensor) else tensor


def shard_like(part: Tensor, parameter: Tensor) -> Tensor:
    """Return `part` as this process's rows of a tensor that is sharded like `parameter`; unchanged if it is not."""
    if not is_sharded(parameter) or part.dim() == 0:
        return part
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        part,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def row_span(parameter: Tensor) -> slice:
    """Return the range of a parameter's rows that this process has: all rows if it is not sharded."""
    if not is_sharded(parameter):
        return slice(None)
    each = -(-len(parameter) // parameter.device_mesh.size())  # FSDP2 divides rows as torch.chunk does
    start = parameter.device_mesh.get_local_rank() * each
    return slice(start, start + each)


def empty_network(config: ResolvedConfig, world: World) -> GPT:
    """Return the network of a run, or this process's part of it, with uninitialized weights."""
    device = config.machine.device
    if world.size == 1 or not config.machine.shard:
        with torch.device(device):
            return GPT(config.model)
    with torch.device("meta"):
        network = GPT(config.model)
    shard(network, config.machine.dtype, world)
    return network.to_empty(device=device)


@torch.no_grad()
def load_weights(network: GPT, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Copy weights into a network. If it is sharded, copy only this process's rows.

    Raises: CheckpointError if a weight is missing or unknown: a missing one would keep uninitialized memory.
    """
    parameters = dict(network.named_parameters())
    for name, value in weights:
        if name not in parameters:
            raise CheckpointError("extra_weights", name=name)
        parameter = parameters.pop(name)
        if value.shape != parameter.shape:  # copy_ would repeat a single row
            raise CheckpointError("other_shape", name=name, got=list(value.shape), expected=list(parameter.shape))
        local_rows(parameter).copy_(value[row_span(parameter)])
    if parameters:
        raise CheckpointError("missing_weights", name=next(iter(parameters)))


def whole_network(network: GPT, world: World) -> GPT:
    """Gather a sharded network on the CPU of process 0. All processes call this; the others get an empty network."""
    weights = {}
    for name, parameter in network.named_parameters():
        values = full_tensor(parameter.detach())
        if world.is_rank0:
            weights[name] = values.cpu()
    with torch.device("meta"):
        copy = GPT(network.config)
    copy.load_state_dict(weights, assign=True, strict=world.is_rank0)
    return copy


def full_tensor(tensor: Tensor) -> Tensor:
    """Return all rows of a tensor. All processes call this."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def divide_work(work: Callable[[Tensor], Tensor], items: Tensor, world: World) -> Tensor:
    """Return `work(items)` for items [S, ..]: each process computes a part, and all get all results."""
    if world.size == 1:
        return work(items)
    each = -(-len(items) // world.size)
    mine = items[world.rank * each : (world.rank + 1) * each]
    done = work(mine) if len(mine) else None
    like = work(items[:0]) if done is None else done
    result = like.new_zeros((each, *items.shape[1:]))
    if done is not None:
        result[: len(mine)] = done
    return world.gather_rows(result)[: len(items)]


def whole_matrices(parts: Tensor, n_rows: int, world: World) -> Tensor:
    """Gather all rows of sharded matrices: [S, this process's rows, m] -> [S, n_rows, m]."""
    each = -(-n_rows // world.size)
    padded = parts.new_zeros((1, len(parts), each, parts.size(-1)))
    padded[0, :, : parts.size(1)] = parts
    return world.gather_rows(padded).transpose(0, 1).reshape(len(parts), -1, parts.size(-1))[:, :n_rows]
