"""The checkpoint files of a run folder (runs/folder.py), their checksums, and the newest one that verifies.

A checkpoint contains the model weights, the optimizer state, the step, and everything else that exact resuming needs.
A save that is interrupted at any moment leaves the previous checkpoint intact: the bytes are written to a temporary
file, their checksum is added to the index, and only then is the file fsynced and renamed. We keep checksums because
`torch.load` detects almost no flipped bit (in a trial, 497 of 500 loaded without an error).

If each process keeps only a part of the weights (distributed/sharded_checkpoint.py), a checkpoint is a folder instead
of a file: a safetensors file from each process, and checkpoint.json with the checksums and everything else. `read`
reads both kinds.
"""

import contextlib
import dataclasses
import os
import pickle
import shutil
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypedDict, cast

import torch
from torch import Tensor

from nudge import config as configs
from nudge.config import Config, SaveConfig
from nudge.errors import CheckpointError, MachineError, first_line
from nudge.runs.folder import RunFolder, find_source
from nudge.runs.parts import PARTS, check_files, check_regular, load_tensors
from nudge.runs.tensor_check import check_state, unpacked_bytes
from nudge.util import files, json_reader

FORMAT = "nudge checkpoint"
VERSION = 1

OptimizerState = dict[str, dict[str, Tensor]]  # {"wte.weight": {"exp_avg": ...}}: the moments by parameter name


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state after `step` updates. `optimizer` maps each parameter's name to its moments; None: it has none.

    `path`, `verified` (its checksum matches the index) and `notes` (damaged files that were skipped) describe the file
    it was read from.
    """

    step: int
    config: Config
    model: dict[str, Tensor]
    optimizer: OptimizerState | None = None
    skipped_in_a_row: int = 0
    train_s: float = 0.0
    rng: Tensor | None = None
    data_fingerprint: str = ""
    tokenizer_sha256: str = ""
    path: Path = Path()
    verified: bool = False
    notes: tuple[str, ...] = field(default=())


class SavedFile(TypedDict):
    """A file or folder in `checkpoints/` that was written: plain values, which processes can exchange."""

    file: str
    n_bytes: int
    sha256: str


def save(folder: RunFolder, checkpoint: Checkpoint) -> SavedFile:
    """Write `checkpoints/step_N.pt` and make `ckpt.pt` point to it.

    Raises: MachineError if it cannot be written, for example on a full disk or in a read-only folder.
    """
    path = folder.checkpoints / f"step_{checkpoint.step:08d}.pt"
    tensors = {"model": checkpoint.model, "optimizer": checkpoint.optimizer, "rng": checkpoint.rng}
    content = {**_header(checkpoint), **tensors}
    with _convert_errors(folder, path, checkpoint.step):
        remove_left_overs(folder)
        with files.atomic_writer(path) as file:
            torch.save(content, cast(IO[bytes], file))  # torch calls only `write`
            saved = SavedFile(file=path.name, n_bytes=file.n_bytes, sha256=file.sha256.hexdigest())
            _append_to_index(folder, saved, checkpoint.step)
        files.point_to(folder.ckpt, path)
    return saved


def remove_left_overs(folder: RunFolder) -> None:
    """Remove what interrupted saves left. Only the process that holds the run's lock may call this. Raises: OSError."""
    for path in folder.checkpoints.glob(".step_*"):
        files.remove(path)


def parts_path(folder: RunFolder, step: int) -> Path:
    """Return the folder of a checkpoint to which each process writes a file."""
    return folder.checkpoints / f"step_{step:08d}.parts"


