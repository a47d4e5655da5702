"""Facts in TOML files beside this module: each becomes a dataclass, and is checked when it is read."""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from nudge.errors import ConfigError, nearest

T = TypeVar("T")


@cache
def read(name: str) -> dict[str, Any]:
    """The tables of one of the files, which is read once."""
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def rows(kind: type[T], tables: Sequence[Mapping[str, Any]]) -> tuple[T, ...]:
    """Make one of that dataclass from each table. Raises: ConfigError, as `row` does."""
    return tuple(row(kind, table) for table in tables)


def row(kind: type[T], values: Mapping[str, Any]) -> T:
    """Make one of that dataclass.

    Raises: ConfigError for an unknown key, one that is missing (a source above all), or a value of another type.
    """
    hints = typing.get_type_hints(kind)
    what = f"{kind.__name__} {next(iter(values.values()), '')!r}"
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # every kind is a dataclass
        if field.default is dataclasses.MISSING and values.get(field.name, "") == "":
            raise ConfigError(f"{what} has no '{field.name}'", f"give it one: {field.name} = ...")
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(f"{what} has an unknown key '{key}'", nearest(key, hints))
        if not _is_a(value, hints[key]):
            raise ConfigError(f"{what}: {key} cannot be {value!r}", f"expected {hints[key]}")
    return kind(**values)


def _is_a(value: object, hint: Any) -> bool:
    """Whether the value is of that type. A whole number is a float, too."""
    if isinstance(hint, types.UnionType):
        return any(_is_a(value, option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if hint in (int, float):
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint)
