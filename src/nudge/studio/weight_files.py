"""The files of weights under the runs folder. No link leads out of it.

A file's name is its path under the runs folder, such as `first/checkpoints/step_00000420.pt` or `gpt2`, a folder with a
model.safetensors. Results are cached until the file changes: its values are memory-mapped, and reading a mapped file
that became shorter would kill the process.
"""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar, cast

from nudge.convert.formats import huggingface
from nudge.data.tokenizer import Tokenizer
from nudge.errors import CheckpointError, NudgeError, RunError, first_line
from nudge.look import Difference, Histogram, Weights, difference, weights
from nudge.runs import checkpoint
from nudge.studio.models import Models
from nudge.studio.worker import Worker

Answer = TypeVar("Answer")
N_KEPT = 64  # answers; the largest are the tokenizers and histograms


class WeightFiles:
    """The files of weights in a folder of runs.

    Used in the worker's thread, except for the lists of names, and for `check`, which reads a whole file and has the
    thread of `checker` for itself.
    """

    def __init__(self, models: Models) -> None:
        self.models = models
        self.checker = Worker("weight files")
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._keeping = threading.Lock()

    def run_files(self, run: str) -> list[str]:
        """Return a run's checkpoints, the oldest first. Raises: RunError if there is no such run."""
        folder = self.models.folder(run)
        paths = checkpoint.paths(folder)[::-1] or [path for path in (folder.ckpt,) if path.exists()]
        return [self._name(path) for path in paths]

    def foreign(self) -> list[str]:
        """Return the safetensors files; a model.safetensors has the name of its folder."""
        runs, names = self.models.runs, []
        for path in sorted([*runs.glob("[!.]*.safetensors"), *runs.glob("[!.]*/[!.]*.safetensors")]):
            whole = path.parent if _has_weights(path.parent) and path.parent != runs else path
            names.append(self._name(whole))
        return list(dict.fromkeys(names))

    def elsewhere(self, run: str | None) -> list[str]:
        """Return the files that are not of the run: the newest checkpoint of each other run, and foreign files."""
        names = []
        for path in self.models.folders():
            with contextlib.suppress(RunError):  # a link to another folder
                names += self.run_files(path.name)[-1:] if path.name != run else []
        return names + self.foreign()

    def step_file(self, run: str, step: int) -> str:
        """Return the name of a run's checkpoint after `step` updates. Raises: as `Models.checked`."""
        return self._name(self.models.checked(run, step))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.models.runs).as_posix()

    def open(self, name: str) -> Weights:
        """Open a file without comparing its checksum (see `check`). Raises: NudgeError's children."""
        return self._keep(("open",), (name,), lambda: weights(self.models.runs / name, verify=False))

    def newest(self, run: str) -> tuple[str, list[str]]:
        """Return the newest readable file of a run, and the errors of newer files.

        Raises: NudgeError's children if none opens.
        """
        failed: list[NudgeError] = []
        foreign = [name for name in self.foreign() if name.partition("/")[0] == run]
        for name in [*reversed(self.run_files(run)), *foreign]:
            try:
                self.open(name)
            except NudgeError as error:
                failed.append(error)
            else:
                return name, [error.message for error in failed]
        raise failed[0] if failed else CheckpointError("none_yet", run=run)

    def check(self, name: str) -> Weights:
        """Open a file after comparing its checksum, which reads the whole file. Raises: NudgeError's children."""
        return self._keep(("check",), (name,), lambda: weights(self.models.runs / name))

    def histogram(self, name: str, parameter: str) -> Histogram:
        """Return `Weights.histogram` of a file."""
        return self._keep(("histogram", parameter), (name,), lambda: self.open(name).histogram(parameter))

    def tokenizer(self, name: str) -> Tokenizer:
        """Return the vocabulary in a file's folder. Raises: NudgeError's children if there is none."""
        return self._keep(("tokenizer",), (name,), self.open(name).tokenizer)

    def difference(self, before: str, after: str) -> Difference:
        """Compare the weights of two files. Both are read completely, once."""
        return self._keep(("difference",), (before, after), lambda: difference(self.open(before), self.open(after)))

    def _keep(self, question: tuple[str, ...], names: tuple[str, ...], answer: Callable[[], Answer]) -> Answer:
        """Return the answer about these files, cached until one changes. Raises: CheckpointError if one is gone."""
        try:
            key = question, tuple(self._stamp(name) for name in names)
            with self._keeping:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return cast(Answer, self._kept[key])
            found = answer()  # not under the lock: the other thread goes on
        except OSError as error:  # a run deletes its oldest checkpoint at any moment
            raise CheckpointError("vanished", path=" or ".join(names), error=first_line(error)) from error
        with self._keeping:
            self._kept[key] = found
            while len(self._kept) > N_KEPT:
                self._kept.popitem(last=False)
        return found

    def _stamp(self, name: str) -> Hashable:
        """Return a value that changes when a file does. Raises: NudgeError's children, also if a link leads outside."""
        path = self.models.runs / name
        self.models.check_inside(name, path)
        files = huggingface.weight_files(path) if _has_weights(path) else checkpoint.files_of(path)
        stamps = []
        for file in (file.resolve() for file in files):
            if not file.is_file():
                raise CheckpointError("gone", name=name)
            self.models.check_inside(name, file)
            status = file.stat()
            stamps.append((file, status.st_ino, status.st_size, status.st_mtime_ns))
        return name, tuple(stamps)


def _has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in huggingface.SAFETENSORS)
