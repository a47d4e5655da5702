from itertools import pairwise

import pytest

from nudge.data.split import FEW, Split, decide, decide_by_size, hash_number, is_near
from nudge.errors import DataError


def val_texts(texts: list[str], val_share: float = 0.1) -> list[str]:
    split = decide(texts, val_share)
    return [text for text in texts if split(text)[1]]


def test_a_single_document_is_cut_at_nine_tenths():
    text = "0123456789" * 10
    assert decide([text], 0.1)(text) == (text[:90], text[90:])
    assert decide([text, text], 0.1)(text) == (text[:90], text[90:])  # a copy is no second document
    assert decide(["ab"], 0.1)("ab") == ("a", "b")


def test_many_documents_are_split_by_their_hash_alone():
    texts = [f"document {number}" for number in range(5000)]
    split = decide(texts, 0.1)
    assert split == Split(0.1)
    assert 400 < len(val_texts(texts)) < 600
    assert decide(iter(texts[:FEW]), 0.1) == split


def test_few_documents_are_split_by_size():
    even = [f"{number:04d}" * 25 for number in range(50)]
    assert len(val_texts(even)) == 5


def test_both_sides_get_something():
    for number in range(20):
        texts = [f"{number} a", f"{number} b"]
        assert len(val_texts(texts)) == 1


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    "sizes",
    [
        [300_000, 400_000, 20],
        [100_000, 50_000],
        [50_000, 50_000, 50_000],
        [100_000, *range(1, 900)],
        [500_000, *range(100, 600), 900_000],
    ],
    ids=["two books and a note", "two", "three", "a book among notes", "two books among notes"],
)
def test_validation_is_near_its_share_whatever_the_documents(sizes: list[int], share: float):
    for seed in range(5):
        texts = [f"{seed} {number} " + "word " * (size // 5) for number, size in enumerate(sizes)]
        split = decide(texts, share)
        assert all("".join(map(str, split(text))) == text for text in texts)
        n_val = sum(len(split(text)[1]) for text in texts)
        assert is_near(share, n_val, sum(map(len, texts)) - n_val)


def test_a_book_among_many_notes_is_cut():
    texts = [f"note {number}" for number in range(2 * FEW)]
    for seed in range(20):
        book = f"{seed} " + "word " * 100_000
        split = decide_by_size([*texts, book], 0.1)
        assert len(split(book)[1]) == pytest.approx(0.1 * len(book), abs=1)
        assert [split(text) for text in texts] == [Split(0.1)(text) for text in texts]


def test_a_split_of_the_first_version_stays_where_it_was_near():
    nine = [f"{number}" * 100 for number in range(9)]  # none fits into a tenth, and the shortest is near it
    assert decide(nine, 0.1).chosen == {min(map(hash_number, nine))}
    assert decide(nine, 0.1).cut_above is None


@pytest.mark.parametrize(
    ("n_val", "n_train", "near"),
    [(100, 900, True), (53, 947, True), (52, 948, False), (181, 819, True), (182, 818, False), (0, 99, True)],
)
def test_near_is_within_a_factor_of_two(n_val: int, n_train: int, near: bool):
    assert is_near(0.1, n_val, n_train) is near


def test_neither_order_nor_copies_matter():
    texts = [f"{number} " * (number % 7 + 1) for number in range(200)]
    expected = set(val_texts(texts))
    assert set(val_texts(texts[::-1])) == expected
    assert set(val_texts(texts + texts[:50])) == expected


def test_every_document_is_on_one_side():
    texts = [f"{number}" for number in range(2000)]
    split = decide(texts, 0.3)
    assert all(sorted(map(bool, split(text))) == [False, True] for text in texts)


def test_a_larger_share_keeps_what_a_smaller_one_chose():
    texts = [f"{number}" for number in range(3000)]
    chosen = [set(val_texts(texts, share)) for share in (0.05, 0.1, 0.5)]
    assert all(smaller < larger for smaller, larger in pairwise(chosen))


def test_no_text_is_refused():
    with pytest.raises(DataError) as raised:
        decide([], 0.1)
    assert raised.value.code == "data.no_text"
