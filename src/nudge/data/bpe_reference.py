"""Byte-pair encoding and training in a few readable lines: the slow reference for tiktoken and `tokenizers`.

A test checks that both give the same ids. This module needs the library `regex`: the standard `re` has no \\p{L}.
"""

import itertools
from collections import Counter
from collections.abc import Mapping

import regex  # type: ignore[import-untyped]

from nudge.data.published_vocab import byte_alphabet


def encode(text: str, ranks: Mapping[bytes, int], pattern: str) -> list[int]:
    """Return the ids of `text`: split it into words, then merge the bytes of each word."""
    return [token for word in regex.findall(pattern, text) for token in encode_word(word.encode("utf-8"), ranks)]


def encode_word(word: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """Return the ids of a word: start with single bytes, and merge the neighbors of the lowest rank while any merge."""
    parts = [bytes([byte]) for byte in word]
    while len(parts) > 1:
        candidates = [ranks.get(left + right) for left, right in itertools.pairwise(parts)]
        known = [rank for rank in candidates if rank is not None]
        if not known:
            break
        at = candidates.index(min(known))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [ranks[part] for part in parts]


def train(text: str, n_tokens: int, pattern: str) -> dict[bytes, int]:
    """Return trained ranks: start with the 256 bytes, then repeatedly add the most frequent pair of neighbors."""
    ranks = {bytes([byte]): rank for rank, byte in enumerate(byte_alphabet())}
    words = Counter(tuple(bytes([byte]) for byte in word.encode("utf-8")) for word in regex.findall(pattern, text))
    while len(ranks) < n_tokens:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, count in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        if not pairs:
            break  # every word is one token already
        # If pairs are equally frequent, choose the one whose parts were learned first, as `tokenizers` does.
        best = min(pairs, key=lambda pair: (-pairs[pair], ranks[pair[0]], ranks[pair[1]]))
        ranks.setdefault(best[0] + best[1], len(ranks))
        words = Counter({_merge_pair(word, best): count for word, count in words.items()})
    return ranks


def _merge_pair(word: tuple[bytes, ...], pair: tuple[bytes, bytes]) -> tuple[bytes, ...]:
    """Return a word with every occurrence of the pair merged, from left to right."""
    merged: list[bytes] = []
    at = 0
    while at < len(word):
        found = word[at : at + 2] == pair
        merged.append(pair[0] + pair[1] if found else word[at])
        at += 2 if found else 1
    return tuple(merged)