def save_parts(folder: RunFolder, checkpoint: Checkpoint, written: Path, parts: Sequence[SavedFile]) -> SavedFile:
    """Turn the folder `written`, which contains the flushed files `parts`, into the checkpoint of this step.

    Raises: MachineError as `save` does.
    """
    path = parts_path(folder, checkpoint.step)
    with _convert_errors(folder, path, checkpoint.step):
        if lost := [part["file"] for part in parts if not (written / part["file"]).exists()]:
            raise OSError(f"{lost[0]} is missing: all processes must write to a disk that they share")
        sums = {part["file"]: {"sha256": part["sha256"], "n_bytes": part["n_bytes"]} for part in parts}
        files.write_json(written / PARTS, {**_header(checkpoint), "files": sums})
        n_bytes = sum(part["n_bytes"] for part in parts) + (written / PARTS).stat().st_size
        saved = SavedFile(file=path.name, n_bytes=n_bytes, sha256=files.sha256(written / PARTS))
        _append_to_index(folder, saved, checkpoint.step)
        before = files.temporary_path(path)  # for an earlier checkpoint of the same step
        if path.exists():
            path.rename(before)
        written.rename(path)
        files.fsync(path.parent)
        files.point_to(folder.ckpt, path)
        shutil.rmtree(before, ignore_errors=True)
    return saved


def _header(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the values of a checkpoint that are not tensors, for JSON."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "step": checkpoint.step,
        "skipped_in_a_row": checkpoint.skipped_in_a_row,
        "train_s": checkpoint.train_s,
        "config": configs.to_dict(checkpoint.config),
        "data_fingerprint": checkpoint.data_fingerprint,
        "tokenizer_sha256": checkpoint.tokenizer_sha256,
    }


@contextlib.contextmanager
def _convert_errors(folder: RunFolder, path: Path, step: int) -> Iterator[None]:
    """Convert errors of a save to MachineErrors."""
    try:
        yield
    except (OSError, MachineError, RuntimeError) as error:  # torch's zip writer wraps a failed write in a RuntimeError
        if step == 0:  # an import, or a run before its first update, has no earlier checkpoint
            raise MachineError("first_save_failed", file=path.name, error=_cause(error)) from error
        raise MachineError("save_failed", file=path.name, error=_cause(error), run=folder.path) from error


def _append_to_index(folder: RunFolder, saved: SavedFile, step: int) -> None:
    """Append the checksum of a saved file to index.jsonl."""
    line = {**saved, "step": step, "time": time.time()}
    with files.open_json_lines(folder.index) as index:
        files.append_json(index, line, sync=True)


def _cause(error: BaseException) -> str:
    """Return the operating system's message behind an error, or else the error's own first line."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen.strerror or str(seen)
        seen = seen.__cause__ or seen.__context__
    return first_line(error)


def prune(folder: RunFolder, keep: SaveConfig) -> None:
    """Delete all checkpoints except the newest `keep_last` and one for every `keep_every` updates."""
    for path in paths(folder)[keep.keep_last :]:
        if keep.keep_every is None or _step_of(path) % keep.keep_every:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):  # if this fails, the next save will report the error
                    path.unlink()


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))


def paths(folder: RunFolder) -> list[Path]:
    """Return the paths of a run's checkpoints, files and folders, newest first."""
    found = [path for kind in ("pt", "parts") for path in folder.checkpoints.glob("step_" + "[0-9]" * 8 + f".{kind}")]
    return sorted(found, key=lambda path: (_step_of(path), _modified_at(path)), reverse=True)


