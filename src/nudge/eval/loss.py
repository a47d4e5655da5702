"""A model's loss on text that it was not trained on."""

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nudge.data.batches import Window, check_windows, val_windows
from nudge.data.chunking import chunks
from nudge.data.corpus import documents, expand_user, find
from nudge.data.foreign import token_files
from nudge.data.foreign.token_files import TokenFile
from nudge.data.shards import Dataset, Tokens, Tokens16or32, is_prepared, map_place, open_dataset
from nudge.data.tokenizer import Tokenizer
from nudge.distributed.world import ALONE, World
from nudge.errors import DataError
from nudge.infer.engine import LanguageModel
from nudge.model.gpt import GPT
from nudge.runs.folder import RunFolder
from nudge.runs.run_json import RunJson

TOKENS_AT_ONCE = 2048
LARGEST_EXPONENT = 709.0  # exp of a larger number overflows float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The mean loss in nats per token, and in bits per byte, which do not depend on the tokenizer."""

    loss: float
    bits_per_byte: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """Return the number of equally likely tokens that would give this loss."""
        return exp(self.loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The windows of a text, and how much there is to read: text in bytes, if its files say so, else tokens."""

    windows: Iterator[Window]
    total: int | None  # None: unknown without reading it
    n_bytes: np.ndarray | None = None  # [V], of each token, if `total` is in bytes

    def size_of(self, window: Window) -> int:
        """Return how much of `total` a window is."""
        targets = window[1]
        return len(targets) if self.n_bytes is None else int(self.n_bytes[targets].sum())


def exp(x: float) -> float:
    """Return e^x, or infinity if that overflows a float."""
    return math.inf if x > LARGEST_EXPONENT else math.exp(x)


@torch.inference_mode()
def evaluate(
    model: LanguageModel,
    paths: Sequence[str | os.PathLike[str]] | None = None,
    *,
    field: str = "text",
    n_tokens: int | None = None,
    watched: Callable[[Reading], Iterable[Window]] = lambda reading: reading.windows,
) -> Score:
    """Measure a model's loss on all text of `paths` (files, folders, globs), or on its run's validation split.

    For a prepared folder, or token files of nanoGPT or llm.c, measure the loss on their validation tokens. `n_tokens`:
    only the first so many. `watched` yields the windows of a reading, to show progress.
    Raises: DataError for text that is missing, empty or binary, tokens of another vocabulary, or a run whose prepared
    text is gone.
    """
    reading = _reading([str(path) for path in paths], model, field) if paths else _validation(model, run_dataset(model))
    if n_tokens is not None:
        reading = Reading(windows=_first(reading.windows, n_tokens), total=n_tokens)
    device = model.network.wte.weight.device
    result = score(model.network.loss, watched(reading), n_bytes=model.tokenizer.n_bytes, device=device)
    if not result.tokens:
        raise DataError("nothing_to_predict")
    return result


def _first(windows: Iterable[Window], n_tokens: int) -> Iterator[Window]:
    """Yield windows up to the `n_tokens`-th target; the last one may be shorter."""
    for x, y in windows:
        counted = np.cumsum(y >= 0)
        end = int(np.searchsorted(counted, n_tokens)) + 1
        yield x[:end], y[:end]
        n_tokens -= int(counted[-1])
        if n_tokens <= 0:
            return


def _validation(model: LanguageModel, dataset: Dataset) -> Reading:
    """Return the windows of the whole validation split."""
    block_size, total = model.network.config.block_size, len(dataset.val) - 1
    if dataset.manifest.records:
        check_windows(dataset.val, block_size)
        total = len(dataset.val) // (block_size + 1) * block_size
    windows = val_windows(dataset.val, block_size, vocab_size=model.tokenizer.vocab_size)
    return Reading(windows=windows, total=total)


def run_dataset(model: LanguageModel) -> Dataset:
    """Open the prepared text of a model's run. Raises: DataError if it is gone."""
    folder = RunFolder(model.path.parent.parent if model.path else Path())
    if not folder.run_json.exists():
        raise DataError("no_validation_text")
    return open_dataset(Path(folder.read_json(RunJson).data.dir))


def _reading(paths: list[str], model: LanguageModel, field: str) -> Reading:
    """Return the windows of a prepared dataset, of token files, or of text, whichever `paths` holds."""
    if folder := next(filter(is_prepared, map(expand_user, paths)), None):
        if len(paths) > 1:
            raise DataError("prepared_among_others", folder=folder)
        dataset = open_dataset(folder)
        _check_tokenizer(model.tokenizer, dataset.tokenizer, folder)
        return _validation(model, dataset)
    if found := token_files.find(paths):
        validation = token_files.validation_files(found)
        if tokenizer := token_files.vocabulary_beside(validation):
            _check_tokenizer(model.tokenizer, tokenizer, validation[0].path)
        n_targets = sum(file.n_tokens - 1 for file in validation)
        return Reading(windows=token_windows(model, validation), total=n_targets)
    files = find(paths)
    is_plain = all(file.suffix not in (".jsonl", ".parquet") and not file.compression for file in files)
    total = sum(file.n_bytes for file in files) if is_plain else None
    windows = text_windows(model, paths, field=field)
    return Reading(windows=windows, total=total, n_bytes=model.tokenizer.n_bytes if is_plain else None)


def _check_tokenizer(expected: Tokenizer, tokenizer: Tokenizer, path: Path) -> None:
    """Check that the tokens at `path` are the model's. Raises: DataError."""
    if tokenizer.sha256 != expected.sha256:
        raise DataError(
            "not_the_models_tokenizer",
            path=path,
            got=tokenizer.name,
            got_size=tokenizer.vocab_size,
            got_sha256=tokenizer.sha256[:12],
            expected=expected.name,
            expected_size=expected.vocab_size,
            expected_sha256=expected.sha256[:12],
        )


def token_windows(model: LanguageModel, files: Iterable[TokenFile]) -> Iterator[Window]:
    """Yield the tokens of other programs' files in windows of block_size.

    Raises: DataError for an id that the model's vocabulary does not have.
    """
    block_size, n_known = model.network.config.block_size, model.tokenizer.vocab_size
    for file in files:
        tokens = map_place(file.place, file.n_tokens)
        for x, y in _cut_windows(tokens, block_size):
            if (highest := max(x.max(), y.max())) >= n_known:
                raise DataError("token_too_high", path=file.path, token=int(highest), last=n_known - 1)
            yield x, y


def text_windows(
    model: LanguageModel, paths: Sequence[str | os.PathLike[str]], *, field: str = "text"
) -> Iterator[Window]:
    """Split each document, opening token first, into windows of block_size; no window spans two documents.

    Raises: DataError if the vocabulary has no opening token.
    """
    block_size, tokenizer = model.network.config.block_size, model.tokenizer
    if not tokenizer.opening:
        raise DataError("no_start_token")
    for document in documents([str(path) for path in paths], field=field):
        opening = np.array(tokenizer.opening, dtype=np.uint32)
        ids = np.concatenate([opening, *map(tokenizer.encode_array, chunks(document))])
        yield from _cut_windows(ids, block_size)


def _cut_windows(ids: Tokens16or32 | npt.NDArray[np.int64], block_size: int) -> Iterator[Window]:
    """Yield inputs and targets of consecutive windows; the last one may be shorter."""
    for start in range(0, len(ids) - 1, block_size):
        window = ids[start : start + block_size + 1].astype(np.int64)
        yield window[:-1], window[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """The number of records that a network answers without an error."""

    right: int
    total: int


@torch.inference_mode()
def count_solved(network: GPT, records: Tokens) -> Solved:
    """Count the records of a split whose answer the network would write exactly, at temperature 0.

    One pass over the right answer is enough: up to its first wrong token, the network would read the same tokens while
    generating, and after a wrong token the answer is wrong anyway.
    """
    right = total = 0
    windows = val_windows(records, network.config.block_size, vocab_size=network.config.vocab_size)
    for group in _group_by_length(windows, TOKENS_AT_ONCE):
        x, y = (torch.from_numpy(np.stack(arrays)).to(network.wte.weight.device) for arrays in zip(*group, strict=True))
        likeliest = network(x).argmax(-1)
        right += int(((likeliest == y) | (y < 0)).all(-1).sum())
        total += len(y)
    return Solved(right=right, total=total)


def score(
    loss: Callable[[Tensor, Tensor], Tensor],
    windows: Iterable[Window],
    *,
    n_bytes: np.ndarray,
    device: torch.device,
    at_once: int = TOKENS_AT_ONCE,
    world: World = ALONE,
) -> Score:
    """Return the mean loss over all targets of `windows`, with about `at_once` tokens per pass.

    The processes divide the passes among them.

    `loss`: tokens, targets [B, T] -> the mean over the positions, without targets of -1.
    `n_bytes` [V]: bytes of text of each token; 0 for end-of-text, whose prediction counts in the loss but adds no
    bytes.
    """
    sums = torch.zeros(3, dtype=torch.float64)  # nats, tokens, bytes
    for group, counts in _deal_groups(_group_by_length(windows, at_once), world):
        x, y = (torch.from_numpy(np.stack(arrays)).to(device) for arrays in zip(*group, strict=True))
        targets, mean = y[y >= 0], loss(x, y).item()
        if counts:
            text_bytes = int(n_bytes[targets.cpu().numpy()].sum())
            sums += torch.tensor([mean * targets.numel(), targets.numel(), text_bytes], dtype=torch.float64)
    with world.watch_processes():
        nats, tokens, text_bytes = world.sum(sums).tolist()
    mean = nats / max(tokens, 1)
    return Score(loss=mean, bits_per_byte=nats / math.log(2) / max(text_bytes, 1), tokens=int(tokens))


def _deal_groups(groups: Iterable[list[Window]], world: World) -> Iterator[tuple[list[Window], bool]]:
    """Yield this process's groups, and whether each counts.

    In the last round, a process without a group computes one that does not count, because a pass of a sharded network
    needs every process.
    """
    rest = iter(groups)
    while round_ := list(itertools.islice(rest, world.size)):
        mine = world.rank < len(round_)
        yield round_[world.rank if mine else 0], mine


def _group_by_length(windows: Iterable[Window], at_once: int) -> Iterator[list[Window]]:
    """Yield consecutive windows in groups of equal length and about `at_once` tokens.

    Lengths differ because the last window of a text may be shorter.
    """
    group: list[Window] = []
    for window in windows:
        if group and (len(group) * len(window[0]) >= at_once or len(window[0]) != len(group[0][0])):
            yield group
            group = []
        group.append(window)
    if group:
        yield group
