"""The batches of a run: the batch of update `step` is a pure function of the tokens, the seed and `step`.

There is no state to save or restore: a resumed run computes the next step, and any number of workers can split a batch.

An epoch cuts the tokens into n_windows windows of block_size targets and reads them in a shuffled order. The next epoch
cuts at other places, so that no token is always the first of its window. Records are never cut: each is a window.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nudge.data.shards import Tokens
from nudge.data.shuffle import mix_bits, permute
from nudge.errors import ConfigError, DataError

Window = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

SKIPPED = -1  # a target that the loss leaves out

_ORDER, _OFFSET = 1, 2  # the purpose of a random number: two independent streams from one seed


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
        """Return the inputs and targets of update `step`: each target is the token after its input.

        `rows` selects some of the batch's windows, for one of several processes. Shapes: [B, T], [B, T].

        Raises: DataError for ids that the model does not have.
        """
        T = self.block_size
        windows = np.stack([self.tokens.read(start, T + 1) for start in self.starts(step)[rows]])
        return _inputs_and_targets(windows.astype(np.int64), self.tokens, self.vocab_size)

    def starts(self, step: int) -> list[int]:
        """Return the index of the first token of each window of an update. Shape: [B]."""
        first = step * self.n_sequences
        epochs, places = np.divmod(np.arange(first, first + self.n_sequences, dtype=np.int64), self.n_windows)
        starts = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():  # more than one if an epoch ends within the batch
            in_epoch = epochs == epoch
            windows = permute(places[in_epoch], self.n_windows, mix_bits(self.seed, epoch, _ORDER))
            offset = 0 if self.tokens.records else mix_bits(self.seed, epoch, _OFFSET) % len(self.tokens)
            starts[in_epoch] = windows * self.stride + offset
        return starts.tolist()


def val_windows(
    tokens: Tokens, block_size: int, limit_tokens: int | None = None, *, vocab_size: int | None = None
) -> Iterator[Window]:
    """Yield the inputs and targets of each window of a split in order; the last window may be shorter.

    With `limit_tokens`, yield only about that many targets, in windows spread evenly over the split.

    Shapes: [T], [T]. Raises: DataError for ids that the model does not have.
    """
    n_targets = len(tokens) - 1
    stride = _stride(tokens, block_size)
    n_windows = -(-n_targets // stride)
    n_yielded = n_windows if limit_tokens is None else min(n_windows, -(-limit_tokens // block_size))
    for number in range(n_yielded):
        start = number * n_windows // n_yielded * stride
        window = tokens.read(start, min(block_size, n_targets - start) + 1)
        yield _inputs_and_targets(window.astype(np.int64), tokens, vocab_size)


def check_windows(tokens: Tokens, block_size: int) -> None:
    """Check that a split has at least one window: block_size inputs, and the target after the last input.

    Raises: DataError if it is too short; ConfigError if its records have another length.
    """
    if tokens.records and tokens.records.n_tokens != block_size + 1:
        raise ConfigError(
            "record_length",
            folder=tokens.folder,
            n_tokens=tokens.records.n_tokens,
            window=block_size + 1,
            fitting=tokens.records.n_tokens - 1,
        )
    if len(tokens) < block_size + 1:
        fitting = 1 << max(1, (len(tokens) - 1) // 2).bit_length() - 1  # a power of 2: whole windows in an update
        raise DataError("too_short", split=tokens.name, n=len(tokens), window=block_size + 1, fitting=fitting)


def _stride(tokens: Tokens, block_size: int) -> int:
    """Return the distance from the start of one window to the start of the next."""
    return tokens.records.n_tokens if tokens.records else block_size


def _inputs_and_targets(windows: npt.NDArray[np.int64], tokens: Tokens, vocab_size: int | None) -> Window:
    """Split windows [.., T + 1] into inputs [.., T] and targets [.., T]. Raises: DataError for ids out of range."""
    highest = int(windows.max())
    if vocab_size is not None and highest >= vocab_size:
        raise DataError("unknown_token", folder=tokens.folder, token=highest, last=vocab_size - 1)
    inputs, targets = np.ascontiguousarray(windows[..., :-1]), windows[..., 1:].copy()
    if tokens.records:
        targets[..., : tokens.records.n_given - 1] = SKIPPED  # one less: the first token is never a target
    return inputs, targets
