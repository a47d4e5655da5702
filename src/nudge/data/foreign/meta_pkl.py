"""nanoGPT's meta.pkl, which lists the characters of a data set: reading and writing it.

A pickle can run code when it is loaded. This reader accepts dictionaries, lists, strings and numbers, which need no
import, and refuses a pickle that imports anything.
Source: nanoGPT, data/shakespeare_char/prepare.py.
"""

import io
import pickle
from pathlib import Path
from typing import NoReturn

from nudge.data.tokenizer import EOT, CharTokenizer
from nudge.errors import TokenizerError, first_line
from nudge.util import files

NAME = "meta.pkl"
_MOST_BYTES = 1 << 25  # enough for all of Unicode, twice


def read(path: Path) -> CharTokenizer:
    """Read the vocabulary of a meta.pkl. It has an end-of-text token only if its last entry is "<|endoftext|>".

    Raises: TokenizerError for a file that is missing or damaged, imports code, or holds anything but sorted characters.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes are more than all characters take")
        meta = _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
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


class _RefusedError(Exception):
    """The pickle imports something, which a dictionary of characters never does."""


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that refuses every import."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise _RefusedError(f"{module}.{name}")
