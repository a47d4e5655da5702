"""The split of documents into training and validation text, by their content, never by their names or order.

The hash of a document is read as a number in [0, 1). If it is below the validation share, the document is validation
text, so copies of a document are always in the same split. With fewer than 1,000 documents, chance could put most of
the text in either split; then documents go to validation in the order of their hashes as long as they fit in its share.

If that gives validation less than half of its share or more than twice as much, a few documents hold most of the text,
and each of these is cut: its end is validation text. A single document is always cut.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from nudge.data.text import Text, pieces
from nudge.data.tokenizer import to_bytes
from nudge.errors import DataError

FEW = 1000  # documents
# Documents are cut that hold more than this part of the smaller share p. Chance then moves it by about a third at most:
# the weights of all others are at most p/10 and add up to 1, so the standard deviation is below sqrt(p * p/10).
_LONG = 0.1


@dataclass(frozen=True, slots=True)
class Split:
    """The rule of a split: `split(text)` returns the training and the validation part of a document."""

    val_share: float
    chosen: frozenset[int] | None = None  # the hashes of validation documents; None: all below val_share
    cut_above: int | None = None  # the end of a document of more characters than this is validation text

    def __call__(self, text: Text) -> tuple[Text, Text]:
        """Return (training text, validation text) of one document."""
        if self.cut_above is not None and len(text) > self.cut_above:
            at = max(1, int(len(text) * (1 - self.val_share)))
            return text[:at], text[at:]
        number = hash_number(text)
        below = number < self.val_share * 2**64 if self.chosen is None else number in self.chosen
        return ("", text) if below else (text, "")

    def train(self, text: Text) -> Text:
        """Return the training part of one document."""
        return self(text)[0]


def hash_number(text: Text) -> int:
    """Hash a document's content to 64 bits."""
    digest = hashlib.blake2b(digest_size=8)
    for piece in pieces(text):
        digest.update(to_bytes(piece))
    return int.from_bytes(digest.digest(), "little")


def decide(texts: Iterable[Text], val_share: float) -> Split:
    """Return the rule that splits these documents.

    Reads all documents if they are few, otherwise only until both splits have some: compare the result with `is_near`.
    Raises: DataError without any text.
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
        return Split(val_share, cut_above=0)
    chosen, total = _choose_documents(sizes, val_share), sum(sizes.values())
    n_val = sum(sizes[number] for number in chosen)
    return Split(val_share, chosen=chosen) if is_near(val_share, n_val, total - n_val) else _cut_long(total, val_share)


def decide_by_size(texts: Iterable[Text], val_share: float) -> Split | None:
    """Return the rule for documents of which a few hold most of the text: these are cut. Reads all documents.

    None if no document is so long, as in many copies of a few short ones.
    """
    sizes = [len(text) for text in texts]
    split = _cut_long(sum(sizes), val_share)
    return split if split.cut_above is not None and max(sizes, default=0) > split.cut_above else None


def is_near(val_share: float, n_val: int, n_train: int) -> bool:
    """Return whether validation is to training, within a factor of two, what `val_share` asks for.

    Also true for a text too short to do better.
    """
    wanted, got = val_share * n_train, (1 - val_share) * n_val
    return wanted / 2 <= got <= wanted * 2 or _longest_uncut(n_val + n_train, val_share) < 1


def _cut_long(n_chars: int, val_share: float) -> Split:
    return Split(val_share, cut_above=max(1, int(_longest_uncut(n_chars, val_share))))


def _longest_uncut(n_chars: int, val_share: float) -> float:
    return _LONG * min(val_share, 1 - val_share) * n_chars


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
