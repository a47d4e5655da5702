"""The contents of a checkpoint: parameters, the optimizer's state, the step, and one tensor at a time.

Names, shapes and types come from the header, and values are read for only one tensor, so that a file may be larger than
the memory.
"""

import contextlib
import difflib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from torch import Tensor

from nudge.config import Config, ModelConfig
from nudge.convert.formats import huggingface, our_name
from nudge.data import tokenizer as tokenizers
from nudge.data.tokenizer import Tokenizer
from nudge.errors import CheckpointError, FormatError, did_you_mean, first_line
from nudge.infer import engine
from nudge.look.arguments import check_at_least
from nudge.look.parameters import ROLES, Group, Node, Parameter, parameters_of, tree_of
from nudge.look.values import Histogram, histogram_of
from nudge.runs import checkpoint as checkpoints
from nudge.runs.checkpoint import Checkpoint
from nudge.runs.tensor_check import is_dense
from nudge.util import files

Checksum = Literal["verified", "not recorded", "not checked"]

_TYPES = {  # real numbers: PyTorch's names by safetensors' names
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """All tensors of one kind that a file holds besides the weights."""

    name: str
    dtype: str
    n_tensors: int
    n: int
    n_bytes: int

    @property
    def role(self) -> str:
        return ROLES.get(self.name, ROLES["other"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The contents of a checkpoint. `load` reads one tensor by its name in the file."""

    path: Path
    format: Literal["nudge", "safetensors"]
    n_bytes: int
    parameters: tuple[Parameter, ...]
    stored: tuple[Stored, ...] = ()  # the optimizer's moments, buffers
    step: int | None = None
    tokens_seen: int | None = None
    config: Config | None = None
    checksum: Checksum = "not recorded"
    notes: tuple[str, ...] = ()
    load: Callable[[str], Tensor] = field(repr=False, compare=False)
    tokenizer: Callable[[], Tokenizer] = field(repr=False, compare=False)

    @property
    def verified(self) -> bool:
        return self.checksum == "verified"

    @property
    def total(self) -> int:
        return sum(parameter.n for parameter in self.parameters)

    @property
    def groups(self) -> dict[Group, float]:
        """Return the share of each group that exists."""
        shares: dict[Group, float] = {}
        for parameter in self.parameters:
            shares[parameter.group] = shares.get(parameter.group, 0.0) + parameter.share
        return shares

    @property
    def optimizer(self) -> tuple[Stored, ...]:
        return tuple(stored for stored in self.stored if stored.name != "mask")

    @property
    def tree(self) -> Node:
        """Return the parameters as a tree, as in the learning material."""
        return tree_of(self.parameters)

    def parameter(self, name: str) -> Parameter:
        """Return a parameter by its name, ours or the file's. Raises: CheckpointError if there is none."""
        for parameter in self.parameters:
            if name in (parameter.name, parameter.stored_as):
                return parameter
        names = [parameter.name for parameter in self.parameters]
        close = [known for known in names if name in known] or difflib.get_close_matches(name, names, n=3)
        if close:
            raise CheckpointError(
                "misspelled_parameter", file=self.path.name, name=name, closest=did_you_mean(close[0], close[:3])
            )
        raise CheckpointError("unknown_parameter", file=self.path.name, name=name, path=self.path)

    def tensor(self, name: str) -> Tensor:
        """Read the values of a parameter and no others. Raises: CheckpointError if that is not possible."""
        tensor = self.load(self.parameter(name).stored_as)
        if not is_dense(tensor) or _dtype_name(tensor.dtype) not in _TYPES.values():
            raise CheckpointError("not_a_plain_tensor", file=self.path.name, tensor=name)
        return tensor

    def histogram(self, name: str, bins: int = 51) -> Histogram:
        """Return the distribution of a parameter's values. Raises: CheckpointError as `tensor` does."""
        check_at_least("bins", bins)
        return histogram_of(self.parameter(name).name, self.tensor(name), bins)


def weights(source: str | os.PathLike[str] | None = None, *, verify: bool = True) -> Weights:
    """Open `source`: a run, a checkpoint, a model.safetensors or its folder; by default the newest run.

    `verify` compares the SHA-256 of a checkpoint, which reads the whole file.

    Raises: CheckpointError if there is nothing to read, or it is damaged, of another format, or contains code.
    """
    path = None if source is None else Path(source)
    if path is not None and path.suffix == ".safetensors" and files.is_file(path):
        return _from_safetensors(path, [path])
    if path is not None and any(files.is_file(path / name) for name in huggingface.SAFETENSORS):
        try:
            return _from_safetensors(path, huggingface.weight_files(path))
        except FormatError as error:
            raise CheckpointError("damaged_index", error=error.message) from error
    return _from_checkpoint(checkpoints.find(path, verify=verify), verify)


def _from_checkpoint(checkpoint: Checkpoint, verify: bool) -> Weights:
    path, model = checkpoint.path, checkpoint.model
    moments: dict[str, list[Tensor]] = {}
    for of_parameter in (checkpoint.optimizer or {}).values():
        for name, tensor in of_parameter.items():
            moments.setdefault(name, []).append(tensor)

    def tokenizer() -> Tokenizer:
        found = tokenizers.load(checkpoints.tokenizer_path(checkpoint))
        engine.check_tokenizer(checkpoint, found)
        return found

    return Weights(
        path=path,
        format="nudge",
        n_bytes=checkpoints.bytes_of(path),
        parameters=parameters_of((name, name, tuple(t.shape), _dtype_name(t.dtype)) for name, t in model.items()),
        stored=tuple(
            _summarize(name, [(tuple(t.shape), _dtype_name(t.dtype)) for t in ts]) for name, ts in moments.items()
        ),
        step=checkpoint.step,
        tokens_seen=checkpoint.step * checkpoint.config.train.batch_tokens,
        config=checkpoint.config,
        checksum="verified" if checkpoint.verified else "not recorded" if verify else "not checked",
        notes=checkpoint.notes,
        load=model.__getitem__,
        tokenizer=tokenizer,
    )


def _from_safetensors(path: Path, paths: Sequence[Path]) -> Weights:
    """Read the headers of one file, or of all shards of a folder."""
    headers: dict[str, tuple[tuple[int, ...], str]] = {}
    places: dict[str, Path] = {}
    for file_path in paths:
        for name, header in _read_header(file_path).items():
            if name in places:
                raise CheckpointError("duplicate_tensor", path=path, tensor=name)
            headers[name], places[name] = header, file_path
    names = _our_names(headers)
    parameters = parameters_of((ours, stored_as, *headers[stored_as]) for stored_as, ours in names.items())
    masks = [header for name, header in headers.items() if name not in names]

    def load(stored_as: str) -> Tensor:
        with _open(places[stored_as]) as file:
            return file.get_tensor(stored_as)

    def tokenizer() -> Tokenizer:
        rows = next((p.shape[0] for p in parameters if p.name == "wte.weight" and p.shape), 0)
        return huggingface.read_tokenizer(path if path.is_dir() else path.parent, ModelConfig(vocab_size=rows))

    return Weights(
        path=path,
        format="safetensors",
        n_bytes=sum(file_path.stat().st_size for file_path in paths),
        parameters=parameters,
        stored=(_summarize("mask", masks),) if masks else (),
        load=load,
        tokenizer=tokenizer,
    )


def _read_header(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and type of each tensor of a safetensors file. The library checks that the file is complete."""
    if path.suffix != ".safetensors":
        raise CheckpointError("not_safetensors", file=path.name)
    with _open(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        return {name: (tuple(s.get_shape()), _TYPES.get(s.get_dtype(), s.get_dtype())) for name, s in slices.items()}


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Memory-map a file with safetensors. Raises: CheckpointError if it cannot be read."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            yield file
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError("safetensors_unreadable", file=path.name, error=first_line(error)) from error


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _our_names(stored: Mapping[str, Any]) -> dict[str, str]:
    """Return our names of the parameters by the file's names, each name once; masks are left out."""
    names, taken = {}, set(stored)
    for stored_as in stored:
        ours = our_name(stored_as)
        if ours is not None:
            ours = "head.weight" if ours == "lm_head.weight" else ours
            names[stored_as] = stored_as if ours in taken else ours
            taken.add(ours)
    return names


def _summarize(name: str, tensors: Sequence[tuple[tuple[int, ...], str]]) -> Stored:
    """Return a summary of tensors of one kind, given as (shape, dtype)."""
    n = [math.prod(shape) for shape, _ in tensors]
    sizes = [_item_bytes(dtype) for _, dtype in tensors]
    return Stored(
        name=name,
        dtype=", ".join(sorted({dtype for _, dtype in tensors})),
        n_tensors=len(tensors),
        n=sum(n),
        n_bytes=sum(count * size for count, size in zip(n, sizes, strict=True)),
    )


def _item_bytes(dtype: str) -> int:
    known = getattr(torch, dtype, None)
    return known.itemsize if isinstance(known, torch.dtype) else 1
