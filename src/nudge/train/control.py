"""The way back into a running run: one word in its `control` file, read between two passes."""

import time
from typing import Literal, get_args

from nudge.errors import RunError, nearest
from nudge.runs.folder import RunFolder
from nudge.util import files

Word = Literal["pause", "resume", "save", "stop"]
POLL_S = 0.2


def tell(folder: RunFolder, word: Word) -> None:
    """Ask the process that works on this run to pause, go on, save now, or save and stop. Raises: RunError."""
    if word not in get_args(Word):
        raise RunError(f"unknown word '{word}' for a running run", nearest(word, get_args(Word)))
    files.write_text(folder.control, word + "\n")


def word(folder: RunFolder) -> str:
    """The word, or '' if there is none."""
    try:
        return folder.control.read_text(encoding="utf-8").strip()
    except OSError:  # there is none, or a shared disk is out of reach for a moment
        return ""


def heard(folder: RunFolder) -> str:
    """The word, or '' if there is none. `pause` is waited out here."""
    while (said := word(folder)) == "pause":
        time.sleep(POLL_S)
    return said


def clear(folder: RunFolder) -> None:
    """The word was heard."""
    folder.control.unlink(missing_ok=True)
