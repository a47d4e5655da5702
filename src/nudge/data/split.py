"""The split of documents into training and validation text, by their content, never by their names or their order.

The hash of a document is read as a number in [0, 1); below the validation share, the document is validation text. So
copies of a document always land on the same side. With fewer than 1,000 documents, chance could put most of the text on
either side; then documents go to validation in the order of their hashes as long as they fit in its share. A single
document is cut: its end is validation text.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from nudge.data.tokenizer import to_bytes
from nudge.errors import DataError

FEW = 1000  # documents


@dataclass(frozen=True, slots=True)
class Split:
    """The rule of a split: `split(text)` returns the training and the validation part of a document."""

    val_share: float
    chosen: frozenset[int] | None = None  # the hashes of validation documents; None: all below val_share
    cut: bool = False  # the validation text is the end of the only document

    def __call__(self, text: str) -> tuple[str, str]:
        """Return (training text, validation text) of one document."""
        if self.cut:
            at = max(1, int(len(text) * (1 - self.val_share)))
            return text[:at], text[at:]
        number = hash_number(text)
        below = number < self.val_share * 2**64 if self.chosen is None else number in self.chosen
        return ("", text) if below else (text, "")


def hash_number(text: str) -> int:
    """Return 64 bits that depend on every byte of a document and on nothing else."""
    return int.from_bytes(hashlib.blake2b(to_bytes(text), digest_size=8).digest(), "little")


def decide(texts: Iterable[str], val_share: float) -> Split:
    """Return the rule for these documents. It reads all of them only if they are few, else until both sides have some.

    Raises: DataError if there is no text at all.
    """
    sizes: dict[int, int] = {}
    lowest, highest = 2**64, -1
    for text in texts:
        number = hash_number(text)
        sizes[number] = len(text)
        lowest, highest = min(lowest, number), max(highest, number)
        if len(sizes) >= FEW and lowest < val_share * 2**64 <= highest:
            return Split(val_share)
    if not sizes:
        raise DataError("no_text")
    if len(sizes) == 1:
        return Split(val_share, cut=True)
    return Split(val_share, chosen=_fitting(sizes, val_share))


def _fitting(sizes: dict[int, int], val_share: float) -> frozenset[int]:
    """Return the hashes, from the lowest up, of documents that fit in the validation share; at least the shortest."""
    room = val_share * sum(sizes.values())
    chosen = set()
    for number in sorted(sizes):
        if sizes[number] <= room:
            room -= sizes[number]
            chosen.add(number)
    return frozenset(chosen or {min(sizes, key=lambda number: (sizes[number], number))})
