"""The way back into a running run: one word in its `control` file, read between two passes."""

import time
from typing import Literal, get_args

from nudge.distributed.world import ALONE, World
from nudge.errors import RunError, did_you_mean
from nudge.runs.folder import RunFolder
from nudge.util import files

Word = Literal["pause", "resume", "save", "stop"]
POLL_S = 0.2


def tell(folder: RunFolder, word: Word) -> None:
    """Ask the process that works on this run to pause, go on, save now, or save and stop. Raises: RunError."""
    if word not in get_args(Word):
        raise RunError("unknown_control_word", word=word, closest=did_you_mean(word, get_args(Word)))
    files.write_text(folder.control, word + "\n")


class Control:
    """The control file of a run, as all its processes see it.

    A single process reads the file whenever it needs the word. Several must act on the same word at the same moment, so
    they agree on one in `sync`, and it holds until the next `sync`. A `pause` is waited out in both cases.
    """

    def __init__(self, folder: RunFolder, world: World = ALONE) -> None:
        self.folder, self.world = folder, world
        self._agreed = ""

    def sync(self) -> None:
        """Let several processes agree on a word. If their launcher is gone, they agree on `stop`."""
        if self.world.size == 1:
            return
        while True:
            word = self._read() if self.world.is_rank0 else ""
            self._agreed = self.world.agree("stop" if self.world.is_orphan else word)
            if self._agreed != "pause":
                return
            time.sleep(POLL_S)

    def word(self) -> str:
        """Return the word that holds now, or ''."""
        if self.world.size > 1:
            return self._agreed
        while (word := self._read()) == "pause":
            time.sleep(POLL_S)
        return word

    def clear(self) -> None:
        """Remove the word: it was acted on."""
        self._agreed = ""
        if self.world.is_rank0:
            self.folder.control.unlink(missing_ok=True)

    def _read(self) -> str:
        try:
            return self.folder.control.read_text(encoding="utf-8").strip()
        except OSError:  # there is no file, or a shared disk is out of reach for a moment
            return ""
