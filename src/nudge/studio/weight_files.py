"""The files of weights that are looked at. Only what lies under the runs folder is opened, whatever links there are.

A file has a name: its place under the runs folder, such as `first/checkpoints/step_00000420.pt` or `gpt2`, a folder
with a model.safetensors. What is read of it is kept until the file changes: its values are mapped, and of a mapped file
that became shorter not a byte may be touched.
"""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar, cast

from nudge.convert.formats import huggingface
from nudge.data.tokenizer import Tokenizer
from nudge.errors import CheckpointError, FormatError, RunError
from nudge.look import Difference, Histogram, Weights, difference, weights
from nudge.runs import checkpoint
from nudge.studio.models import Models
from nudge.studio.worker import Worker

Answer = TypeVar("Answer")
N_KEPT = 64  # answers; the largest are the tokenizers and histograms


class WeightFiles:
    """What is in the files of weights of a folder of runs.

    Used in the worker's thread, but for the lists of names, and for `check`, which is for the thread of `checker`: it
    reads all of a file, which nobody who looks at weights should wait for.
    """

    def __init__(self, models: Models) -> None:
        self.models = models
        self.checker = Worker("weight files")
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._keeping = threading.Lock()

    # Which files there are.

    def of_run(self, run: str) -> list[str]:
        """A run's checkpoints, the oldest first. Raises: RunError for a name that is none of ours."""
        folder = self.models.folder(run)
        paths = checkpoint.paths(folder)[::-1] or [path for path in (folder.ckpt,) if path.exists()]
        return [self._name(path) for path in paths]

    def foreign(self) -> list[str]:
        """Files of safetensors: a folder with model.safetensors by its own name."""
        runs, names = self.models.runs, []
        for path in sorted([*runs.glob("[!.]*.safetensors"), *runs.glob("[!.]*/[!.]*.safetensors")]):
            whole = path.parent if _has_weights(path.parent) and path.parent != runs else path
            names.append(self._name(whole))
        return list(dict.fromkeys(names))

    def elsewhere(self, run: str | None) -> list[str]:
        """What else there is beside a run's own: the newest checkpoint of each other run, and foreign files."""
        names = []
        for path in self.models.folders():
            with contextlib.suppress(RunError):  # a link that leads away
                names += self.of_run(path.name)[-1:] if path.name != run else []
        return names + self.foreign()

    def of_step(self, run: str, step: int) -> str:
        """The name of a run's checkpoint after `step` updates. Raises: as `Models.checked`."""
        return self._name(self.models.checked(run, step))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.models.runs).as_posix()

    # What is in them.

    def open(self, name: str) -> Weights:
        """What a file holds. Its checksum is not compared: see `check`. Raises: CheckpointError."""
        return self._keep(("open",), (name,), lambda: weights(self.models.runs / name, verify=False))

    def newest(self, run: str) -> tuple[str, list[str]]:
        """The newest file of a run that can be opened, and what was wrong with newer ones. Raises: CheckpointError."""
        passed_over = []
        foreign = [name for name in self.foreign() if name.partition("/")[0] == run]
        for name in [*reversed(self.of_run(run)), *foreign]:
            try:
                self.open(name)
            except CheckpointError as error:
                passed_over.append(error.message)
            else:
                return name, passed_over
        raise CheckpointError(
            "; ".join(passed_over) or f"{run} has no checkpoint yet", "the first one comes when the run saves"
        )

    def check(self, name: str) -> Weights:
        """The same after its checksum was compared, which reads all of the file. Raises: CheckpointError."""
        return self._keep(("check",), (name,), lambda: weights(self.models.runs / name))

    def histogram(self, name: str, parameter: str) -> Histogram:
        """As `Weights.histogram`."""
        return self._keep(("histogram", parameter), (name,), lambda: self.open(name).histogram(parameter))

    def tokenizer(self, name: str) -> Tokenizer:
        """The vocabulary that belongs to a file. Raises: NudgeError's children if there is none beside it."""
        return self._keep(("tokenizer",), (name,), self.open(name).tokenizer)

    def difference(self, before: str, after: str) -> Difference:
        """How far the weights of one file are from those of another. Both are read as a whole, once."""
        return self._keep(("difference",), (before, after), lambda: difference(self.open(before), self.open(after)))

    def _keep(self, question: tuple[str, ...], names: tuple[str, ...], answer: Callable[[], Answer]) -> Answer:
        """The answer about these files, as long as none of them changes. Raises: CheckpointError if one is gone."""
        try:
            key = question, tuple(self._stamp(name) for name in names)
            with self._keeping:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return cast(Answer, self._kept[key])
            found = answer()  # not under the lock: the other thread goes on
        except OSError as error:  # a run deletes its oldest checkpoint at any moment
            raise CheckpointError(
                f"{' or '.join(names)} cannot be read: {error}", "choose another step or file"
            ) from error
        with self._keeping:
            self._kept[key] = found
            while len(self._kept) > N_KEPT:
                self._kept.popitem(last=False)
        return found

    def _stamp(self, name: str) -> Hashable:
        """What changes when a file does. Raises: CheckpointError if it is missing, or not under the runs folder."""
        path = self.models.runs / name
        if not self.models.is_inside(path):
            raise CheckpointError(f"{name} lies outside of {self.models.runs}", "copy it there, then open it")
        try:
            files = huggingface.weight_files(path) if _has_weights(path) else checkpoint.files_of(path)
        except FormatError as error:
            raise CheckpointError(error.message, error.hint) from error
        stamps = []
        for file in (file.resolve() for file in files):
            if not file.is_file():
                raise CheckpointError(f"{name} is not there yet, or no longer", "choose another step or file")
            if not self.models.is_inside(file):
                raise CheckpointError(f"{name} lies outside of {self.models.runs}", "copy it there, then open it")
            status = file.stat()
            stamps.append((file, status.st_ino, status.st_size, status.st_mtime_ns))
        return name, tuple(stamps)


def _has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in huggingface.SAFETENSORS)
