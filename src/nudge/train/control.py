"""The control of a running run from outside: one word in its `control` file, read between two passes."""

import time
from typing import ClassVar, Literal, get_args

from nudge.distributed.world import ALONE, World
from nudge.errors import RunError, did_you_mean
from nudge.runs.folder import RunFolder
from nudge.util import files

Word = Literal["pause", "resume", "save", "stop"]
POLL_S = 0.2


def send(folder: RunFolder, word: Word) -> None:
    """Write a control word for the process that trains this run: pause, resume, save now, or save and stop.

    Raises: RunError for an unknown word; MachineError if it cannot be written, for example on a full disk.
    """
    if word not in get_args(Word):
        raise RunError("unknown_control_word", word=word, closest=did_you_mean(word, get_args(Word)))
    files.write_text(folder.control, word + "\n")


class Control:
    """The control word of a run, the same for all its processes.

    A single process reads the file whenever it needs the word. Several processes must act on the same word at the same
    moment, so they agree on one in `sync` and use it until the next `sync`. In both cases the methods wait while the
    word is `pause`.
    """

    stop_asked: ClassVar[bool] = False  # a signal asks this process to stop: it needs no disk, as a word in a file does

    def __init__(self, folder: RunFolder, world: World = ALONE) -> None:
        self.folder, self.world = folder, world
        self._agreed = ""

    def sync(self) -> None:
        """Agree on a word among several processes: on `stop` if their launcher is gone or one of them got a signal."""
        if self.world.size == 1:
            return
        while True:
            word = self._read() if self.world.is_rank0 else ""
            self._agreed = self.world.agree("stop" if self.world.is_orphan or self.stop_asked else word)
            if self._agreed != "pause":
                return
            time.sleep(POLL_S)

    def word(self) -> str:
        """Return the current word, or ''."""
        if self.world.size > 1:
            return self._agreed
        while (word := self._read()) == "pause":
            time.sleep(POLL_S)
        return word

    def clear(self) -> None:
        """Delete the control word once it has been obeyed. Raises: MachineError."""
        self._agreed = ""
        if self.world.is_rank0:
            with files.writing(self.folder.control):
                self.folder.control.unlink(missing_ok=True)

    def _read(self) -> str:
        """Return the word in the file, or ''. A signal comes first."""
        if self.stop_asked:
            return "stop"
        try:
            return self.folder.control.read_text(encoding="utf-8").strip()
        except OSError:  # there is no file, or a shared disk does not respond for a moment
            return ""
