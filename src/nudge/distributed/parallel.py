"""One network in several processes.

Data parallel (DDP)      every process has all parameters, computes a part of the batch, and the gradients are summed
fully sharded (FSDP2)    every process also keeps only a part of each parameter (its rows), its gradient and moments;
                         a block is put together just before it computes, and let go of afterwards

Source: Li et al. 2020 (DDP), Rajbhandari et al. 2020 (ZeRO), Zhao et al. 2023 (FSDP).

torch's sharded tensors take a second to import, so only what needs them does.
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
    """The loss of a network as a module of its own: what DDP and torch.compile wrap."""

    def __init__(self, network: GPT) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        return self.network.loss(tokens, targets)


def recompute_blocks(network: GPT) -> None:
    """Keep only the input of each block for the backward pass, which then computes the block once more."""
    for block in network.blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def shard(network: GPT, dtype: str, world: World) -> None:
    """Divide a network, in place, among all processes. Its parameters become DTensors: rows here, the rest elsewhere.

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
    """What this process has of a parameter or a gradient; all of it, if it is not sharded."""
    return tensor.to_local().detach() if is_sharded(tensor) else tensor


def sharded_like(part: Tensor, parameter: Tensor) -> Tensor:
    """This process's part of a tensor that is divided as `parameter` is; `part` as it is if that is not sharded."""
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
    """Which rows of a parameter this process has: all, if it is not sharded."""
    if not is_sharded(parameter):
        return slice(None)
    each = -(-len(parameter) // parameter.device_mesh.size())  # as torch.chunk, and so FSDP2, divides them
    start = parameter.device_mesh.get_local_rank() * each
    return slice(start, start + each)


def empty_network(config: ResolvedConfig, world: World) -> GPT:
    """The network of a run without values, or this process's part of it."""
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
    """Copy whole weights into a network, or of each the rows that it has here.

    Raises: CheckpointError if they are not just those of the network: what is left out would be whatever lay in memory.
    """
    parameters = dict(network.named_parameters())
    for name, value in weights:
        if name not in parameters:
            raise CheckpointError(f"the checkpoint has weights for {name}, the network has not", "is it of this model?")
        parameter = parameters.pop(name)
        local(parameter).copy_(value[row_span(parameter)])
    if parameters:
        raise CheckpointError(f"the checkpoint has no weights for {next(iter(parameters))}", "is it of this model?")


def whole_network(network: GPT, world: World) -> GPT:
    """A sharded network put together on the CPU, in the first process; every process takes part in it, and the others
    get an empty one."""
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
    """All rows of a tensor; every process takes part in it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def divided(work: Callable[[Tensor], Tensor], items: Tensor, world: World) -> Tensor:
    """`work(items)` for items [S, ..], each of which is worked on by one process only; the results are exchanged."""
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
    """Of matrices [S, rows here, m], all rows: [S, n_rows, m]."""
    each = -(-n_rows // world.size)
    padded = parts.new_zeros((1, len(parts), each, parts.size(-1)))
    padded[0, :, : parts.size(1)] = parts
    return world.gather_rows(padded).transpose(0, 1).reshape(len(parts), -1, parts.size(-1))[:, :n_rows]
