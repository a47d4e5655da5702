"""The contenders that encode text to GPT-2's ids, with the same vocabulary and the same texts."""

import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nudge.bench.peers import Prepared
from nudge.data import published_vocab
from nudge.data import tokenizer as tokenizers_of_ours
from nudge.data.chunking import chunks
from nudge.data.corpus import documents
from nudge.data.published_vocab import GPT2_PATTERN
from nudge.data.tokenizer import EOT, to_bytes

EOT_ID = 50256
TURN_S = 1.0  # about
IdArrays = Iterable[npt.NDArray[Any]]
Encode = Callable[[Sequence[str]], IdArrays]


def nudge_encoder(*, paths: list[str], field: str, threads: int) -> Prepared:
    """Prepare nudge's encoder, called as in `nudge data prepare`."""
    from nudge.bench import ours
    from nudge.version import __version__

    return f"nudge {__version__}", _make_round(ours.encoder(tokenizers_of_ours.get("gpt2"), threads), paths, field)


def tiktoken(*, paths: list[str], field: str, threads: int) -> Prepared:
    """Prepare tiktoken's function for many texts."""
    import tiktoken as library

    ranked = {token: rank for rank, token in enumerate(published_vocab.find("gpt2"))}
    encoding = library.Encoding("gpt2", pat_str=GPT2_PATTERN, mergeable_ranks=ranked, special_tokens={EOT: EOT_ID})

    def encode(texts: Sequence[str]) -> list[Any]:
        if threads == 1:
            return [encoding.encode_ordinary(text) for text in texts]
        return encoding.encode_ordinary_batch(list(texts), num_threads=threads)

    return f"tiktoken {library.__version__}", _make_round(encode, paths, field)


def tokenizers(*, paths: list[str], field: str, threads: int) -> Prepared:
    """Prepare Hugging Face's tokenizers, without offsets (`encode_batch_fast`)."""
    os.environ |= {"TOKENIZERS_PARALLELISM": str(threads > 1).lower(), "RAYON_NUM_THREADS": str(threads)}
    import tokenizers as library

    vocabulary = published_vocab.find("gpt2")
    letters = published_vocab.byte_alphabet()

    def to_printable(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = [(to_printable(left), to_printable(right)) for left, right in merged_pairs(vocabulary)]
    model = library.models.BPE(
        vocab={to_printable(token): rank for rank, token in enumerate(vocabulary)}, merges=merges
    )
    tokenizer = library.Tokenizer(model)
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)

    def encode(texts: Sequence[str]) -> list[Any]:
        return [encoded.ids for encoded in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    return f"tokenizers {library.__version__}", _make_round(encode, paths, field)


def merged_pairs(vocabulary: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Return, for each token longer than a byte, the two lower-ranked tokens that it merges."""
    ranked = {token: rank for rank, token in enumerate(vocabulary)}
    pairs = []
    for rank, token in enumerate(vocabulary[256:], 256):
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            joined = [ranked.get(left + right, rank) for left, right in itertools.pairwise(parts)]
            at = min(range(len(joined)), key=joined.__getitem__)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        pairs.append((parts[0], parts[1]))
    return pairs


def _make_round(encode: Encode, paths: list[str], field: str) -> Callable[[], Mapping[str, Any]]:
    """Return a function that times passes over all texts for about a second.

    Long texts are cut for all contenders, only between tokens.
    """
    texts = [chunk for text in documents(paths, field=field) for chunk in chunks(text)]
    n_bytes = sum(len(to_bytes(text)) for text in texts)

    passes, digest = 0, ""

    def time_passes(n: int) -> float:
        begun = time.perf_counter()
        for _ in range(n):
            encode(texts)
        return time.perf_counter() - begun

    def run_round() -> Mapping[str, Any]:
        nonlocal passes, digest
        if not passes:
            ids = np.concatenate([np.asarray(part, dtype=np.uint32) for part in encode(texts)])
            digest = hashlib.sha256(ids[ids != EOT_ID].tobytes()).hexdigest()  # ours marks the beginnings of documents
            passes = max(1, round(TURN_S / time_passes(1)))
        return {"mb_per_s": passes * n_bytes / 1e6 / time_passes(passes), "output": digest}

    return run_round


def check(paths: Sequence[str | Path], field: str) -> int:
    """Count the bytes of text. Raises: DataError for missing files; MachineError without GPT-2's vocabulary."""
    published_vocab.find("gpt2")
    texts = documents([str(path) for path in paths], field=field)
    return sum(len(to_bytes(chunk)) for text in texts for chunk in chunks(text))
