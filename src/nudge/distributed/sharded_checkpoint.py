"""Checkpoints of a sharded network: every process writes and reads its own part.

torch.distributed.checkpoint writes the parts as safetensors files, which cannot contain code, and reads them with any
number of processes. The steps are the same as for one file (checkpoint.py): write under a temporary name, flush, add
the checksum to the index, rename, and only then make `ckpt.pt` point to it.
"""

import shutil
from pathlib import Path

import torch
from torch import Tensor

from nudge.distributed.parallel import shard_like
from nudge.distributed.world import World
from nudge.errors import CheckpointError, MachineError
from nudge.model.gpt import GPT
from nudge.runs import checkpoint
from nudge.runs.checkpoint import Checkpoint, OptimizerState, SavedFile
from nudge.runs.folder import RunFolder
from nudge.util import files


def save(folder: RunFolder, header: Checkpoint, tensors: dict[str, Tensor], world: World) -> SavedFile:
    """Write `checkpoints/step_N.parts/` and make `ckpt.pt` point to it. All processes call this.

    Raises: MachineError, in all processes, if one of them cannot write.
    """
    import torch.distributed.checkpoint as dcp

    path = checkpoint.parts_path(folder, header.step)
    writing = path.with_name(f".{path.name}.part")

    def write() -> dict[str, SavedFile]:
        try:
            with world.watch_processes():
                dcp.save(tensors, storage_writer=dcp.HuggingFaceStorageWriter(str(writing), save_distributed=True))
            ours = sorted(writing.glob(f"shard-{world.rank + 1:05d}-*"))
            for file in ours:
                files.fsync(file)
            return {
                file.name: SavedFile(path=file, n_bytes=file.stat().st_size, sha256=files.sha256(file)) for file in ours
            }
        except (OSError, dcp.CheckpointException) as error:
            raise MachineError("shared_save_failed", file=path.name, error=_cause(error)) from error

    def clean() -> None:
        with files.writing(folder.checkpoints):
            for left_over in folder.checkpoints.glob(".*.parts.*"):  # of interrupted saves
                shutil.rmtree(left_over)

    world.run_on_rank0(clean)
    written = world.gather(world.run_all(write))
    parts = {name: part for ours in written for name, part in ours.items()}
    return world.run_on_rank0(lambda: checkpoint.save_parts(folder, header, writing, parts))


def _cause(error: BaseException) -> str:
    """Return the last line of an error's message, or the error's class name if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def named_tensors(network: GPT, optimizer: OptimizerState) -> dict[str, Tensor]:
    """Return the weights and moments by name, as DTensors with this process's rows."""
    parameters = dict(network.named_parameters())
    tensors = {f"model.{name}": parameter.detach() for name, parameter in parameters.items()}
    for name, moments in optimizer.items():
        for key, value in moments.items():
            tensors[f"optimizer.{name}.{key}"] = shard_like(value, parameters[name])
    return tensors


def load(path: Path, tensors: dict[str, Tensor]) -> None:
    """Fill the tensors that `named_tensors` returned from a checkpoint, however many processes wrote it.

    Raises: CheckpointError if it cannot be read.
    """
    import torch.distributed.checkpoint as dcp

    with torch.no_grad():
        try:
            dcp.load(tensors, storage_reader=dcp.HuggingFaceStorageReader(str(path)))
        except dcp.CheckpointException as error:
            raise CheckpointError("parts_unreadable", file=path.name, error=_cause(error)) from error
