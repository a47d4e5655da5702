"""The open models, read once and shared by all pages. The least recently used model is closed first."""

import dataclasses
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from nudge.data.tokenizer import Tokenizer
from nudge.errors import CheckpointError, RunError
from nudge.infer import engine
from nudge.infer.engine import LanguageModel
from nudge.look import Nudge, Trace, trace
from nudge.look.parameter_swap import with_parameters
from nudge.model.gpt import GPT
from nudge.runs import checkpoint, folder
from nudge.runs.folder import RunFolder

MODELS_BYTES = 4_000_000_000  # weights of all open models
TRACE_BYTES = 256_000_000  # intermediate values of each
N_TRACES = 4


@dataclass(slots=True, kw_only=True)
class Opened:
    """A model of a run at one step, and its forward passes. Used in the worker's thread."""

    run: str
    model: LanguageModel
    nudges: int = 0  # updates that the user kept, in memory only
    original: LanguageModel | None = None  # the model on disk, if updates are kept
    traces: "OrderedDict[tuple[int, ...], Trace]" = dataclasses.field(default_factory=OrderedDict)

    @property
    def step(self) -> int:
        return self.model.step

    @property
    def network(self) -> GPT:
        return self.model.network

    @property
    def tokenizer(self) -> Tokenizer:
        return self.model.tokenizer

    @property
    def n_bytes(self) -> int:
        """Return the bytes of the weights (twice if updates are kept) and of the values of forward passes."""
        weights = sum(p.numel() * p.element_size() for p in self.network.parameters())
        return weights * (2 if self.nudges else 1) + sum(trace.held_bytes for trace in self.traces.values())

    def trace(self, tokens: tuple[int, ...]) -> Trace:
        """Return every value of the forward pass over these tokens, computed on demand."""
        found = self.traces.pop(tokens, None) or trace(self.network, tokens, cap_bytes=TRACE_BYTES // N_TRACES)
        self.traces[tokens] = found
        while len(self.traces) > N_TRACES:
            self.traces.popitem(last=False)
        return found

    def keep(self, nudge: Nudge, base: GPT) -> None:
        """Continue with the weights after an update of `base`, in memory: no file changes.

        Raises: RunError if another update was kept since then, which this one would undo.
        """
        if self.network is not base:
            raise RunError("nudged_meanwhile")
        self.original = self.original or self.model
        self.model = dataclasses.replace(self.model, network=with_parameters(base, nudge.weights), weights=None)
        self.nudges += 1
        self.traces.clear()

    def discard(self) -> None:
        """Go back to the weights on disk."""
        if self.original is not None:
            self.model, self.original, self.nudges = self.original, None, 0
            self.traces.clear()


class Models:
    """The models of a folder of runs. Only files inside of it are opened."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self._opened: OrderedDict[tuple[str, Path, int], Opened] = OrderedDict()

    def folder(self, run: str) -> RunFolder:
        """Return the run folder of that name. Raises: RunError if there is none."""
        folder = RunFolder(self.runs / run)
        is_name = run not in ("", ".", "..") and len(Path(run).parts) == 1 and len(os.fsencode(run)) <= 255
        if not (is_name and "\0" not in run and folder.path.is_dir() and self._stays_inside(folder)):
            raise RunError("unknown", run=run, folder=self.runs)
        return folder

    def folders(self) -> list[Path]:
        """Return the run folders without links to other folders, the most recently written first."""
        return [path for path in folder.run_folders(self.runs) if self._stays_inside(RunFolder(path))]

    def _stays_inside(self, folder: RunFolder) -> bool:
        """Return whether the folder and the files that are read from it lie in the runs folder, with links resolved."""
        return all(map(self.is_inside, (folder.path, folder.run_json, folder.events, folder.tokenizer, folder.index)))

    def is_inside(self, path: Path) -> bool:
        """Return whether a path lies under the runs folder, with links resolved."""
        try:
            return path.resolve().is_relative_to(self.runs.resolve())
        except (OSError, RuntimeError):  # a link that leads to itself
            return False

    def check_inside(self, name: str, *paths: Path) -> None:
        """Check that all paths of `name` lie in the runs folder. Raises: CheckpointError."""
        if not all(map(self.is_inside, paths)):
            raise CheckpointError("outside", name=name, folder=self.runs)

    def steps(self, run: str) -> list[int]:
        """Return the steps of the checkpoints, the first one first."""
        return [int(path.stem.removeprefix("step_")) for path in reversed(checkpoint.paths(self.folder(run)))]

    def open(self, run: str, step: int | None = None) -> Opened:
        """Return the model of a run after `step` updates, by default the newest that verifies.

        Raises: NudgeError's children.
        """
        source = self.checked(run, step)
        file = (RunFolder(source).ckpt if step is None else source).resolve()
        parts = (file, *checkpoint.files_of(file))  # one may be missing: then an older checkpoint is read
        key = (run, file, max((part.stat().st_mtime_ns for part in parts if part.exists()), default=0))
        if key not in self._opened or step not in (None, self._opened[key].step):  # an older one, read in its place
            self._opened[key] = Opened(run=run, model=engine.load(source))
        self._opened.move_to_end(key)
        for old, opened in list(self._opened.items())[:-1]:
            if not opened.nudges and sum(opened.n_bytes for opened in self._opened.values()) > MODELS_BYTES:
                del self._opened[old]
        return self._opened[key]

    def checked(self, run: str, step: int | None = None) -> Path:
        """Return the run's folder, or its checkpoint after `step` updates, checked to be in the runs folder.

        Raises: RunError for a run, CheckpointError for a step that is not there.
        """
        folder = self.folder(run)
        if step is None:
            if not folder.ckpt.exists():
                raise CheckpointError("none_yet", run=run)
            source, checkpoints = folder.path, [folder.ckpt, *checkpoint.paths(folder)]  # any of them may be read
        else:
            file = checkpoint.path_of_step(folder, step)
            if file is None or not file.exists():
                raise CheckpointError("no_step", run=run, step=step)
            source, checkpoints = file, [file]
        for path in checkpoints:
            self.check_inside(source.name, path)
            self.check_inside(source.name, *checkpoint.files_of(path))
        return source
