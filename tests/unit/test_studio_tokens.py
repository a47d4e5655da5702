"""Tokens as the studio shows them: nothing is lost, nothing is a lone U+FFFD."""

import functools
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nudge.data import bpe
from nudge.data import tokenizer as tokenizers
from nudge.data.tokenizer import EOT, BpeTokenizer, Tokenizer, bytes_of
from nudge.studio.pages.weights_rows import find, first_token
from nudge.studio.tokens import Group, Shown, groups, matching_tokens, n_unfinished, show, show_each, words_of
from nudge.studio.words import Words

ENGLISH = Words("en")
BYTES = tokenizers.ByteTokenizer()


@functools.cache
def gappy() -> BpeTokenizer:
    """A vocabulary of merged bytes with a hole, two special tokens and padding, as cl100k has."""
    tokens = bpe.train_tokens(["구글에서 시니어 엔지니어를 채용합니다. The dog ran.\n\tx\n" * 40], 330)
    special = {EOT: len(tokens) + 2, "<|fim_prefix|>": len(tokens) + 3}
    return BpeTokenizer("own", tokens, pattern=bpe.PATTERN, special=special, vocab_size=len(tokens) + 6)


def all_tokenizers() -> list[Tokenizer]:
    return [BYTES, gappy(), tokenizers.chars(["한글 aé\n\ufffd" + b"\xff".decode("utf-8", "surrogateescape")])]


@st.composite
def sequences(draw: st.DrawFn) -> tuple[Tokenizer, list[int]]:
    """Any ids of a vocabulary, beyond its end too; or those of a text, cut anywhere."""
    tokenizer = draw(st.sampled_from(all_tokenizers()))
    any_ids = st.lists(st.integers(0, tokenizer.vocab_size + 3), max_size=40)
    if tokenizer.kind == "chars":
        return tokenizer, draw(any_ids)
    texts = st.text(st.sampled_from(list("구글 aé😀\n<\ufffd늘")), max_size=20).map(tokenizer.encode)
    ids = draw(st.one_of(any_ids, texts))
    return tokenizer, ids[draw(st.integers(0, len(ids))) :]


@given(case=sequences())
def test_groups_hold_every_token_once_and_in_order(case: tuple[Tokenizer, list[int]]) -> None:
    tokenizer, ids = case
    for cut in (groups(tokenizer, ids), words_of(tokenizer, ids)):
        assert [token for group in cut for token in group.tokens] == ids
        assert [group.first for group in cut] == [sum(len(g.tokens) for g in cut[:at]) for at in range(len(cut))]
        "".join(group.text for group in cut).encode()  # no lone surrogate, which no page can be sent


@given(case=sequences())
def test_groups_are_whole_characters_and_as_short_as_can_be(case: tuple[Tokenizer, list[int]]) -> None:
    tokenizer, ids = case
    for group in groups(tokenizer, ids):
        pieces = [bytes_of(tokenizer, token) or b"" for token in group.tokens]
        assert (group.text == "") == (pieces == [b""])
        assert ("\ufffd" in group.text) == ("\ufffd".encode() in b"".join(pieces))
        borders = [piece[0] for piece in pieces[1:]]
        assert all(0x80 <= byte < 0xC0 for byte in borders)  # each border inside cuts a character


@given(case=sequences())
def test_text_that_is_whole_is_shown_as_it_is(case: tuple[Tokenizer, list[int]]) -> None:
    tokenizer, ids = case
    data = b"".join(bytes_of(tokenizer, token) or b"" for token in ids)
    stray = any("\udc80" <= c <= "\udcff" for c in data.decode("utf-8", "surrogateescape"))
    has_gap = any(not bytes_of(tokenizer, token) for token in ids)
    assume(not stray and not has_gap)
    assert "".join(group.text for group in groups(tokenizer, ids)) == data.decode()


@given(case=sequences())
def test_every_label_says_something_and_no_label_obeys(case: tuple[Tokenizer, list[int]]) -> None:
    tokenizer, ids = case
    labels = show_each(tokenizer, ids, ENGLISH)
    assert [item.id for item in labels] == ids
    for item in [*labels, *(show(tokenizer, token, ENGLISH) for token in ids)]:
        assert item.label
        assert item.label.replace("◌", "").isprintable()
        assert "\ufffd" not in item.label
        assert item.hex == (bytes_of(tokenizer, item.id) or b"").hex(" ").upper()


