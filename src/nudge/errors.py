"""Every error nudge raises on purpose.

```
NudgeError            message + hint; the command line prints both and exits with 2
├── ConfigError       an unknown key, a value out of range, settings that do not fit each other
├── DataError         text or token shards: missing, empty, binary, too short, out of range
├── TokenizerError    a vocabulary that is missing, damaged or does not fit
├── CheckpointError   a checkpoint that is missing, damaged, foreign or does not fit
├── FormatError       import from or export to another program's format
├── SheetError        a cheat sheet whose text cannot be read or does not fit its page
├── MachineError      not enough disk or memory, no network, a device that is not there
└── RunError          a run that cannot start, resume or go on
    └── LostError     one of a run's processes died or no longer answers
```

Anything else that escapes is a bug and shows its traceback.
"""

import difflib
from collections.abc import Iterable


def first_line(error: BaseException) -> str:
    """The first line of what an error of another library says, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class NudgeError(Exception):
    """What went wrong (expected, got) in `message`; what to type next in `hint`."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type["NudgeError"], tuple[str, str]]:
        # Exceptions cross process borders (data preparation) by pickling their constructor's arguments.
        return type(self), (self.message, self.hint)


class ConfigError(NudgeError):
    """An unknown key, a value out of range, or settings that do not fit each other."""


class DataError(NudgeError):
    """Text or token shards that are missing, empty, binary, too short or out of range."""


class TokenizerError(NudgeError):
    """A vocabulary that is missing, damaged or does not fit."""


class CheckpointError(NudgeError):
    """A checkpoint that is missing, damaged, foreign or does not fit."""


class FormatError(NudgeError):
    """A file of another program that cannot be read or written."""


class SheetError(NudgeError):
    """A cheat sheet whose text cannot be read or does not fit its page."""


class MachineError(NudgeError):
    """Not enough disk or memory, no network, or a device that is not there."""


class RunError(NudgeError):
    """A run that cannot start, resume or go on."""


class LostError(RunError):
    """One of a run's processes died or no longer answers. `speaks`: of those that are left, this one should tell it."""

    def __init__(self, message: str, hint: str = "", *, speaks: bool = True) -> None:
        super().__init__(message, hint)
        self.speaks = speaks


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the closest known words: `did you mean 'train.lr'?`."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(name) for name in close) + "?"
    return "one of: " + ", ".join(known)
