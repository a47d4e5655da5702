"""Checkpoints of a sharded network: every process writes and reads its own part.

The parts are safetensors files, which cannot contain code, as torch.distributed.checkpoint writes and reads them. The
steps are the same as for one file (checkpoint.py): write under a temporary name, flush, add the checksum to the index,
rename, and only then make `ckpt.pt` point to it.

Each process writes its file by itself, and reads with `no_dist`: together, they would exchange the plans of
torch.distributed.checkpoint as pickles.
"""

import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from nudge.distributed.parallel import is_sharded, local_rows, row_span, shard_like
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
    path = checkpoint.parts_path(folder, header.step)

    def make_folder() -> str:
        try:
            checkpoint.remove_left_overs(folder)
            writing = files.temporary_path(path)
            writing.mkdir()
        except OSError as error:
            raise MachineError("shared_save_failed", file=path.name, error=_cause(error)) from error
        return writing.name

    writing = path.with_name(world.run_on_rank0(make_folder))

    def write() -> SavedFile:
        part = writing / f"shard-{world.rank + 1:05d}.safetensors"
        try:
            _write_part(part, tensors, world)
            files.fsync(part)
            return SavedFile(file=part.name, n_bytes=part.stat().st_size, sha256=files.sha256(part))
        except (OSError, safetensors.SafetensorError) as error:
            raise MachineError("shared_save_failed", file=path.name, error=_cause(error)) from error

    parts = world.gather(world.run_all(write))
    return world.run_on_rank0(lambda: checkpoint.save_parts(folder, header, writing, parts))


def _write_part(path: Path, tensors: dict[str, Tensor], world: World) -> None:
    """Write this process's rows of each tensor. Process 0 also writes the tensors that are not sharded.

    Source: torch/distributed/checkpoint/_hf_utils.py, for the place of the rows in the file's metadata.
    """
    rows, offsets = {}, {}
    for name, tensor in tensors.items():
        mine = local_rows(tensor)
        if mine.numel() and (is_sharded(tensor) or world.is_rank0):
            offset = [0] * mine.dim()
            if is_sharded(tensor):
                offset[0] = row_span(tensor).start
            rows[name], offsets[name] = mine.cpu().contiguous(), {"saved_offsets": offset}
    metadata = {"format": "pt", "DCP_VERSION": "1.0", "DCP_SHARDING_INFO": json.dumps(offsets)}
    safetensors.torch.save_file(rows, path, metadata)


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
            dcp.load(tensors, storage_reader=dcp.HuggingFaceStorageReader(str(path)), no_dist=True)
        except dcp.CheckpointException as error:
            raise CheckpointError("parts_unreadable", file=path.name, error=_cause(error)) from error
