"""Whether there can be a model to import. Does not import torch, so that a mistyped path is refused at once."""

import re
from pathlib import Path

from nudge.errors import FormatError

SUFFIXES = (".pt", ".bin", ".safetensors", ".gguf")


def exists(source: str) -> bool:
    """Return whether a source is a file or a folder here."""
    try:
        return Path(source).exists()
    except (OSError, ValueError):  # e.g. too long for a file name
        return False


def check_source(source: str) -> None:
    """Check that a source is here, or can be a name on the Hugging Face Hub. Raises: FormatError."""
    is_name = re.fullmatch(r"[\w.-]{1,96}(/[\w.-]{1,96})?", source) and not source.endswith(SUFFIXES)
    if not exists(source) and not is_name:
        raise FormatError("not_found", source=source[:200])
