"""How well a model predicts text that it was not trained on."""

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
from nudge.data.corpus import documents, expand_user
from nudge.data.foreign import token_files
from nudge.data.foreign.token_files import TokenFile
from nudge.data.shards import Dataset, Tokens, Tokens16or32, is_prepared, map_place, open_dataset
from nudge.data.tokenizer import Tokenizer
from nudge.distributed.world import ALONE, World
from nudge.errors import DataError
from nudge.infer.engine import LanguageModel
from nudge.model.gpt import GPT
from nudge.runs.folder import RunFolder
from nudge.util import files

TOKENS_AT_ONCE = 2048
LARGEST_EXPONENT = 709.0  # exp of more is no float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The mean loss in nats per token, and the same in units that do not depend on the tokenizer."""

    loss: float
    bits_per_byte: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """Among how many equally likely tokens the model hesitates, so to speak."""
        return exp(self.loss)


def exp(x: float) -> float:
    """e^x, infinity where a float has no room for it."""
    return math.inf if x > LARGEST_EXPONENT else math.exp(x)


@torch.inference_mode()
def evaluate(
    model: LanguageModel,
    paths: Sequence[str | os.PathLike[str]] | None = None,
    *,
    field: str = "text",
    watched: Callable[[Iterable[Window]], Iterable[Window]] = iter,
) -> Score:
    """How well a model predicts text: all of `paths` (files, folders, globs), or its run's validation split.

    Of a prepared folder and of nanoGPT's or llm.c's token files it is the validation tokens. The windows pass through
    `watched` on their way, for who wants to see it.
    Raises: DataError for text that is missing, empty or binary, tokens of another vocabulary, or a run whose prepared
    text is gone.
    """
    windows = _windows([str(path) for path in paths], model, field) if paths else validation_windows(model)
    device = model.network.wte.weight.device
    result = score(model.network.loss, watched(windows), n_bytes=model.tokenizer.n_bytes, device=device)
    if not result.tokens:
        raise DataError("there is no token to predict: all that was named is empty", "name files that hold text")
    return result


def validation_windows(model: LanguageModel) -> Iterator[Window]:
    """The whole validation split of the run that a model comes from. Raises: DataError if there is none any more."""
    return _held_out(model, run_dataset(model))


def _held_out(model: LanguageModel, dataset: Dataset) -> Iterator[Window]:
    block_size = model.network.config.block_size
    if dataset.manifest.records:
        check_windows(dataset.val, block_size)
    return val_windows(dataset.val, block_size, vocab_size=model.tokenizer.vocab_size)


