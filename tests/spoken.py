"""Every kind of tokenizer with a small network that speaks it, for the tests of what other programs read."""

import pytest
from tests.networks import random_network

from nudge.config import ModelConfig
from nudge.data import tokenizer as tokenizers
from nudge.data.tokenizer import Tokenizer
from nudge.infer.engine import LanguageModel

KINDS = ("bytes", "chars", "bpe", "gpt2", "cl100k")
PUBLISHED = {"gpt2": "gpt2.tiktoken", "cl100k": "cl100k_base.tiktoken"}
CONTEXT = 128
TEXTS = (
    "",
    "First Citizen:\nBefore we proceed any further, hear me speak.\n",
    "이 영화는 정말 재미있었다!! ㅋㅋㅋ 한글과 English, 그리고 숫자 12345.",
    "def f(x):\n\treturn  x  # 🙂👩‍👩‍👧‍👦\n\n\n    if x:\r\n\r\n        pass\n  \n   ",
    "  two  spaces, 'quotes', I'll we'VE don't --- ... a_b  \u00a0\u3000\u200b ſ 'ſ é e\u0301",
    "\n",
    "a\n  ",
)
PROMPTS = ("", "First", "이 영화는 정말", "def f(x):\n")


def spoken(kind: str, request: pytest.FixtureRequest) -> Tokenizer:
    """A tokenizer of each kind; those that learn did so from TEXTS. The published ones skip where they are not here."""
    if kind in PUBLISHED:
        return tokenizers.load(request.getfixturevalue("shared_data") / PUBLISHED[kind])
    if kind == "chars":
        return tokenizers.chars(TEXTS)
    return tokenizers.train_bpe(TEXTS * 3, 400) if kind == "bpe" else tokenizers.get(kind)


def speaker(tokenizer: Tokenizer, *, n_unused: int = 3) -> LanguageModel:
    """A random network that says many different things, with rows in its embedding that stand for no text."""
    config = ModelConfig(n_layer=2, n_head=4, n_embd=32, block_size=CONTEXT, vocab_size=tokenizer.vocab_size + n_unused)
    return LanguageModel(random_network(config, spread=10.0, positions=5.0), tokenizer)


def greedy(model: LanguageModel, prompt: str, n_tokens: int) -> tuple[list[int], list[int]]:
    """What the model reads for a prompt, and the likeliest tokens after it."""
    ids = model.prompt_ids(prompt)
    return ids, list(model.tokens(ids, max_tokens=n_tokens, temperature=0))
