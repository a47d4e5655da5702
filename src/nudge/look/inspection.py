"""What is inside a checkpoint, from its header: parameters, the optimizer's state, the step, and one tensor at a time.

Names, shapes and types cost no reading of values, and values are read for the one tensor that is asked for, so that a
file may be larger than the memory.
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
from nudge.convert.formats import huggingface
from nudge.data import tokenizer as tokenizers
from nudge.data.tokenizer import Tokenizer
from nudge.errors import CheckpointError, ConfigError, FormatError, first_line, nearest
from nudge.infer import engine
from nudge.look.parameters import ROLES, Group, Node, Parameter, parameters_of, tree_of
from nudge.look.values import Histogram, histogram_of
from nudge.runs import checkpoint as checkpoints
from nudge.runs.checkpoint import Checkpoint

Checksum = Literal["verified", "not recorded", "not checked"]

_TYPES = {  # of real numbers, by their names in a safetensors file
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NOT_OURS = "expected a run folder, a checkpoint, or a model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a file keeps beside the weights, all tensors of one kind together."""

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
    """A checkpoint seen from outside. `load` reads one tensor by its name in the file."""

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
        """The share of each group that is there."""
        shares: dict[Group, float] = {}
        for parameter in self.parameters:
            shares[parameter.group] = shares.get(parameter.group, 0.0) + parameter.share
        return shares

    @property
    def optimizer(self) -> tuple[Stored, ...]:
        return tuple(stored for stored in self.stored if stored.name != "mask")

    @property
    def tree(self) -> Node:
        """The parameters as the learning material draws them."""
        return tree_of(self.parameters)

    def parameter(self, name: str) -> Parameter:
        """The one of that name, ours or the file's. Raises: CheckpointError if there is none."""
        for parameter in self.parameters:
            if name in (parameter.name, parameter.stored_as):
                return parameter
        names = [parameter.name for parameter in self.parameters]
        close = [known for known in names if name in known] or difflib.get_close_matches(name, names, n=3)
        raise CheckpointError(
            f"{self.path.name} has no parameter {name!r}",
            nearest(close[0], close[:3]) if close else f"'nudge inspect {self.path} --all' lists them",
        )

    def tensor(self, name: str) -> Tensor:
        """Its values; no other tensor is read. Raises: CheckpointError if there is none, or it cannot be read."""
        tensor = self.load(self.parameter(name).stored_as)
        _require_plain(tensor, name, self.path)
        return tensor

    def histogram(self, name: str, bins: int = 51) -> Histogram:
        """How the values of one parameter are distributed. Raises: CheckpointError as `tensor` does."""
        if bins < 1:
            raise ConfigError(f"a histogram has 1 bin or more, got {bins}", "51 shows most shapes well")
        return histogram_of(self.parameter(name).name, self.tensor(name), bins)


def weights(source: str | os.PathLike[str] | None = None, *, verify: bool = True) -> Weights:
    """What SOURCE holds: a run, a checkpoint, a model.safetensors or its folder, or (left out) the newest run.

    Without `verify` the SHA-256 of a checkpoint is not compared (`checksum` says so): that reads all of the file.

    Raises: CheckpointError if there is nothing to read, or it is damaged, foreign, or wants to run code.
    """
    path = None if source is None else Path(source)
    if path is not None and path.suffix == ".safetensors" and path.is_file():
        return _from_safetensors(path, [path])
    if path is not None and any((path / name).is_file() for name in huggingface.SAFETENSORS):
        try:
            return _from_safetensors(path, huggingface.weight_files(path))
        except FormatError as error:  # of the list of its files
            raise CheckpointError(error.message, error.hint) from error
    return _from_checkpoint(checkpoints.find(path, verify=verify), verify)


