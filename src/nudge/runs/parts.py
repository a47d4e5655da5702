"""A checkpoint of several files (distributed/sharded_checkpoint.py): the check of its files, and its whole tensors."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from nudge.errors import CheckpointError
from nudge.util import files

PARTS = "checkpoint.json"  # the index of the files, in their folder


def check_regular(path: Path) -> None:
    """Check that the folder has only regular files. Its files may come from a stranger: see data/shards.py.

    Raises: CheckpointError.
    """
    for file in sorted(path.iterdir()):
        if not files.is_regular(file):
            raise CheckpointError("not_regular", file=f"{path.name}/{file.name}")


def check_files(path: Path, listed: dict[str, Any], recorded: set[str], *, verify: bool) -> None:
    """Check that the folder has exactly the listed files and, with `verify`, that they are unchanged.

    Raises: CheckpointError.
    """
    found = {file.name for file in path.glob("*.safetensors")}
    if missing := sorted(listed.keys() - found):
        raise CheckpointError("missing_part", file=path.name, part=missing[0])
    if foreign := sorted(found - listed.keys()):
        raise CheckpointError("foreign_part", file=path.name, part=foreign[0])
    sums = {PARTS: recorded, **{name: {part["sha256"]} for name, part in listed.items()}} if verify else {}
    for name, known in sums.items():
        if known and files.sha256(path / name) not in known:
            raise CheckpointError("wrong_checksum", file=f"{path.name}/{name}")


def load_tensors(path: Path, *, tensors: bool) -> dict[str, Tensor]:
    """Check that the parts make whole tensors; with `tensors`, read these, each put together from its parts."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    reader = dcp.HuggingFaceStorageReader(str(path))
    found = cast(dict[str, TensorStorageMetadata], reader.read_metadata().state_dict_metadata)
    for name, part in found.items():
        if not _is_whole(part.size, [(chunk.offsets, chunk.sizes) for chunk in part.chunks]):
            raise CheckpointError("parts_overlap", file=path.name, name=name)
    if not tensors:
        return {}
    loaded = {name: torch.empty(part.size, dtype=part.properties.dtype) for name, part in found.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that no other process takes part
        try:
            dcp.load(loaded, storage_reader=reader, no_dist=True)
        except dcp.CheckpointException as error:  # derived from BaseException
            raise ValueError(str(error).strip().splitlines()[-1]) from error
    return loaded


def _is_whole(size: Sequence[int], parts: Iterable[tuple[Sequence[int], Sequence[int]]]) -> bool:
    """Return whether parts, given by their offsets and sizes, follow each other without a gap to a tensor of this size.

    Rows that no part has would be whatever was in memory before, and a single part far away would claim any size.
    """
    if not size:
        return True
    n_rows = 0
    for offsets, sizes in sorted(parts):
        if sizes[0] == 0:  # a process without rows
            continue
        if list(offsets) != [n_rows, *[0] * (len(size) - 1)] or list(sizes[1:]) != list(size[1:]):
            return False
        n_rows += sizes[0]
    return n_rows == size[0]
