"""tokenizer.json, the file of the `tokenizers` library, which transformers and other programs load.

Text gets the same ids as in nudge, with one exception by design: the library turns "<|endoftext|>" in a text into the
special token, while in nudge ordinary text never becomes one.
"""

from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as HfTokenizer

from nudge.data import bpe, published_vocab
from nudge.data.published_vocab import CL100K_PATTERN, GPT2_PATTERN, to_printable
from nudge.data.tokenizer import EOT, BpeTokenizer, CharTokenizer, Tokenizer
from nudge.errors import FormatError

# The pattern with which the library's engine (Oniguruma) splits as tiktoken does with cl100k's original pattern. In
# Oniguruma `{1,3}+` has another meaning, and `$` also matches before a newline. Possessive quantifiers make no
# difference here, because what follows one never matches the characters that it took.
_CL100K = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
    r"""|\s+\z|\s*[\r\n]|\s+(?!\S)|\s"""
)
_SPLITS = {bpe.PATTERN: bpe.PATTERN, CL100K_PATTERN: _CL100K}


def build(tokenizer: Tokenizer, vocab_size: int) -> HfTokenizer:
    """Convert a tokenizer to the `tokenizers` library, with a name for each of the network's `vocab_size` ids.

    Raises: FormatError if the library cannot reproduce it; TokenizerError if no merges produce one of its tokens.
    """
    if isinstance(tokenizer, CharTokenizer):
        converted = _character_tokenizer(tokenizer, vocab_size)
    else:
        converted = _byte_level_tokenizer(tokenizer, vocab_size)
    if tokenizer.has_eot:
        converted.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in tokenizer.special])
    return converted


def transformers_settings(tokenizer: Tokenizer, block_size: int) -> dict[str, Any]:
    """Return the content of tokenizer_config.json: transformers uses tokenizer.json unchanged, with our end-of-text."""
    roles = ("bos_token", "eos_token", "unk_token") if tokenizer.has_eot else ()
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": block_size,
        "clean_up_tokenization_spaces": False,
        **dict.fromkeys(roles, EOT),
    }


def printable_vocabulary(tokenizer: Tokenizer) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the tokens of text and the merges that produce them, with each byte as a printable character."""
    tokens = tokenizer.tokens if isinstance(tokenizer, BpeTokenizer) else [bytes([byte]) for byte in range(256)]
    merges = published_vocab.merges(tokens)
    pairs = [(to_printable(left), to_printable(right)) for left, right in merges]
    return [to_printable(token) for token in tokens], pairs


def name_ids(tokens: Sequence[str], tokenizer: Tokenizer, vocab_size: int) -> dict[str, int]:
    """Return ids by name: the `tokens` of text, the special tokens, and the ids that are never used."""
    special = {id_: text for text, id_ in tokenizer.special.items() if id_ < tokenizer.vocab_size}
    beyond = [special.get(id_, f"[UNUSED{id_}]") for id_ in range(len(tokens), vocab_size)]
    return {name: id_ for id_, name in enumerate([*tokens, *beyond])}


def _character_tokenizer(tokenizer: CharTokenizer, vocab_size: int) -> HfTokenizer:
    """Build a tokenizer in which every character is a word. A character outside the vocabulary is an error."""
    stray = next((character for character in tokenizer.characters if "\ud800" <= character <= "\udfff"), None)
    if stray is not None:
        raise FormatError("stray_byte", byte=ord(stray) & 0xFF)
    converted = HfTokenizer(models.WordLevel(name_ids(tokenizer.characters, tokenizer, vocab_size)))
    converted.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    converted.decoder = decoders.Fuse()
    return converted


def _byte_level_tokenizer(tokenizer: Tokenizer, vocab_size: int) -> HfTokenizer:
    tokens, merges = printable_vocabulary(tokenizer)
    converted = HfTokenizer(models.BPE(vocab=name_ids(tokens, tokenizer, vocab_size), merges=merges))
    converted.pre_tokenizer = _pre_tokenizer(tokenizer)
    converted.decoder = decoders.ByteLevel()
    return converted


def _pre_tokenizer(tokenizer: Tokenizer) -> pre_tokenizers.PreTokenizer:
    """Return the step that splits text as ours does and makes its bytes printable. Raises: FormatError."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if not isinstance(tokenizer, BpeTokenizer):
        return byte_level
    if tokenizer.pattern == GPT2_PATTERN:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)  # splits as GPT-2 does
    if tokenizer.pattern in _SPLITS:
        split = pre_tokenizers.Split(Regex(_SPLITS[tokenizer.pattern]), behavior="isolated")
        return pre_tokenizers.Sequence([split, byte_level])
    raise FormatError("own_split", tokenizer=tokenizer.name)
