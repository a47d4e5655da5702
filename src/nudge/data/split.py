"""The split of documents into training and validation text, by their content, never by their names or order.

The hash of a document is read as a number in [0, 1). If it is below the validation share, the document is validation
text, so copies of a document are always in the same split. With fewer than 1,000 documents, chance could put most of
the text in either split; then documents go to validation in the order of their hashes as long as they fit in its share.
A single document is cut: its end is validation text.
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
    """Hash a document's content to 64 bits."""
    return int.from_bytes(hashlib.blake2b(to_bytes(text), digest_size=8).digest(), "little")


def decide(texts: Iterable[str], val_share: float) -> Split:
    """Return the rule that splits these documents.

    Reads all documents if they are few, otherwise only until both splits have some. Raises: DataError without any text.
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
    return Split(val_share, chosen=_choose_documents(sizes, val_share))


def _choose_documents(sizes: dict[int, int], val_share: float) -> frozenset[int]:
    """Return the hashes of the validation documents: from the lowest hash up, all that fit in the validation share.

    If none fits, return the shortest document's.
    """
    room = val_share * sum(sizes.values())
    chosen = set()
    for number in sorted(sizes):
        if sizes[number] <= room:
            room -= sizes[number]
            chosen.add(number)
    return frozenset(chosen or {min(sizes, key=lambda number: (sizes[number], number))})
