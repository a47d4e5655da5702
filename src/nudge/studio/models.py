"""The models that are open: read once, shared by all pages, the least recently used closed first."""

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
    """A model of a run at one step, and what was asked of it. Used in the worker's thread."""

    run: str
    model: LanguageModel
    nudges: int = 0  # updates that a person kept; they are in this memory only
    original: LanguageModel | None = None  # as it is on disk, when nudges are kept
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
        """Of the weights, twice if some updates are kept, and of the values of forward passes."""
        weights = sum(p.numel() * p.element_size() for p in self.network.parameters())
        return weights * (2 if self.nudges else 1) + sum(trace.held_bytes for trace in self.traces.values())

    def trace(self, tokens: tuple[int, ...]) -> Trace:
        """Every value of the forward pass over these tokens, computed when it is asked for."""
        found = self.traces.pop(tokens, None) or trace(self.network, tokens, cap_bytes=TRACE_BYTES // N_TRACES)
        self.traces[tokens] = found
        while len(self.traces) > N_TRACES:
            self.traces.popitem(last=False)
        return found

    def keep(self, nudge: Nudge, base: GPT) -> None:
        """Go on with the weights after an update of `base`, in memory: no file changes.

        Raises: RunError if another update was kept since then, which this one would undo.
        """
        if self.network is not base:
            raise RunError("another update was kept meanwhile, maybe in another tab", "nudge once more, then keep it")
        self.original = self.original or self.model
        self.model = dataclasses.replace(self.model, network=with_parameters(base, nudge.weights), weights=None)
        self.nudges += 1
        self.traces.clear()

    def discard(self) -> None:
        """Back to the weights on disk."""
        if self.original is not None:
            self.model, self.original, self.nudges = self.original, None, 0
            self.traces.clear()


class Models:
    """The models of a folder of runs. Only files inside of it are opened."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self._opened: OrderedDict[tuple[str, Path, int], Opened] = OrderedDict()

    def folder(self, run: str) -> RunFolder:
        """The run folder of that name. Raises: RunError for a name that is none of ours."""
        folder = RunFolder(self.runs / run)
        is_name = run not in ("", ".", "..") and len(Path(run).parts) == 1 and len(os.fsencode(run)) <= 255
        if not (is_name and "\0" not in run and folder.path.is_dir() and self._leads_nowhere_else(folder)):
            raise RunError(f"there is no run named {run!r} under {self.runs}", "choose one of the list at the top")
        return folder

    def folders(self) -> list[Path]:
        """The run folders, the one written to last first; none that leads elsewhere by a link."""
        found = folder.run_folders(self.runs)
        return [path for path in found if self._leads_nowhere_else(RunFolder(path))]

    def _leads_nowhere_else(self, folder: RunFolder) -> bool:
        """Whether neither the folder nor what is read of it leads elsewhere by a link."""
        read = (folder.path, folder.run_json, folder.events, folder.tokenizer, folder.index)
        return all(map(self.is_inside, read))

    def is_inside(self, path: Path) -> bool:
        """Whether a path lies under the runs folder, whatever links there are."""
        try:
            return path.resolve().is_relative_to(self.runs.resolve())
        except (OSError, RuntimeError):  # a link that leads to itself
            return False

    def steps(self, run: str) -> list[int]:
        """The updates whose checkpoints are there, the first one first."""
        return [int(path.stem.removeprefix("step_")) for path in reversed(checkpoint.paths(self.folder(run)))]

    def open(self, run: str, step: int | None = None) -> Opened:
        """The model of a run after `step` updates, or the newest that verifies. Raises: NudgeError's children."""
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
        """The run's folder, or its checkpoint after `step` updates: what it leads to lies under the runs folder.

        Raises: RunError for a run, CheckpointError for a step that is not there.
        """
        folder = self.folder(run)
        file = folder.ckpt if step is None else checkpoint.of_step(folder, step)
        if file is None or not file.exists():
            which = "yet" if step is None else f"of step {step}"
            raise CheckpointError(f"{run} has no checkpoint {which}, or no longer", "choose another step")
        source = folder.path if step is None else file
        # Of a folder the newest checkpoint is read that verifies, so none of them may lead elsewhere.
        read = (file, *(checkpoint.paths(folder) if step is None else ()))
        if not all(self.is_inside(path) and all(map(self.is_inside, checkpoint.files_of(path))) for path in read):
            raise CheckpointError(f"{source.name} lies outside of {self.runs}", "copy it there, then open it")
        return source
