from itertools import pairwise

import pytest

from nudge.data.split import FEW, Split, decide
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
    texts = ["long " * 1000, "short", "brief"]
    assert sorted(val_texts(texts)) == ["brief", "short"]
    even = [f"{number:04d}" * 25 for number in range(50)]
    assert len(val_texts(even)) == 5


def test_both_sides_get_something():
    for number in range(20):
        texts = [f"{number} a", f"{number} b"]
        assert len(val_texts(texts)) == 1
    assert val_texts(["x" * 100, "y" * 50]) == ["y" * 50]


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