def _modified_at(path: Path) -> float:
    """Return when a file was last written; 0 if it is gone or a broken link."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def path_of_step(folder: RunFolder, step: int) -> Path | None:
    """Return the path of the checkpoint after `step` updates, a file or a folder, or None."""
    return next((path for path in paths(folder) if _step_of(path) == step), None)


def files_of(path: Path) -> list[Path]:
    """Return a checkpoint's files: the file itself, or all files of its folder and PARTS, even if it is missing.

    Raises: CheckpointError if the folder cannot be listed, for example because its run deletes it meanwhile.
    """
    try:
        return sorted({path / PARTS, *filter(Path.is_file, path.iterdir())}) if path.is_dir() else [path]
    except OSError as error:
        raise CheckpointError("unreadable", file=path.name, error=_cause(error)) from error


def bytes_of(path: Path) -> int:
    """Return the size of a checkpoint, all of its files together. Raises: CheckpointError as `files_of`."""
    try:
        return sum(part.stat().st_size for part in files_of(path))
    except OSError as error:
        raise CheckpointError("unreadable", file=path.name, error=_cause(error)) from error


def read_newest(folder: RunFolder, *, verify: bool = True, tensors: bool = True) -> Checkpoint:
    """Read the newest checkpoint of a run that verifies; its `notes` name the damaged ones that were skipped.

    `verify=False`: read the newest that can be opened. `tensors`: as in `read`.

    Raises: CheckpointError if there is none.
    """
    notes: list[str] = []
    for path in paths(folder):
        try:
            return _add_notes(read(path, verify=verify, tensors=tensors), notes)
        except CheckpointError as error:
            notes.append(f"{path.name} skipped: {error.message}")
    if folder.ckpt.exists() and not folder.ckpt.is_symlink():
        return _add_notes(read(folder.ckpt, verify=verify, tensors=tensors), notes)
    if notes:
        raise CheckpointError("none_verifies", folder=folder.path, notes="; ".join(notes))
    raise CheckpointError("none", folder=folder.path)


def _add_notes(checkpoint: Checkpoint, notes: list[str]) -> Checkpoint:
    return dataclasses.replace(checkpoint, notes=tuple(notes))


def read(path: Path, *, verify: bool = True, tensors: bool = True) -> Checkpoint:
    """Read one checkpoint. No code in it is executed.

    Its checksum is looked up in index.jsonl, beside the file or in `checkpoints/` beside it. A file without a checksum,
    such as a separate copy, is read but not `verified`. `verify=False` skips the checksum, and so avoids reading the
    whole file: use it only to show names and shapes. `tensors=False` skips the tensors of a multi-file checkpoint, for
    processes that each read a part of them later. (The tensors of a single file are only mapped to memory anyway.)

    Raises: CheckpointError if it is missing, damaged, not a nudge checkpoint, contains code, or holds anything but the
    tensors of the network that its config describes.
    """
    path = path.resolve()
    recorded = _recorded_sha256(path) if verify else set()
    if path.is_dir():
        return _read_parts(path, recorded, verify=verify, tensors=tensors)
    is_zip = path.is_file() and zipfile.is_zipfile(path)  # an old-style pickle could run code, and a pipe never ends
    if path.exists() and not is_zip and not (recorded and path.is_file()):
        raise CheckpointError("not_a_checkpoint", file=path.name)
    try:
        damaged = bool(recorded) and files.sha256(path) not in recorded
        n_bytes, unpacked = path.stat().st_size, 0 if damaged else unpacked_bytes(path)
        if unpacked > n_bytes:
            raise CheckpointError("larger_than_file", file=path.name, total=unpacked, n_bytes=n_bytes)
        # Map the file: a caller that needs only the weights never reads the optimizer state, two thirds of the file.
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise CheckpointError("not_found", path=path) from None
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError("could_run_code", file=path.name) from error
    except Exception as error:  # damaged bytes make the zip reader and the unpickler raise any error
        raise CheckpointError("unreadable", file=path.name, error=_cause(error)) from error
    if damaged:
        raise CheckpointError("wrong_checksum", file=path.name)
    return _build_checkpoint(content, path, verified=bool(recorded))


def _read_parts(path: Path, recorded: set[str], *, verify: bool, tensors: bool) -> Checkpoint:
    """Read a checkpoint of several files. Raises: CheckpointError."""
    try:
        check_regular(path)
        header = json_reader.read(path / PARTS, dict[str, Any])
        check_files(path, header["files"], recorded, verify=verify)
        values = load_tensors(path, tensors=tensors)
    except CheckpointError:
        raise
    except Exception as error:  # as in `read`, damaged bytes may raise any error
        raise CheckpointError("unreadable", file=path.name, error=_cause(error)) from error
    content = {**header, "rng": None, "model": {}, "optimizer": {} if tensors else None}
    for name, tensor in values.items():
        section, _, rest = name.partition(".")
        if section == "model":
            content["model"][rest] = tensor
        else:
            parameter, _, key = rest.rpartition(".")
            content["optimizer"].setdefault(parameter, {})[key] = tensor
    return _build_checkpoint(content, path, verified=bool(recorded), tensors=tensors)


@dataclass(frozen=True, slots=True, kw_only=True)
class _IndexLine:
    """What is read of a line of index.jsonl."""

    file: str
    sha256: str


def _recorded_sha256(path: Path) -> set[str]:
    """Return the checksums of a file in the index: several if its step was saved several times."""
    for index in (path.parent / "index.jsonl", path.parent / "checkpoints" / "index.jsonl"):
        lines = list(json_reader.read_lines(index, _IndexLine))
        if lines and path.name == "ckpt.pt":  # a copy instead of a link: it may be any of the run's checkpoints
            return {line.sha256 for line in lines}
        if lines:
            return {line.sha256 for line in lines if line.file == path.name}
    return set()


def _build_checkpoint(content: Any, path: Path, *, verified: bool, tensors: bool = True) -> Checkpoint:
    """Check everything that was read, before anything is built from it. Raises: CheckpointError."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError("not_a_checkpoint", file=path.name)
    version = content.get("version")
    if type(version) is not int:
        raise CheckpointError("not_a_checkpoint", file=path.name)
    if version != VERSION:
        raise CheckpointError("other_version", file=path.name, version=version, known=VERSION)
    if missing := sorted(_CONTENT - content.keys()):
        raise CheckpointError("incomplete", file=path.name, error=f"{missing[0]} is missing")
    config = _config(content["config"], path)
    for name, kinds in _VALUES.items():
        value = content[name]
        if type(value) not in kinds or (type(value) is not str and not 0 <= value < 2**63):
            raise CheckpointError("bad_value", file=path.name, name=name, got=type(value).__name__)
    if content["rng"] is not None:
        _check_rng(content["rng"], path)
    if tensors:
        check_state(content["model"], content["optimizer"], config.model, path, n_bytes=bytes_of(path))
    values = {name: content[name] for name in (*_VALUES, "model", "optimizer", "rng")}
    return Checkpoint(**values, config=config, path=path, verified=verified)


