"""Which tokens an update learns from: a pure function of the tokens, the seed and the number of the update.

There is nothing to save and nothing to restore: a resumed run asks for the next number, and any number of workers can
split the same batch. An epoch is cut into n_windows windows of block_size targets; the next one at other
places, so that no word is always the first of its window. Records are windows as they are, always at the same places.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nudge.data.shards import Records, Tokens
from nudge.data.shuffle import mixed, permute
from nudge.errors import ConfigError, DataError

Window = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

SKIPPED = -1  # a target that counts for nothing

_ORDER, _OFFSET = 1, 2  # what a random number is for; keeps the two streams of a seed apart


class Batches:
    """The batches of a run: `batches(step)` for step = 0, 1, ..."""

    def __init__(self, tokens: Tokens, *, block_size: int, n_sequences: int, seed: int, vocab_size: int) -> None:
        check_windows(tokens, block_size)
        self.tokens = tokens
        self.block_size = block_size
        self.n_sequences = n_sequences
        self.seed = seed
        self.vocab_size = vocab_size
        self.stride = _stride(tokens, block_size)
        self.n_windows = len(tokens) // self.stride

    def __call__(self, step: int, rows: slice = slice(None)) -> Window:
        """Inputs and targets, the inputs one token on, of update `step`. Shapes: [B, T], [B, T].

        `rows`: of its windows only these, for one of several processes.

        Raises: DataError for ids that the model does not have.
        """
        T = self.block_size
        windows = np.stack([self.tokens.read(start, T + 1) for start in self.starts(step)[rows]]).astype(np.int64)
        _check_ids(windows, self.vocab_size, self.tokens)
        return _inputs_and_targets(windows, self.tokens.records)

    def starts(self, step: int) -> list[int]:
        """Where in the tokens each window of an update begins. Shape: [B]."""
        first = step * self.n_sequences
        places = np.arange(first, first + self.n_sequences, dtype=np.int64)
        epochs, within = np.divmod(places, self.n_windows)
        starts = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            inside = epochs == epoch
            windows = permute(within[inside], self.n_windows, mixed(self.seed, epoch, _ORDER))
            offset = 0 if self.tokens.records else mixed(self.seed, epoch, _OFFSET) % len(self.tokens)
            starts[inside] = windows * self.stride + offset
        return starts.tolist()


def val_windows(
    tokens: Tokens, block_size: int, limit_tokens: int | None = None, *, vocab_size: int | None = None
) -> Iterator[Window]:
    """Inputs and targets of a split in order, each target once; the last window may be shorter.

    With `limit_tokens`, about that many targets in windows that are spread evenly over the split, so that a part of it
    speaks for the whole.

    Shapes: [T], [T]. Raises: DataError for ids that the model does not have.
    """
    n_targets = len(tokens) - 1
    stride = _stride(tokens, block_size)
    n_windows = -(-n_targets // stride)
    wanted = n_windows if limit_tokens is None else min(n_windows, -(-limit_tokens // block_size))
    for number in range(wanted):
        start = number * n_windows // wanted * stride
        window = tokens.read(start, min(block_size, n_targets - start) + 1).astype(np.int64)
        if vocab_size is not None:
            _check_ids(window, vocab_size, tokens)
        yield _inputs_and_targets(window, tokens.records)


def check_windows(tokens: Tokens, block_size: int, name: str = "") -> None:
    """Whether windows of block_size inputs and the target after them can be cut.

    Raises: DataError if a split does not hold one; ConfigError if a record is no such window.
    """
    if tokens.records and tokens.records.n_tokens != block_size + 1:
        raise ConfigError(
            f"each example in {tokens.folder} has {tokens.records.n_tokens} tokens, a window has {block_size + 1:,} "
            "(block_size + 1)",
            f"--set model.block_size={tokens.records.n_tokens - 1}, or --recipe llm_viz",
        )
    if len(tokens) < block_size + 1:
        name = name or {"train": "training", "val": "validation"}[tokens.name]
        raise DataError(
            f"the {name} text has {len(tokens):,} tokens, one window needs {block_size + 1:,} (block_size + 1)",
            f"add more text, or take a shorter context: --set model.block_size={max(1, (len(tokens) - 1) // 2)}",
        )


def _stride(tokens: Tokens, block_size: int) -> int:
    """From the start of one window to that of the next."""
    return tokens.records.n_tokens if tokens.records else block_size


def _inputs_and_targets(windows: npt.NDArray[np.int64], records: Records | None) -> Window:
    """Windows [.., T + 1] -> [.., T], [.., T]."""
    inputs, targets = np.ascontiguousarray(windows[..., :-1]), windows[..., 1:].copy()
    if records:
        targets[..., : records.n_given - 1] = SKIPPED  # the first token of all is no target anyway
    return inputs, targets


def _check_ids(ids: npt.NDArray[np.int64], vocab_size: int, tokens: Tokens) -> None:
    highest = int(ids.max())
    if highest >= vocab_size:
        raise DataError(
            f"token ids up to {highest} in {tokens.folder}, but the model has the ids 0 .. {vocab_size - 1}",
            "the shards are damaged (nudge data info DIR --verify) or belong to another vocabulary",
        )
