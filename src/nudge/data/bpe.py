"""The training of a byte-pair vocabulary, by the `tokenizers` library (docs/decisions/0002-tokenizers.md)."""

import re
from collections.abc import Iterable, Iterator

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from nudge.data.published_vocab import LLAMA3_PATTERN, byte_alphabet, from_printable
from nudge.errors import TokenizerError

PATTERN = LLAMA3_PATTERN  # so that a vocabulary trained here can be exported to GGUF
MIN_VOCAB_SIZE = 257  # every byte, and the end-of-text token
LONGEST_TOKEN = 64  # bytes: longer tokens are rows of dashes and spaces that hardly ever occur again

# The library removes merged symbols from a list one by one, so a single word of a million letters would take hours.
# Merges depend on how often words occur, so cutting the few extremely long words changes next to nothing.
_LONGEST_WORD = 256
_ENDLESS = re.compile(rf"\S{{{_LONGEST_WORD},}}|\s{{{_LONGEST_WORD},}}")


def train_tokens(texts: Iterable[str], n_tokens: int) -> list[bytes]:
    """Return the 256 bytes, then up to `n_tokens - 256` learned tokens in the order of their merges.

    Little text gives fewer tokens. The bytes are in the order of gpt2 and cl100k (`byte_alphabet`: "!" is 0). The same
    texts give the same tokens with any number of threads. Raises: TokenizerError below 256 tokens.
    """
    if n_tokens < MIN_VOCAB_SIZE - 1:
        raise TokenizerError("too_small", least=MIN_VOCAB_SIZE, size=n_tokens + 1)
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens,
        initial_alphabet=sorted(byte_alphabet().values()),
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    model.train_from_iterator(_training_texts(texts), trainer)
    vocabulary = model.get_vocab()
    return [from_printable(token) for token in sorted(vocabulary, key=lambda token: vocabulary[token])]


def _training_texts(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts without invalid UTF-8, cutting runs of 256 or more (non-)spaces into pieces."""
    for text in texts:
        text = text.encode("utf-8", "ignore").decode("utf-8")
        start = 0
        for run in _ENDLESS.finditer(text):
            yield text[start : run.start()]
            yield from (text[at : at + _LONGEST_WORD] for at in range(run.start(), run.end(), _LONGEST_WORD))
            start = run.end()
        yield text[start:]
