"""tokenizer.json, the file of the `tokenizers` library: what transformers and the converters of others read text with.

Text gets the same ids as here, with one exception that is theirs by design: they turn a special token that is spelled
out in a text ("<|endoftext|>") into that token, while here ordinary text never becomes one.
"""

from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as TheirTokenizer

from nudge.data import bpe, published_vocab
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

# How their engine (Oniguruma) has to be told to split as ours does. In cl100k's pattern `{1,3}+` would mean something
# else to it and `$` stands before a newline, too; possessive or not makes no difference here, because what follows
# never matches what was taken.
_CL100K = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
    r"""|\s+\z|\s*[\r\n]|\s+(?!\S)|\s"""
)
_SPLITS = {bpe.PATTERN: bpe.PATTERN, CL100K_PATTERN: _CL100K}


def build(tokenizer: Tokenizer, vocab_size: int) -> TheirTokenizer:
    """The same tokenizer as an object of their library, with a name for each of the network's `vocab_size` ids.

    Raises: FormatError if theirs cannot do what ours does; TokenizerError if no merges lead to one of its tokens.
    """
    match tokenizer:
        case ByteTokenizer():
            theirs = _bytes(tokenizer, vocab_size)
        case CharTokenizer():
            theirs = _characters(tokenizer, vocab_size)
        case BpeTokenizer():
            theirs = _byte_pairs(tokenizer, vocab_size)
        case _:
            raise FormatError(f"the tokenizer {tokenizer.name} has no counterpart in the tokenizers library")
    if tokenizer.has_eot:
        theirs.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in tokenizer.special])
    return theirs


def settings(tokenizer: Tokenizer, block_size: int) -> dict[str, Any]:
    """What tokenizer_config.json says: transformers takes tokenizer.json as it is, and a text ends with our token."""
    named = ("bos_token", "eos_token", "unk_token") if tokenizer.has_eot else ()
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": block_size,
        "clean_up_tokenization_spaces": False,
        **dict.fromkeys(named, EOT),
    }


def with_names(spelled: Sequence[str], tokenizer: Tokenizer, vocab_size: int) -> dict[str, int]:
    """Ids by name: the tokens of text as they are spelled, the special ones, and the ids that are never used."""
    special = {id_: text for text, id_ in tokenizer.special.items() if id_ < tokenizer.vocab_size}
    beyond = [special.get(id_, f"[UNUSED{id_}]") for id_ in range(len(spelled), vocab_size)]
    return {name: id_ for id_, name in enumerate([*spelled, *beyond])}


def _bytes(tokenizer: ByteTokenizer, vocab_size: int) -> TheirTokenizer:
    spelled = [published_vocab.printable(bytes([byte])) for byte in range(256)]
    theirs = TheirTokenizer(models.BPE(vocab=with_names(spelled, tokenizer, vocab_size), merges=[]))
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    theirs.decoder = decoders.ByteLevel()
    return theirs


def _characters(tokenizer: CharTokenizer, vocab_size: int) -> TheirTokenizer:
    """Every character is a word. One that is not in the vocabulary is an error there too."""
    stray = next((character for character in tokenizer.characters if "\ud800" <= character <= "\udfff"), None)
    if stray is not None:
        raise FormatError(
            f"the vocabulary of characters holds a byte that is not UTF-8 (0x{ord(stray) & 0xFF:02x}), which no text "
            "of another program can hold",
            "train on text that is UTF-8, or with --tokenizer bytes",
        )
    theirs = TheirTokenizer(models.WordLevel(with_names(tokenizer.characters, tokenizer, vocab_size)))
    theirs.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    theirs.decoder = decoders.Fuse()
    return theirs


def _byte_pairs(tokenizer: BpeTokenizer, vocab_size: int) -> TheirTokenizer:
    merges = [
        (published_vocab.printable(left), published_vocab.printable(right))
        for left, right in published_vocab.merges(tokenizer.tokens)
    ]
    spelled = [published_vocab.printable(token) for token in tokenizer.tokens]
    theirs = TheirTokenizer(models.BPE(vocab=with_names(spelled, tokenizer, vocab_size), merges=merges))
    theirs.decoder = decoders.ByteLevel()
    if tokenizer.pattern == GPT2_PATTERN:
        theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # splits as GPT-2 does
    elif tokenizer.pattern in _SPLITS:
        split = pre_tokenizers.Split(Regex(_SPLITS[tokenizer.pattern]), behavior="isolated")
        spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        theirs.pre_tokenizer = pre_tokenizers.Sequence([split, spell])
    else:
        raise FormatError(
            f"the tokenizer {tokenizer.name} splits text by a pattern of its own, which other programs may read "
            "otherwise",
            "the patterns of gpt2, cl100k and bpe-N are known to split alike everywhere",
        )
    return theirs
