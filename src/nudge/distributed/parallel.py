"""One network in several processes.

data parallel (DDP)      every process has all parameters and computes a part of the batch; the gradients are summed
fully sharded (FSDP2)    every process also keeps only a part of each parameter (its rows), its gradient and moments;
                         a block is put together just before it computes, and freed afterwards

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
    """Keep only the input of each block for the backward pass, which then computes the block again."""
    for block in network.blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def shard(network: GPT, dtype: str, world: World) -> None:
    """Divide a network among all processes, in place. Its parameters become DTensors with some rows in each process.

    With bfloat16 the matrices of the blocks travel in it: autocast would round them anyway (but not the norms).
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
    """Whether this process has only some rows of a tensor."""
    return hasattr(tensor, "device_mesh")


def local(tensor: Tensor) -> Tensor:
    """Return the rows of a parameter or gradient that this process has; all, if it is not sharded."""
    return tensor.to_local().detach() if is_sharded(tensor) else tensor


def sharded_like(part: Tensor, parameter: Tensor) -> Tensor:
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
    """Return which rows of a parameter this process has: all, if it is not sharded."""
    if not is_sharded(parameter):
        return slice(None)
    each = -(-len(parameter) // parameter.device_mesh.size())  # as torch.chunk, and so FSDP2, divides them
    start = parameter.device_mesh.get_local_rank() * each
    return slice(start, start + each)


def empty_network(config: ResolvedConfig, world: World) -> GPT:
    """Make the network of a run, or this process's part of it, without values."""
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
    """Copy weights into a network, or the rows that this process has.

    Raises: CheckpointError if they are not exactly those of the network: one left out would hold random memory.
    """
    parameters = dict(network.named_parameters())
    for name, value in weights:
        if name not in parameters:
            raise CheckpointError("extra_weights", name=name)
        parameter = parameters.pop(name)
        if value.shape != parameter.shape:  # copy_ would repeat a single row
            raise CheckpointError("other_shape", name=name, got=list(value.shape), expected=list(parameter.shape))
        local(parameter).copy_(value[row_span(parameter)])
    if parameters:
        raise CheckpointError("missing_weights", name=next(iter(parameters)))


def whole_network(network: GPT, world: World) -> GPT:
    """Put a sharded network together on the first process's CPU. All processes call it; the others get an empty one."""
    weights = {}
    for name, parameter in network.named_parameters():
        values = whole(parameter.detach())
        if world.is_rank0:
            weights[name] = values.cpu()
    with torch.device("meta"):
        copy = GPT(network.config)
    copy.load_state_dict(weights, assign=True, strict=world.is_rank0)
    return copy


def whole(tensor: Tensor) -> Tensor:
    """Return all rows of a tensor. All processes call it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def divided(work: Callable[[Tensor], Tensor], items: Tensor, world: World) -> Tensor:
    """Return `work(items)` for items [S, ..], of which each process works on some; the results are exchanged."""
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
    """Gather all rows of matrices [S, rows here, m]: [S, n_rows, m]."""
    each = -(-n_rows // world.size)
    padded = parts.new_zeros((1, len(parts), each, parts.size(-1)))
    padded[0, :, : parts.size(1)] = parts
    return world.gather_rows(padded).transpose(0, 1).reshape(len(parts), -1, parts.size(-1))[:, :n_rows]
