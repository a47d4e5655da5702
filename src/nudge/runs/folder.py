"""The files of a run folder, its lock, and the folder of all runs. Does not import torch, so that listing runs is fast.

```
runs/first/
  run.json          the config with every choice filled in, the machine, the data
  events.jsonl      the events of the run
  tokenizer.json    the vocabulary, self-contained
  ckpt.pt           points to the newest checkpoint
  checkpoints/      step_00000420.pt ..., index.jsonl with the SHA-256 of each
  control           one word for the running process: pause, save, stop
```
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import filelock

from nudge.errors import CheckpointError, MachineError, RunError
from nudge.util import files, json_reader, locks

T = TypeVar("T")

LOCK_TIMEOUT_S = 0.2  # far longer than `is_in_use` holds a lock, so that listing runs keeps no run from starting


class RunFolder:
    """The paths of a run folder, and its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_json = path / "run.json"
        self.events = path / "events.jsonl"
        self.tokenizer = path / "tokenizer.json"
        self.ckpt = path / "ckpt.pt"
        self.checkpoints = path / "checkpoints"
        self.index = self.checkpoints / "index.jsonl"
        self.control = path / "control"

    def read_json(self, kind: type[T]) -> T:
        """Return what `kind` has of run.json. Raises: RunError if it is missing or damaged."""
        return json_reader.read(self.run_json, kind)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder for this process, until it ends; `util.locks` tells the exception.

        Raises: RunError if another process holds the lock; MachineError if the folder cannot be written to.
        """
        try:
            lock = locks.make_lock(self.path / ".lock")
            lock.acquire(timeout=LOCK_TIMEOUT_S)
        except filelock.Timeout:
            if held_by := locks.holder(lock):
                process, host = held_by
                raise RunError("held", path=self.path, process=process, host=host, file=Path(lock.lock_file)) from None
            raise RunError("in_use", path=self.path) from None
        except OSError as error:
            raise MachineError("no_permission", folder=self.path, error=error.strerror) from error
        try:
            yield
        finally:
            lock.release()

    def is_in_use(self) -> bool:
        """Return whether a process trains in this folder, and so holds the lock."""
        try:
            with locks.make_lock(self.path / ".lock").acquire(timeout=0):
                return False
        except filelock.Timeout:
            return True
        except OSError:  # no permission to write, so no process trains here
            return False


def find_source(source: str | os.PathLike[str] | None = None, runs: Path = Path("runs")) -> Path:
    """Return the path that SOURCE names: a folder or a file, or None for the newest run under `runs/`.

    Raises: CheckpointError if there is nothing.
    """
    if source is None:
        return newest_run(runs)
    if not files.exists(Path(source)):
        raise CheckpointError("not_found", path=Path(source))
    return Path(source)


def newest_run(runs: Path = Path("runs")) -> Path:
    """Return the most recently written run folder. Raises: CheckpointError if there is none."""
    folders = run_folders(runs)
    if not folders:
        raise CheckpointError("no_run", folder=f"{runs}{os.sep}")
    return folders[0]


def run_folders(runs: Path = Path("runs")) -> list[Path]:
    """Return all run folders under `runs/`, the most recently written first. Of a run and links to it, only the run."""
    if not files.is_dir(runs):
        return []
    found = [path.parent for path in runs.glob("[!.]*/ckpt.pt")]  # a hidden folder is still being imported
    found.sort(key=Path.is_symlink)
    once = {path.resolve(): path for path in reversed(found)}
    return sorted(once.values(), key=_last_write_time, reverse=True)


def _last_write_time(path: Path) -> float:
    """Return when a run folder was last written, in seconds since 1970."""
    folder, found = RunFolder(path), [0.0]
    for file in (folder.events, folder.index, folder.run_json):
        with contextlib.suppress(OSError):  # missing, or removed meanwhile
            found.append(file.stat().st_mtime)
    return max(found)
