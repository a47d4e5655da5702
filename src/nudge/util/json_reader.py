"""Read JSON from disk or from others: a value of the type that the caller names, or one error that says what is wrong.

    bytes, up to a limit -> Python's own parser, made strict -> msgspec: the values have the types of a dataclass

Nothing is converted ("257" is no number), and fields that the dataclass lacks are left out: a newer version may write
more. docs/decisions/0014-json.md says why two libraries.
"""

import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from nudge.errors import NudgeError, RunError, first_line
from nudge.util import files

T = TypeVar("T")

LARGEST = 16 << 20  # bytes of a file or of a line: 1,000 times what runs write
LARGEST_VOCABULARY = 256 << 20  # a million tokens take 30 MB


def read(path: Path, kind: type[T], *, at_most: int = LARGEST) -> T:
    """Return the value of a JSON file. Raises: RunError if it cannot be read, or is not of this kind."""
    try:
        with path.open("rb") as file:
            n_bytes = os.fstat(file.fileno()).st_size
            if n_bytes > at_most:
                raise ValueError(f"it has {n_bytes:,} bytes, expected at most {at_most:,}")
            data = file.read(n_bytes)  # and no more: a device has no end
        return convert(parse(data), kind)
    except (OSError, ValueError, NudgeError) as error:
        raise RunError("unreadable_json", path=path, error=first_line(error)) from error


def read_lines(path: Path, kind: type[T]) -> Iterator[T]:
    """Yield the values of a JSON-lines file in order; skip lines that were cut off or are not of this kind."""
    for line in lines(path):
        value = convert_line(line, kind)
        if value is not None:
            yield value


def convert_line(line: bytes, kind: type[T]) -> T | None:
    """Return the value of a line, or None if it is not of this kind."""
    try:
        return convert(parse(line), kind)
    except ValueError:
        return None


def lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file; none if it is missing. A line that is too long comes in pieces, which are no JSON.

    Raises: RunError if it cannot be read.
    """
    try:
        if files.exists(path):
            with path.open("rb") as file:
                yield from iter(lambda: file.readline(LARGEST), b"")
    except OSError as error:
        raise RunError("unreadable_json", path=path, error=first_line(error)) from error


def parse(data: bytes, *, surrogates: bool = False) -> Any:
    """Parse JSON as its standard has it; a byte-order mark before it is ignored.

    Raises: ValueError, also for nesting that is too deep.

    Refused besides wrong syntax: NaN and Infinity, numbers beyond 64 bits, a key that an object has twice, and, without
    `surrogates`, text that no encoding can hold.
    """
    text = data.decode("utf-8-sig")
    try:
        value = _DECODER.decode(text)
        if not surrogates and "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"a text in it has {error.object[error.start]!r}, which is no character") from error
    except RecursionError as error:
        raise ValueError("its brackets are nested too deep") from error
    return value


def convert(value: Any, kind: type[T]) -> T:
    """Return a parsed value as a dataclass or another type. Raises: ValueError that names the field."""
    import msgspec  # here, because it would slow down 'nudge train --help'

    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(_describe(str(error))[:300]) from error
    except RecursionError as error:
        raise ValueError("its brackets are nested too deep") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"it has the key {max(keys, key=keys.count)[:40]!r} twice")
    return found


def _int(digits: str) -> int:
    number = int(digits) if len(digits) <= 20 else 1 << 64
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"the number {digits[:20]}... has more than 64 bits")
    return number


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:20]} is too large")
    return number


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_int, parse_float=_float, parse_constant=_no_constant)

_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
}


def _describe(message: str) -> str:
    """Return msgspec's message in our words: "'model.vocab_size' is text, expected a whole number"."""
    what, _, place = message.partition(" - at `")
    place = place.rstrip("`").removeprefix("$").removeprefix(".")
    what = re.sub(
        r"`([^`]*)`", lambda found: " or ".join(_NAMES.get(name, name) for name in found[1].split(" | ")), what
    )
    if missing := re.fullmatch(r"Object missing required field (.*)", what):
        return f"'{'.'.join(filter(None, (place, missing[1])))}' is missing"
    if wrong := re.fullmatch(r"Expected (.*), got (.*)", what):
        return f"{f'{place!r}' if place else 'it'} is {wrong[2]}, expected {wrong[1]}"
    return f"{place!r}: {what[:1].lower()}{what[1:]}" if place else what