def _from_checkpoint(checkpoint: Checkpoint, verify: bool) -> Weights:
    path, model = checkpoint.path, checkpoint.model
    _require_tensors(model, path)
    if not isinstance(checkpoint.step, int):
        raise CheckpointError(f"{path.name} says step {checkpoint.step!r}, expected a whole number", _NOT_OURS)
    moments: dict[str, list[Tensor]] = {}
    if checkpoint.optimizer is not None:
        _require_mapping(checkpoint.optimizer, path)
        for of_parameter in checkpoint.optimizer.values():
            _require_tensors(of_parameter, path)
            for name, tensor in of_parameter.items():
                moments.setdefault(name, []).append(tensor)

    def tokenizer() -> Tokenizer:
        found = tokenizers.load(checkpoints.tokenizer_path(checkpoint))
        engine.check_tokenizer(checkpoint, found)
        return found

    return Weights(
        path=path,
        format="nudge",
        n_bytes=sum(part.stat().st_size for part in checkpoints.files_of(path)),
        parameters=parameters_of((name, name, tuple(t.shape), _name(t.dtype)) for name, t in model.items()),
        stored=tuple(_stored(name, [(tuple(t.shape), _name(t.dtype)) for t in ts]) for name, ts in moments.items()),
        step=checkpoint.step,
        tokens_seen=checkpoint.step * checkpoint.config.train.batch_tokens,
        config=checkpoint.config,
        checksum="verified" if checkpoint.verified else "not recorded" if verify else "not checked",
        notes=checkpoint.notes,
        load=model.__getitem__,
        tokenizer=tokenizer,
    )


def _from_safetensors(path: Path, paths: Sequence[Path]) -> Weights:
    """From the headers of one file, or of all shards of a folder."""
    headers: dict[str, tuple[tuple[int, ...], str]] = {}
    places: dict[str, Path] = {}
    for file_path in paths:
        for name, header in _read_header(file_path).items():
            if name in places:
                raise CheckpointError(f"{path} holds {name!r} twice", "fetch the folder again")
            headers[name], places[name] = header, file_path
    names = _our_names(headers)
    parameters = parameters_of((ours, theirs, *headers[theirs]) for theirs, ours in names.items())
    masks = [header for name, header in headers.items() if name not in names]

    def load(stored_as: str) -> Tensor:
        with _opened(places[stored_as]) as file:
            return file.get_tensor(stored_as)

    def tokenizer() -> Tokenizer:
        rows = next((p.shape[0] for p in parameters if p.name == "wte.weight" and p.shape), 0)
        return huggingface.read_tokenizer(path if path.is_dir() else path.parent, ModelConfig(vocab_size=rows))

    return Weights(
        path=path,
        format="safetensors",
        n_bytes=sum(file_path.stat().st_size for file_path in paths),
        parameters=parameters,
        stored=(_stored("mask", masks),) if masks else (),
        load=load,
        tokenizer=tokenizer,
    )


def _read_header(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of each tensor of a safetensors file by its name there; the library checks that all bytes are."""
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"{path.name} is not a safetensors file", "'nudge import' reads older formats of Hugging Face"
        )
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        return {name: (tuple(s.get_shape()), _named(s.get_dtype())) for name, s in slices.items()}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file behind safetensors' reader, which maps it. Raises: CheckpointError for whatever is wrong with it."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            yield file
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path.name} cannot be read: {first_line(error)}", "fetch or export it again") from error


def _named(theirs: str) -> str:
    """`BF16` -> `bfloat16`, as PyTorch calls it; a type that we cannot look into keeps its name."""
    return _name(_TYPES[theirs]) if theirs in _TYPES else theirs


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _require_mapping(value: Any, path: Path) -> None:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise CheckpointError(f"{path.name} does not hold tensors by name", _NOT_OURS)


def _require_tensors(value: Any, path: Path) -> None:
    _require_mapping(value, path)
    for name, tensor in value.items():
        _require_plain(tensor, name, path)


def _require_plain(tensor: Any, name: str, path: Path) -> None:
    """Real numbers that are all in the file: a few bytes can claim to be a tensor of any size."""
    if (
        not isinstance(tensor, Tensor)
        or tensor.layout != torch.strided
        or tensor.device.type != "cpu"
        or tensor.dtype not in _TYPES.values()
        or tensor.nbytes > tensor.untyped_storage().nbytes()
    ):
        raise CheckpointError(f"{path.name}: {name!r} is not a plain tensor of real numbers", _NOT_OURS)


def _our_names(stored: Mapping[str, Any]) -> dict[str, str]:
    """Our name of each parameter by the file's; masks have none. No two get the same."""
    names, taken = {}, set(stored)
    for theirs in stored:
        ours = huggingface.our_name(theirs)
        if ours is not None:
            ours = "head.weight" if ours == "lm_head.weight" else ours
            names[theirs] = theirs if ours in taken else ours
            taken.add(ours)
    return names


def _stored(name: str, tensors: Sequence[tuple[tuple[int, ...], str]]) -> Stored:
    """From shape and dtype of each."""
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