def run_dataset(model: LanguageModel) -> Dataset:
    """The prepared text of the run that a model comes from. Raises: DataError if there is none any more."""
    folder = RunFolder(model.path.parent.parent if model.path else Path())
    if not folder.run_json.exists():
        raise DataError("this model comes without its run's validation text", "name some text: nudge eval --data FILE")
    try:
        prepared = Path(files.read_json(folder.run_json)["data"]["dir"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder.run_json} does not say where its text is", "name some text: --data FILE") from error
    return open_dataset(prepared)


def _windows(paths: list[str], model: LanguageModel, field: str) -> Iterator[Window]:
    if folder := next(filter(is_prepared, map(expand_user, paths)), None):
        if len(paths) > 1:
            raise DataError(f"{folder} is a prepared folder, and not all that was named", "measure it alone")
        dataset = open_dataset(folder)
        _check_tokenizer(model, dataset.tokenizer, folder)
        return _held_out(model, dataset)
    if found := token_files.find(paths):
        held_out = token_files.validation(found)
        if tokenizer := token_files.neighbour(held_out):
            _check_tokenizer(model, tokenizer, held_out[0].path)
        return token_windows(model, held_out)
    return text_windows(model, paths, field=field)


def _check_tokenizer(model: LanguageModel, tokenizer: Tokenizer, where: Path) -> None:
    if tokenizer.sha256 != model.tokenizer.sha256:
        raise DataError(
            f"{where} was made with another tokenizer than this model's: {tokenizer.name} of {tokenizer.vocab_size:,} "
            f"tokens with the SHA-256 {tokenizer.sha256[:12]}, not {model.tokenizer.name} of "
            f"{model.tokenizer.vocab_size:,} with {model.tokenizer.sha256[:12]}",
            "measure it on the text itself: --data TEXT",
        )


def token_windows(model: LanguageModel, files: Iterable[TokenFile]) -> Iterator[Window]:
    """The tokens of other programs' files as they are, in windows of block_size. Raises: DataError for one too high."""
    block_size, n_known = model.network.config.block_size, model.tokenizer.vocab_size
    for file in files:
        tokens = map_place(file.place, file.n_tokens)
        for x, y in _cut(tokens, block_size):
            if (highest := max(x.max(), y.max())) >= n_known:
                raise DataError(
                    f"{file.path} has the token {highest:,}, this model's vocabulary ends at {n_known - 1:,}",
                    "the tokens are of another vocabulary, or the file is damaged",
                )
            yield x, y


def text_windows(
    model: LanguageModel, paths: Sequence[str | os.PathLike[str]], *, field: str = "text"
) -> Iterator[Window]:
    """Every document by itself: the token that opens it, then its own, in windows of block_size."""
    block_size, tokenizer = model.network.config.block_size, model.tokenizer
    if not tokenizer.opening:
        raise DataError(
            "this network has no token that starts a document: it cannot read text of its own",
            "leave --data out to measure its run's, or give tokens: --data FOLDER of its val.bin",
        )
    for document in documents([str(path) for path in paths], field=field):
        ids = np.array([*tokenizer.opening, *tokenizer.encode(document)], dtype=np.int64)
        yield from _cut(ids, block_size)


def _cut(ids: Tokens16or32 | npt.NDArray[np.int64], block_size: int) -> Iterator[Window]:
    for start in range(0, len(ids) - 1, block_size):
        window = ids[start : start + block_size + 1].astype(np.int64)
        yield window[:-1], window[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """How many records a network answers without a mistake."""

    right: int
    total: int


@torch.inference_mode()
def solved(network: GPT, records: Tokens) -> Solved:
    """The records of a split whose answer is exactly what the network writes, always its likeliest token.

    One pass over the right answer tells: as long as every token so far is right, it is what the network reads while it
    writes too; and where the first one is wrong, so is the answer.
    """
    right = total = 0
    windows = val_windows(records, network.config.block_size, vocab_size=network.config.vocab_size)
    for group in _same_length(windows, TOKENS_AT_ONCE):
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
    """The loss over all targets of `windows`, about `at_once` tokens in a pass; several processes share the passes.

    `loss`: tokens, targets [B, T] -> the mean over their positions, without targets of -1.
    `n_bytes` [V]: bytes of text of each token, 0 for the end-of-text token, whose prediction counts in the loss but
    brings no bytes.
    """
    sums = torch.zeros(3, dtype=torch.float64)  # nats, tokens, bytes
    for group, counts in _dealt(_same_length(windows, at_once), world):
        x, y = (torch.from_numpy(np.stack(arrays)).to(device) for arrays in zip(*group, strict=True))
        targets, mean = y[y >= 0], loss(x, y).double().item()
        if counts:
            text_bytes = int(n_bytes[targets.cpu().numpy()].sum())
            sums += torch.tensor([mean * targets.numel(), targets.numel(), text_bytes], dtype=torch.float64)
    with world.watched():
        nats, tokens, text_bytes = world.sum(sums).tolist()
    mean = nats / max(tokens, 1)
    return Score(loss=mean, bits_per_byte=nats / math.log(2) / max(text_bytes, 1), tokens=int(tokens))


def _dealt(groups: Iterable[list[Window]], world: World) -> Iterator[tuple[list[Window], bool]]:
    """This process's groups, and whether each counts: where they do not come out even, some compute one for nothing,
    because the passes of a sharded network need every process."""
    rest = iter(groups)
    while round_ := list(itertools.islice(rest, world.size)):
        mine = world.rank < len(round_)
        yield round_[world.rank if mine else 0], mine


def _same_length(windows: Iterable[Window], at_once: int) -> Iterator[list[Window]]:
    """Windows in groups that stack: all of one length, as the last of a text is shorter, and no more than needed."""
    group: list[Window] = []
    for window in windows:
        if group and (len(group) * len(window[0]) >= at_once or len(window[0]) != len(group[0][0])):
            yield group
            group = []
        group.append(window)
    if group:
        yield group
