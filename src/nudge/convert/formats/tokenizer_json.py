"""tokenizer.json, the file of the `tokenizers` library, which transformers and other converters read text with.

Text gets the same ids as here, with one exception by design: the library turns a special token that is spelled out in
a text ("<|endoftext|>") into that token, while in nudge ordinary text never becomes one.
"""

from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as HfTokenizer

from nudge.data import bpe, published_vocab
from nudge.data.published_vocab import CL100K_PATTERN, GPT2_PATTERN, printable
from nudge.data.tokenizer import EOT, BpeTokenizer, CharTokenizer, Tokenizer
from nudge.errors import FormatError

# The pattern with which their engine (Oniguruma) splits as ours does. In cl100k's own, `{1,3}+` means something else to
# it, and `$` also matches before a newline. Possessive or not makes no difference here, because what follows never
# matches what was taken.
_CL100K = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
    r"""|\s+\z|\s*[\r\n]|\s+(?!\S)|\s"""
)
_SPLITS = {bpe.PATTERN: bpe.PATTERN, CL100K_PATTERN: _CL100K}


def build(tokenizer: Tokenizer, vocab_size: int) -> HfTokenizer:
    """Return the same tokenizer as an object of their library, with a name for each of the network's `vocab_size` ids.

    Raises: FormatError if the library cannot reproduce it; TokenizerError if no merges lead to one of its tokens.
    """
    if isinstance(tokenizer, CharTokenizer):
        converted = _characters(tokenizer, vocab_size)
    else:
        converted = _byte_level(tokenizer, vocab_size)
    if tokenizer.has_eot:
        converted.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in tokenizer.special])
    return converted


def settings(tokenizer: Tokenizer, block_size: int) -> dict[str, Any]:
    """Return tokenizer_config.json: transformers uses tokenizer.json unchanged, and a text ends with our token."""
    named = ("bos_token", "eos_token", "unk_token") if tokenizer.has_eot else ()
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": block_size,
        "clean_up_tokenization_spaces": False,
        **dict.fromkeys(named, EOT),
    }


def spelled(tokenizer: Tokenizer) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the tokens of text and the merges that lead to them, each byte as a printable character."""
    tokens = tokenizer.tokens if isinstance(tokenizer, BpeTokenizer) else [bytes([byte]) for byte in range(256)]
    merges = published_vocab.merges(tokens)
    return [printable(token) for token in tokens], [(printable(left), printable(right)) for left, right in merges]


def with_names(tokens: Sequence[str], tokenizer: Tokenizer, vocab_size: int) -> dict[str, int]:
    """Return ids by name: the `tokens` of text, the special ones, and the ids that are never used."""
    special = {id_: text for text, id_ in tokenizer.special.items() if id_ < tokenizer.vocab_size}
    beyond = [special.get(id_, f"[UNUSED{id_}]") for id_ in range(len(tokens), vocab_size)]
    return {name: id_ for id_, name in enumerate([*tokens, *beyond])}


def _characters(tokenizer: CharTokenizer, vocab_size: int) -> HfTokenizer:
    """Make every character a word. One that is not in the vocabulary is an error there too."""
    stray = next((character for character in tokenizer.characters if "\ud800" <= character <= "\udfff"), None)
    if stray is not None:
        raise FormatError("stray_byte", byte=ord(stray) & 0xFF)
    converted = HfTokenizer(models.WordLevel(with_names(tokenizer.characters, tokenizer, vocab_size)))
    converted.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    converted.decoder = decoders.Fuse()
    return converted


def _byte_level(tokenizer: Tokenizer, vocab_size: int) -> HfTokenizer:
    tokens, merges = spelled(tokenizer)
    converted = HfTokenizer(models.BPE(vocab=with_names(tokens, tokenizer, vocab_size), merges=merges))
    converted.pre_tokenizer = _split(tokenizer)
    converted.decoder = decoders.ByteLevel()
    return converted


def _split(tokenizer: Tokenizer) -> pre_tokenizers.PreTokenizer:
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if not isinstance(tokenizer, BpeTokenizer):
        return spell
    if tokenizer.pattern == GPT2_PATTERN:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)  # splits as GPT-2 does
    if tokenizer.pattern in _SPLITS:
        split = pre_tokenizers.Split(Regex(_SPLITS[tokenizer.pattern]), behavior="isolated")
        return pre_tokenizers.Sequence([split, spell])
    raise FormatError("own_split", tokenizer=tokenizer.name)