_VALUES = {  # what a checkpoint has besides its config and its tensors; numbers are 0 or more
    "step": (int,),
    "skipped_in_a_row": (int,),
    "train_s": (float, int),
    "data_fingerprint": (str,),
    "tokenizer_sha256": (str,),
}
_CONTENT = {*_VALUES, "config", "model", "optimizer", "rng"}


def _config(values: Any, path: Path) -> Config:
    try:
        config = configs.from_dict(values)
        configs.check_saved(config)
    except Exception as error:  # a file can have any value in the place of a number
        raise CheckpointError("bad_config", file=path.name, error=first_line(error)) from error
    return config


def _check_rng(rng: Any, path: Path) -> None:
    try:
        torch.Generator().set_state(rng)
    except Exception as error:  # as in `_config`
        raise CheckpointError("incomplete", file=path.name, error="its random state is none") from error


def find(source: str | os.PathLike[str] | None = None, *, runs: Path = Path("runs"), verify: bool = True) -> Checkpoint:
    """Read the checkpoint that SOURCE names: a run folder, a file, or None for the newest run under `runs/`.

    `verify`: as in `read`.

    Raises: CheckpointError if there is nothing to read.
    """
    path = find_source(source, runs)
    if files.is_dir(path) and not (path / PARTS).exists():
        return read_newest(RunFolder(path), verify=verify)
    return read(path, verify=verify)


def tokenizer_path(checkpoint: Checkpoint) -> Path:
    """Return the tokenizer.json that belongs to a checkpoint. Raises: CheckpointError if there is none."""
    folder = folder_of(checkpoint)
    if folder is None:
        raise CheckpointError("no_tokenizer", path=checkpoint.path)
    return folder.tokenizer


def folder_of(checkpoint: Checkpoint) -> RunFolder | None:
    """Return the run folder that a checkpoint was read from; None if its file is in no run folder."""
    candidates = (RunFolder(checkpoint.path.parent), RunFolder(checkpoint.path.parent.parent))
    return next((folder for folder in candidates if folder.tokenizer.is_file()), None)