@given(text=st.text(st.sampled_from(list("구a é😀")), max_size=8), more=st.integers(1, 4))
def test_a_stream_waits_for_the_rest_of_a_character_only(text: str, more: int) -> None:
    ids = BYTES.encode(text)
    assert n_unfinished(BYTES, ids) == 0
    begun = BYTES.encode("늘")[: more - 1]
    assert n_unfinished(BYTES, ids + begun) == len(begun) % 3
    assert n_unfinished(BYTES, [*ids, 0xEB, BYTES.eot]) == 0
    assert n_unfinished(BYTES, [*ids, 0xEB, 0x41]) == 0


def test_one_token_by_itself() -> None:
    own = gappy()
    assert show(BYTES, 0x20, ENGLISH) == Shown(label="·", kind="text", id=0x20, hex="20")
    assert show(BYTES, 0x0A, ENGLISH).label == "⏎"
    assert show(BYTES, 0x09, ENGLISH).label == "⇥"
    assert show(BYTES, 0x00, ENGLISH).label == "␀"
    assert show(BYTES, 0xEB, ENGLISH) == Shown(label="<EB>", kind="bytes", id=0xEB, hex="EB")
    assert show(BYTES, 256, ENGLISH) == Shown(label="⟨end of text⟩", kind="special", id=256, hex="")
    assert show(BYTES, 300, ENGLISH).kind == "empty"
    assert show(own, own.special["<|fim_prefix|>"], ENGLISH).label == "⟨fim_prefix⟩"
    assert show(own, len(own.tokens), ENGLISH) == Shown(label="⟨no text⟩", kind="empty", id=len(own.tokens), hex="")


def test_a_syllable_of_three_tokens() -> None:
    ids = BYTES.encode("a늘")
    assert groups(BYTES, ids) == (
        Group(text="a", tokens=(0x61,), first=0),
        Group(text="늘", tokens=(0xEB, 0x8A, 0x98), first=1),
    )
    assert [item.label for item in show_each(BYTES, ids, ENGLISH)] == ["a", "늘 1 of 3", "늘 2 of 3", "늘 3 of 3"]
    assert [item.kind for item in show_each(BYTES, ids, ENGLISH)] == ["text", "part", "part", "part"]


def test_a_special_token_ends_a_character() -> None:
    cut = groups(BYTES, [0xEB, 0x8A, 256, 0x98])
    assert [group.text for group in cut] == ["<EB>", "<8A>", "", "<98>"]


@pytest.mark.parametrize("tokenizer", [BYTES, tokenizers.chars(["구글에서 시니어\n\n x, y"])])
def test_words_begin_with_their_space(tokenizer: Tokenizer) -> None:
    words = words_of(tokenizer, [tokenizer.eot, *tokenizer.encode("구글에서 시니어\n\n x, y")])
    assert [word.text for word in words] == ["", "구글에서", " 시니어", "\n\n x,", " y"]


def test_published_vocabulary_cuts_syllables(shared_data: Path) -> None:
    gpt2 = tokenizers.get(str(shared_data / "gpt2.tiktoken"))
    ids = gpt2.encode("다 늘 bank")
    assert [group.text for group in groups(gpt2, ids)] == ["다", " 늘", " bank"]
    labels = [item.label for item in show_each(gpt2, ids, ENGLISH)]
    assert labels == ["다 1–2 of 3", "다 3 of 3", "·늘 1 of 3", "늘 2 of 3", "늘 3 of 3", "·bank"]
    cl100k = tokenizers.get(str(shared_data / "cl100k_base.tiktoken"))
    assert show(cl100k, 100256, ENGLISH).kind == "empty"
    assert show(cl100k, 100258, ENGLISH).label == "⟨fim_prefix⟩"


def test_what_a_text_may_mean() -> None:
    own = gappy()
    size = own.vocab_size
    dog = own.encode(" dog")
    assert len(dog) == 1
    for wanted in ("·dog", "dog"):
        exact, containing = matching_tokens(own, wanted, size)
        assert dog[0] in exact
        assert dog[0] in containing
    assert matching_tokens(own, f"#{size - 1}", size) == ([size - 1], [])
    assert matching_tokens(own, f"#{size}", size) == ([], [])
    assert matching_tokens(tokenizers.chars(["ab"]), "z", 3) == ([], [])
    for wanted in ("·dog", f"#{dog[0]}"):  # a network may have fewer tokens than its tokenizer
        assert matching_tokens(own, wanted, dog[0])[0] == []
    for size in (1, dog[0], own.vocab_size):
        assert first_token(own, size) < size
        assert all(token < size for token in find(own, "dog", size))
