"""The check of every tensor that is read from a checkpoint, before anything is built from it.

A file of a few kilobytes can describe tensors of any size, and compiled code reads from their addresses. So each tensor
must have its numbers one after the other, all of them in the file, and the shape that the file's own config gives it.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from nudge.config import ModelConfig
from nudge.errors import CheckpointError
from nudge.model import sizes

_WEIGHTS: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16, torch.float16)
_MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")


def is_dense(value: Any) -> bool:
    """Return whether a value from a file is a tensor whose numbers are all in memory, one after the other."""
    return (
        isinstance(value, Tensor)
        and not value.is_nested
        and not value.is_quantized
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not (value.is_conj() or value.is_neg())
        and value.is_contiguous()
        and value.storage_offset() * value.itemsize + value.nbytes <= value.untyped_storage().nbytes()
    )


def unpacked_bytes(path: Path) -> int:
    """Return the size of what a zip file holds, 0 for another file. torch.save compresses nothing; a bomb does."""
    if not zipfile.is_zipfile(path):
        return 0
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def check_state(model: Any, optimizer: Any, config: ModelConfig, path: Path, *, n_bytes: int) -> None:
    """Check the weights and moments of a file of `n_bytes`. Raises: CheckpointError."""
    _check_weights(model, config, path)
    total = sum(tensor.nbytes for tensor in model.values())
    if total > n_bytes:  # several tensors in the same bytes
        raise CheckpointError("larger_than_file", file=path.name, total=total, n_bytes=n_bytes)
    if optimizer is not None:
        _check_moments(optimizer, model, path)


def _check_weights(model: Any, config: ModelConfig, path: Path) -> None:
    """Check that the weights are those of the network of this config, all of the same dtype."""
    if not _is_mapping(model):
        raise CheckpointError("not_tensors", file=path.name)
    dtypes, names = _WEIGHTS, set[str]()
    for name, shape in sizes.parameter_shapes(config):  # one by one: a config can claim a billion layers
        _check(model.get(name), name, shape, dtypes, path)
        dtypes = (model[name].dtype,)
        names.add(name)
    if unknown := sorted(model.keys() - names):
        _refuse_unknown(unknown[0], path)


def _check_moments(optimizer: Any, model: Mapping[str, Tensor], path: Path) -> None:
    """Check that the moments are those of our optimizers and have the shapes of their parameters."""
    if not _is_mapping(optimizer) or not all(map(_is_mapping, optimizer.values())):
        raise CheckpointError("not_tensors", file=path.name)
    for name, moments in optimizer.items():
        for key, moment in moments.items():
            if name not in model or key not in _MOMENTS:
                _refuse_unknown(f"{name}.{key}", path)
            _check(moment, f"{name}.{key}", () if key == "step" else tuple(model[name].shape), (torch.float32,), path)


def _refuse_unknown(name: str, path: Path) -> NoReturn:
    raise CheckpointError("bad_tensor", file=path.name, name=name, got="there", expected="no such tensor")


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def _check(value: Any, name: str, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...], path: Path) -> None:
    plain = type(value) is Tensor and not value.requires_grad
    if not (plain and is_dense(value) and tuple(value.shape) == shape and value.dtype in dtypes):
        expected = f"dense {' or '.join(map(_name, dtypes))} {list(shape)}"
        raise CheckpointError("bad_tensor", file=path.name, name=name, got=_described(value), expected=expected)


def _described(value: Any) -> str:
    if value is None:
        return "missing"
    if type(value) is not Tensor or value.is_nested:
        return f"of type {type(value).__name__}"
    return f"{'' if is_dense(value) else 'not '}dense {_name(value.dtype)} {list(value.shape)}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
