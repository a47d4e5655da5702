"""YAML whose every field is checked, and whose every error names its line.

The text is composed into nodes and no further: a scalar is the text that was written, and who asks for it says what it
must be. So `no` and `2026-11-21` are what they look like, no tag builds anything, and a key given twice is seen.
"""

import math
import re
from collections.abc import Collection
from typing import TypeVar

import yaml

from nudge.errors import nearest
from nudge.sheet.inline import CONTROL, fault

Mapping = dict[str, yaml.Node]
Word = TypeVar("Word", bound=str)
LARGEST = 1e12  # beyond it, the numbers of an axis need more room than the chart


def composed(text: str, at: int) -> yaml.Node | None:
    """The YAML that begins in line `at` of the sheet; None if there is nothing.

    Raises: SheetError.
    """
    try:
        return yaml.compose("\n" * (at - 1) + text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = mark.line + 1 if mark else at
        raise fault(where, f"not YAML: {error.problem}", "key: value, and text with : or # in quotes") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise fault(at, f"not YAML: {error}".split("\n")[0], "key: value, and text with : or # in quotes") from None


def at_of(node: yaml.Node) -> int:
    """The line of the sheet where it stands."""
    return int(node.start_mark.line) + 1


def mapping(
    node: yaml.Node | None, at: int, what: str, *, required: Collection[str], known: Collection[str]
) -> Mapping:
    """Its values by key, for keys of `known` and `required`; the latter are all there.

    Raises: SheetError.
    """
    if not isinstance(node, yaml.MappingNode):
        keys = ", ".join((*required, *known))
        where = at_of(node) if node else at
        raise fault(where, f"{what}: expected keys with values, got {kind(node)}", f"keys: {keys}")
    values: Mapping = {}
    for key, value in node.value:
        word = string(key, "a key")
        if word not in (*required, *known):
            raise fault(at_of(key), f"{what} has no key {word!r}", nearest(word, (*required, *known)))
        if word in values:
            raise fault(at_of(key), f"{what}: {word!r} is given twice", "leave one")
        values[word] = value
    for word in required:
        if word not in values:
            raise fault(at_of(node), f"{what} has no {word!r}", f"add a line '{word}: ...'")
    return values


def sequence(node: yaml.Node | None, at: int, what: str) -> list[yaml.Node]:
    """Its members.

    Raises: SheetError.
    """
    if not isinstance(node, yaml.SequenceNode):
        where = at_of(node) if node else at
        raise fault(where, f"{what}: expected a list, got {kind(node)}", "[first, second], or lines that begin with -")
    return list(node.value)


def string(node: yaml.Node, what: str) -> str:
    """Its text, in one line.

    Raises: SheetError.
    """
    if not isinstance(node, yaml.ScalarNode):
        raise fault(at_of(node), f"{what}: expected text, got {kind(node)}", "text with { [ or : stands in quotes")
    text = re.sub(r"[\n\t]", " ", node.value)
    if found := CONTROL.search(text):  # written as an escape, \\x07
        raise fault(at_of(node), f"{what}: a control character U+{ord(found[0]):04X}", "delete it")
    return text


def number(node: yaml.Node, what: str, *, least: float = -LARGEST, most: float = LARGEST) -> float:
    """Its number, of `least` to `most`.

    Raises: SheetError.
    """
    text = string(node, what)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise fault(at_of(node), f"{what}: expected a number, got {text[:40]!r}", "leave out what has no value")
    if not least <= value <= most:
        raise fault(at_of(node), f"{what}: expected {least:g} to {most:g}, got {text[:40]!r}", "change it")
    return value


def pair(node: yaml.Node, what: str) -> tuple[yaml.Node, yaml.Node]:
    """Its two members.

    Raises: SheetError.
    """
    members = sequence(node, at_of(node), what)
    if len(members) != 2:
        raise fault(at_of(node), f"{what}: expected two values, got {len(members)}", "[first, second]")
    return members[0], members[1]


def boolean(node: yaml.Node, what: str) -> bool:
    """Whether it is true.

    Raises: SheetError.
    """
    return choice(node, what, ("true", "false")) == "true"


def choice(node: yaml.Node, what: str, known: Collection[Word]) -> Word:
    """Its text, one of `known`.

    Raises: SheetError.
    """
    word = string(node, what)
    for one in known:
        if one == word:
            return one
    raise fault(at_of(node), f"{what}: {word[:40]!r} is not known", nearest(word, known))


def kind(node: yaml.Node | None) -> str:
    """What it is, in words."""
    if isinstance(node, yaml.ScalarNode):
        return f"{node.value[:40]!r}"
    return "a list" if isinstance(node, yaml.SequenceNode) else "keys with values" if node else "nothing"
