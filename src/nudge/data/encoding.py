"""The encoding of documents into token shards, on all cores.

Documents are collected in groups of about half a million characters, each group from one split. Threads encode the
groups, and the tokens are written in the order of the text. Threads are as fast as processes here, because tiktoken
releases the interpreter's lock while it works. Unlike processes, they also let a script call this at its top level.

A group depends on the text alone, never on the number of threads, and a shard holds whole groups. So an interrupted
preparation continues after as many groups as the finished shards hold.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nudge.data.chunking import CHUNK_CHARS, LONGEST_CHUNK, chunks
from nudge.data.manifest import SplitName
from nudge.data.resume_log import ResumeLog
from nudge.data.shards import Tokens16or32, token_dtype, write_shard
from nudge.data.split import Split
from nudge.data.text import LongText, Text
from nudge.data.tokenizer import Tokenizer

SHARD_TOKENS = 1 << 25  # 64 or 128 MiB, kept in memory until the shard is written

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Group:
    """Documents that are encoded together, or a part of one long document."""

    split: SplitName
    texts: list[str]
    position: int  # bytes of the source read so far
    begins: bool = True  # False: it continues the document of the previous group
    ends: bool = True  # False: the next group continues its document


@dataclass(frozen=True, slots=True)
class EncodedGroup:
    """The tokens of a group, and for each document that ends in it, the index after the last token."""

    tokens: Tokens16or32
    ends: npt.NDArray[np.uint64]
    text_bytes: int


def encode_documents(
    documents: Iterable[tuple[Text, int]], split: Split, tokenizer: Tokenizer, log: ResumeLog, threads: int
) -> Iterator[int]:
    """Write the shards that are not in the log yet, and yield the position in the source after each group.

    `documents` are (text, position in the source). At the end, the log has all shards of both splits.
    """
    waiting: dict[SplitName, list[EncodedGroup]] = {name: [] for name in log.shards}
    groups = _unfinished_groups(group_documents(documents, split), dict(log.n_groups))
    local = _ThreadTokenizer(tokenizer)
    for group, encoded in map_in_order(lambda group: encode_group(group, local.tokenizer), groups, threads):
        parts = waiting[group.split]
        parts.append(encoded)
        if sum(len(part.tokens) for part in parts) >= SHARD_TOKENS:
            _write(parts, group.split, log)
            parts.clear()
        yield group.position
    for name, parts in waiting.items():
        if parts:
            _write(parts, name, log)


def _write(parts: list[EncodedGroup], split: SplitName, log: ResumeLog) -> None:
    """Write encoded groups as the next shard of a split, and log it."""
    offsets = np.cumsum([0, *(len(part.tokens) for part in parts[:-1])]).astype(np.uint64)
    shard = write_shard(
        log.folder,
        f"{split}_{len(log.shards[split]):06d}.bin",
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.ends + offset for part, offset in zip(parts, offsets, strict=True)]),
        sum(part.text_bytes for part in parts),
    )
    log.add(split, shard, n_groups=len(parts))


def encode_group(group: Group, tokenizer: Tokenizer) -> EncodedGroup:
    """Encode the documents of a group, each after the tokenizer's opening token."""
    ids, starts = tokenizer.encode_documents(group.texts)
    if not group.begins:
        ids, starts = ids[1:], starts - 1
    ends = [*starts[1:].tolist(), *([len(ids)] if group.ends else [])]
    return EncodedGroup(
        tokens=ids.astype(token_dtype(tokenizer.vocab_size)),
        ends=np.array(ends, dtype=np.uint64),
        text_bytes=int(tokenizer.n_bytes[ids].sum()),
    )


class _ThreadTokenizer(threading.local):
    """A tokenizer for each thread: Python calls `__init__` in every thread that reads `.tokenizer`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer.for_thread()


def _unfinished_groups(groups: Iterable[Group], finished: dict[SplitName, int]) -> Iterator[Group]:
    """Yield the groups that are in no finished shard."""
    for group in groups:
        finished[group.split] -= 1
        if finished[group.split] < 0:
            yield group


@dataclass(slots=True)
class _UnfilledGroup:
    """Documents of one split that are not enough for a group yet."""

    split: SplitName
    texts: list[str] = field(default_factory=list)
    n_chars: int = 0

    def take(self, position: int) -> Iterator[Group]:
        """Yield the documents as a group, if there are any, and start over."""
        if self.texts:
            yield Group(self.split, self.texts, position)
        self.texts, self.n_chars = [], 0


def group_documents(documents: Iterable[tuple[Text, int]], split: Split) -> Iterator[Group]:
    """Yield the groups of both splits in the order of the text."""
    both = (_UnfilledGroup("train"), _UnfilledGroup("val"))
    position = 0
    for text, position in documents:
        for waiting, part in zip(both, split(text), strict=True):
            if not part:
                continue
            if isinstance(part, LongText) or len(part) > LONGEST_CHUNK:
                yield from waiting.take(position)
                yield from _split_long_document(waiting.split, part, position)
            else:
                waiting.texts.append(part)
                waiting.n_chars += len(part)
                if waiting.n_chars >= CHUNK_CHARS:
                    yield from waiting.take(position)
    for waiting in both:
        yield from waiting.take(position)


def _split_long_document(split: SplitName, text: Text, position: int) -> Iterator[Group]:
    """Yield a document that is too long for one group as several groups."""
    waiting: Group | None = None  # until the next chunk shows that it is not the last
    for chunk in chunks(text):
        if waiting:
            yield waiting
        waiting = Group(split, [chunk], position, begins=waiting is None, ends=False)
    if waiting:
        yield replace(waiting, ends=True)


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result, in the order of the items. Threads compute the results only a little ahead."""
    pending: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append((item, pool.submit(function, item)))
                if len(pending) > 2 * threads:
                    done, future = pending.popleft()
                    yield done, future.result()
            while pending:
                done, future = pending.popleft()
                yield done, future.result()
        finally:
            pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C, wait for running calls, not for queued ones
