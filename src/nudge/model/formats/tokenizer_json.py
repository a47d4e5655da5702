"""tokenizer.json, the file of the `tokenizers` library: what transformers and the converters of others read text with.

Text gets the same ids as here, with one exception that is theirs by design: they turn a special token that is spelled
out in a text ("<|endoftext|>") into that token, while here ordinary text never becomes one.
"""

from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as TheirTokenizer

from nudge.data import bpe, ranks
from nudge.data.tokenizer import (
    CL100K_PATTERN,
    EOT,
    GPT2_PATTERN,
    BpeTokenizer,
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
)
from nudge.errors import FormatError

# cl100k's pattern, as their engine reads it: there `++` and `?+` are not possessive in every place (they need not be
# here: what follows never matches what they took), and `$` also stands before a newline, where `\z` does not.
_CL100K = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
    r"""|\s+\z|\s*[\r\n]|\s+(?!\S)|\s"""
)
_SPLITS = {bpe.PATTERN: bpe.PATTERN, CL100K_PATTERN: _CL100K}


def build(tokenizer: Tokenizer) -> TheirTokenizer:
    """The same tokenizer as an object of their library. Raises: FormatError if theirs cannot do what ours does."""
    match tokenizer:
        case ByteTokenizer():
            theirs = _bytes()
        case CharTokenizer():
            theirs = _characters(tokenizer)
        case BpeTokenizer():
            theirs = _byte_pairs(tokenizer)
        case _:
            raise FormatError(f"the tokenizer {tokenizer.name} has no counterpart in the tokenizers library")
    if tokenizer.has_eot:
        theirs.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in tokenizer.special])
    return theirs


def settings(tokenizer: Tokenizer, block_size: int) -> dict[str, Any]:
    """What tokenizer_config.json says: transformers takes tokenizer.json as it is, and a text ends with our token."""
    ends = {"bos_token": EOT, "eos_token": EOT} if tokenizer.has_eot else {}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": block_size,
        "clean_up_tokenization_spaces": False,
        **ends,
    }


def _bytes() -> TheirTokenizer:
    vocab = {ranks.printable(bytes([byte])): byte for byte in range(256)}
    theirs = TheirTokenizer(models.BPE(vocab=vocab, merges=[]))
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    theirs.decoder = decoders.ByteLevel()
    return theirs


def _characters(tokenizer: CharTokenizer) -> TheirTokenizer:
    """Every character is a word. One that is not in the vocabulary is an error there too."""
    stray = next((character for character in tokenizer.characters if "\ud800" <= character <= "\udfff"), None)
    if stray is not None:
        raise FormatError(
            f"the vocabulary of characters holds a byte that is not UTF-8 (0x{ord(stray) & 0xFF:02x}), which no text "
            "of another program can hold",
            "train on text that is UTF-8, or with --tokenizer bytes",
        )
    theirs = TheirTokenizer(models.WordLevel({character: id_ for id_, character in enumerate(tokenizer.characters)}))
    theirs.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    theirs.decoder = decoders.Fuse()
    return theirs


def _byte_pairs(tokenizer: BpeTokenizer) -> TheirTokenizer:
    merges = [(ranks.printable(left), ranks.printable(right)) for left, right in ranks.merges(tokenizer.tokens)]
    vocab = {ranks.printable(token): id_ for id_, token in enumerate(tokenizer.tokens)} | tokenizer.special
    theirs = TheirTokenizer(models.BPE(vocab=vocab, merges=merges))
    if tokenizer.pattern == GPT2_PATTERN:
        theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # splits as GPT-2 does
    elif tokenizer.pattern in _SPLITS:
        theirs.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_SPLITS[tokenizer.pattern]), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    else:
        raise FormatError(
            f"the tokenizer {tokenizer.name} splits text by a pattern of its own, which other programs may read "
            "otherwise",
            "the patterns of gpt2, cl100k and bpe-N are known to split alike everywhere",
        )
    theirs.decoder = decoders.ByteLevel()
    return theirs
