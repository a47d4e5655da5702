"""nanoGPT's meta.pkl, which lists the characters of a data set: reading and writing it.

A pickle can run code when it is loaded, and a few bytes can ask for gigabytes. This reader first walks through its
steps without taking any, and accepts only those that build dictionaries, lists, strings and numbers.
Source: nanoGPT, data/shakespeare_char/prepare.py.
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import NoReturn

from nudge.data.tokenizer import EOT, CharTokenizer
from nudge.errors import TokenizerError, first_line
from nudge.util import files

NAME = "meta.pkl"
_MOST_BYTES = 1 << 25  # enough for all of Unicode, twice
_MOST_STEPS = 1 << 23
_NUMBERS = {"BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT", "NEWTRUE", "NEWFALSE"}
_TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "SHORT_BINSTRING", "BINSTRING", "STRING", "NONE"}
_TABLES = {"EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "LIST", "APPEND", "APPENDS"}
_KEEPING = {"PUT", "BINPUT", "LONG_BINPUT"}  # an object in a numbered place
_FETCHING = {"MEMOIZE", "GET", "BINGET", "LONG_BINGET"}
_STEPS = {*_NUMBERS, *_TEXTS, *_TABLES, *_KEEPING, *_FETCHING, "PROTO", "FRAME", "MARK", "STOP"}
_IMPORTS = {"GLOBAL", "STACK_GLOBAL"}


def read(path: Path) -> CharTokenizer:
    """Read the vocabulary of a meta.pkl. It has an end-of-text token only if its last entry is "<|endoftext|>".

    Raises: TokenizerError for a file that is missing or damaged, imports code, or holds anything but sorted characters.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes are more than all characters take")
        data = path.read_bytes()
        _check_steps(data)
        meta = _PlainUnpickler(io.BytesIO(data)).load()
        texts = [meta["itos"][token] for token in range(len(meta["itos"]))]
        consistent = meta["stoi"] == {text: token for token, text in enumerate(texts)}
    except OSError as error:
        raise TokenizerError("unreadable", path=path, error=error.strerror) from error
    except _RefusedError as error:
        raise TokenizerError("unsafe_meta", path=path, name=str(error)) from error
    except Exception as error:  # damaged bytes make the unpickler raise anything
        raise TokenizerError("not_meta", path=path, error=first_line(error)) from error
    has_eot = texts[-1:] == [EOT]
    characters = texts[:-1] if has_eot else texts
    if not consistent or not characters or any(not isinstance(text, str) or len(text) != 1 for text in characters):
        raise TokenizerError("not_characters", path=path)
    if characters != sorted(characters):
        raise TokenizerError("unsorted_characters", path=path)
    return CharTokenizer(characters, has_eot=has_eot)


def write(path: Path, tokenizer: CharTokenizer) -> None:
    """Write the vocabulary as nanoGPT's prepare.py does. Raises: OSError."""
    texts = [*tokenizer.characters, EOT] if tokenizer.has_eot else tokenizer.characters
    meta = {
        "vocab_size": len(texts),
        "itos": dict(enumerate(texts)),
        "stoi": {text: token for token, text in enumerate(texts)},
    }
    with files.atomic_writer(path) as file:
        file.write(pickle.dumps(meta, protocol=4))


def _check_steps(data: bytes) -> None:
    """Check that the pickle's steps build plain values only, each no larger than the file. Raises: ValueError."""
    for number, (step, argument, _) in enumerate(pickletools.genops(data)):
        if step.name in _IMPORTS:  # where _PlainUnpickler stops too, and knows the name
            return
        if step.name not in _STEPS or number > _MOST_STEPS:
            raise ValueError(f"step {number:,} is {step.name}")
        # The unpickler makes room for every place up to the highest, and no pickle needs more places than steps.
        if step.name in _KEEPING and not (isinstance(argument, int) and argument <= number):
            raise ValueError(f"step {number:,} keeps an object in place {argument:,}")


class _RefusedError(Exception):
    """The pickle imports something, which a dictionary of characters never does."""


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that refuses every import."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise _RefusedError(f"{module}.{name}")
