"""Every error nudge raises on purpose.

```
NudgeError            code + message + hint; the command line prints message and hint and exits with 2
├── ConfigError       an unknown key, a value out of range, settings that do not fit together
├── DataError         text or token shards: missing, empty, binary, too short, out of range
├── TokenizerError    a vocabulary that is missing, damaged or does not fit
├── CheckpointError   a checkpoint that is missing, damaged, foreign or does not fit
├── FormatError       import from or export to another program's format
├── SheetError        a cheat sheet whose text cannot be read or does not fit its page
├── MachineError      not enough disk or memory, no network, a device that is missing
└── RunError          a run that cannot start, resume or continue
    └── LostError     a process of a run that died or no longer answers
```

Code raises `DataError("empty", path=path)`. The error then has the code `data.empty`, which never changes, and the
message and the hint of that code in errors.toml. The command line also prints an OSError of a full disk or a missing
permission in this way (cli/__init__.py). Any other exception that escapes is a bug and shows its traceback.
"""

import difflib
import functools
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, ClassVar, Self

AS_JSON = "NUDGE_ERRORS_AS_JSON"  # if it is set, the command line prints its final error also as JSON: see `to_json`


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error message, or the error's class name if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@functools.cache
def catalog() -> dict[str, dict[str, dict[str, str]]]:
    """Return the wording of every error: {"data": {"empty": {"message": ..., "hint": ...}}}. See errors.toml."""
    return tomllib.loads(Path(__file__).with_name("errors.toml").read_text(encoding="utf-8"))


class NudgeError(Exception):
    """An expected failure: its `code`, a `message` (what was expected, what came), and a `hint` (what to type next).

    `name` is the last part of the code, `values` fill the placeholders of its wording, and `where` is put in front of
    the message.
    """

    family: ClassVar[str]  # the first part of the code: a table of errors.toml

    def __init__(self, name: str, /, *, where: str = "", **values: Any) -> None:
        self.name, self.where, self.values = name, where, values
        self.code = f"{self.family}.{name}"
        self.message, self.hint = self.worded(catalog()[self.family][name], values)
        super().__init__(self.message)

    def worded(self, wording: Mapping[str, str], values: Mapping[str, Any]) -> tuple[str, str]:
        """Return the message and the hint in a wording, which may be of another language, as may be the values."""
        typed = {key: shlex.quote(str(one)) if isinstance(one, PurePath) else one for key, one in values.items()}
        message, hint = wording["message"].format_map(values), wording.get("hint", "").format_map(typed)
        return self.where + message, hint  # in the hint, a path may have a space in it

    def within(self, where: str) -> Self:
        """Return the same error with `where` in front of its message: `process 1: ...`."""
        return type(self)(self.name, where=where + self.where, **self.values)

    def __reduce__(self) -> tuple[Any, ...]:
        # A measurement in a process of its own (estimate/calibration.py) hands its error over as a pickle.
        return _rebuild, (type(self), self.name, self.where, self.values)


def _rebuild(kind: type[NudgeError], name: str, where: str, values: dict[str, Any]) -> NudgeError:
    return kind(name, where=where, **values)


class ConfigError(NudgeError):
    """An unknown key, a value out of range, or settings that do not fit together."""

    family = "config"


class DataError(NudgeError):
    """Text or token shards that are missing, empty, binary, too short or out of range."""

    family = "data"


class TokenizerError(NudgeError):
    """A vocabulary that is missing, damaged or does not fit."""

    family = "tokenizer"


class CheckpointError(NudgeError):
    """A checkpoint that is missing, damaged, foreign or does not fit."""

    family = "checkpoint"


class FormatError(NudgeError):
    """A file of another program that cannot be read or written."""

    family = "format"


class SheetError(NudgeError):
    """A cheat sheet whose text cannot be read or does not fit its page."""

    family = "sheet"


class MachineError(NudgeError):
    """Not enough disk or memory, no network, or a device that is missing."""

    family = "machine"


class RunError(NudgeError):
    """A run that cannot start, resume or continue."""

    family = "run"


class LostError(RunError):
    """A process of a run that died or no longer answers. `reports_error`: this surviving process prints the error."""

    def __init__(self, name: str, /, *, where: str = "", reports_error: bool = True, **values: Any) -> None:
        super().__init__(name, where=where, **values)
        self.reports_error = reports_error


def to_json(error: NudgeError) -> dict[str, Any]:
    """Return an error for another process, which words it in the language of its user: see `from_json`."""
    plain = {key: one if isinstance(one, str | int | float) else str(one) for key, one in error.values.items()}
    paths = {key: {"path": str(one)} for key, one in error.values.items() if isinstance(one, PurePath)}
    return {"code": error.code, "where": error.where, "values": plain | paths}


def from_json(written: Mapping[str, Any]) -> NudgeError:
    """Return the error that `to_json` wrote. Raises: ValueError, KeyError, TypeError or AttributeError for others."""
    family, name = written["code"].split(".")
    kinds = {kind.family: kind for kind in NudgeError.__subclasses__()}
    values = {key: Path(one["path"]) if isinstance(one, dict) else one for key, one in written["values"].items()}
    return kinds[family](name, where=written["where"], **values)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint with up to three close matches, `did you mean 'train.lr'?`, or all known words if none is close."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(name) for name in close) + "?"
    return "one of: " + ", ".join(known)
