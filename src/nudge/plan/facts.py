"""The TOML files beside this module: each table becomes a dataclass, and is checked when it is read.

The files are part of the package, so a mistake in one is a bug: it raises ValueError and shows its traceback.
"""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

T = TypeVar("T")


@cache
def read(name: str) -> dict[str, Any]:
    """Return the tables of a file, which is read only once."""
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def rows(kind: type[T], tables: Sequence[Mapping[str, Any]]) -> tuple[T, ...]:
    """Make one instance of a dataclass from each table. Raises: ValueError, as `row` does."""
    return tuple(row(kind, table) for table in tables)


def row(kind: type[T], values: Mapping[str, Any]) -> T:
    """Make an instance of a dataclass from a table.

    Raises: ValueError for an unknown or missing key (also an empty source), or a value of the wrong type.
    """
    hints = typing.get_type_hints(kind)
    what = f"{kind.__name__} {next(iter(values.values()), '')!r}"
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # every kind is a dataclass
        if field.default is dataclasses.MISSING and values.get(field.name, "") == "":
            raise ValueError(f"{what} has no '{field.name}'")
    for key, value in values.items():
        if key not in hints:
            raise ValueError(f"{what} has an unknown key '{key}'")
        if not _is_a(value, hints[key]):
            raise ValueError(f"{what}: {key} cannot be {value!r}, expected {hints[key]}")
    return kind(**values)


def _is_a(value: object, hint: Any) -> bool:
    """Return whether a value has that type. A whole number is also a float."""
    if isinstance(hint, types.UnionType):
        return any(_is_a(value, option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if hint in (int, float):
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint)
