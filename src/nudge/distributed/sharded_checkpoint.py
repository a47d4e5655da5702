"""Checkpoints of processes that keep a part of the weights each: every process writes and reads its own part.

torch.distributed.checkpoint writes the parts as safetensors, which hold nothing that could be executed, and reads them
for any number of processes. The commit is the same as for one file (checkpoint.py): write beside, flush, checksum,
rename, and only then point to it.
"""

import shutil
from pathlib import Path

import torch
from torch import Tensor

from nudge.distributed.parallel import sharded_like
from nudge.distributed.world import World
from nudge.errors import CheckpointError, MachineError
from nudge.model.gpt import GPT
from nudge.runs import checkpoint
from nudge.runs.checkpoint import Checkpoint, OptimizerState, SavedFile
from nudge.runs.folder import RunFolder
from nudge.util import files


def save(folder: RunFolder, header: Checkpoint, tensors: dict[str, Tensor], world: World) -> SavedFile:
    """Write `checkpoints/step_N.parts/` together and make `ckpt.pt` point to it.

    Raises: MachineError, in all processes, if one of them cannot write.
    """
    import torch.distributed.checkpoint as dcp

    path = checkpoint.parts_path(folder, header.step)
    writing = path.with_name(f".{path.name}.part")

    def write() -> dict[str, SavedFile]:
        try:
            with world.watched():
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
        for left_over in folder.checkpoints.glob(".*.parts.part"):  # of interrupted saves
            shutil.rmtree(left_over)

    world.run_on_rank0(clean)
    written = world.gather(world.run_all(write))
    parts = {name: part for ours in written for name, part in ours.items()}
    return world.run_on_rank0(lambda: checkpoint.save_parts(folder, header, writing, parts))


def _cause(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def named(network: GPT, optimizer: OptimizerState) -> dict[str, Tensor]:
    """Return the weights and moments of this process by name, as parts of the whole tensors."""
    parameters = dict(network.named_parameters())
    tensors = {f"model.{name}": parameter.detach() for name, parameter in parameters.items()}
    for name, moments in optimizer.items():
        for key, value in moments.items():
            tensors[f"optimizer.{name}.{key}"] = sharded_like(value, parameters[name])
    return tensors


def load(path: Path, tensors: dict[str, Tensor]) -> None:
    """Fill the tensors of `named` from a checkpoint, however many processes wrote it."""
    import torch.distributed.checkpoint as dcp

    with torch.no_grad():
        try:
            dcp.load(tensors, storage_reader=dcp.HuggingFaceStorageReader(str(path)))
        except dcp.CheckpointException as error:
            raise CheckpointError("parts_unreadable", file=path.name, error=_cause(error)) from error
