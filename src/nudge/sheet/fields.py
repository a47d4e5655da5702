"""Readers that check YAML field by field, with the line of the sheet in every error.

The YAML is only parsed into nodes, whose scalars stay text; the reader of a field decides its type. So `no` and
`2026-11-21` stay text, no tag builds an object, and a repeated key is an error.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import yaml

from nudge.errors import SheetError, did_you_mean, first_line
from nudge.sheet.inline import CONTROL, line
from nudge.sheet.page import Line

Reader = Callable[[yaml.Node, str], Any]  # a field's node, and its name for error messages -> its value
Word = TypeVar("Word", bound=str)
LARGEST = 1e12  # beyond it, the tick labels of an axis need more room than the chart


class _Loader(yaml.BaseLoader):
    """A loader without anchors and aliases, with which a short text describes endless lists."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # of types-PyYAML
        if name := getattr(event, "anchor", None):  # of an alias, too
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            raise SheetError("alias", line=event.start_mark.line + 1, name=sign + name)
        return super().compose_node(parent, index)


def parse_yaml(text: str, at: int) -> yaml.Node:
    """Parse YAML that begins on line `at` of the sheet; return the root node, an empty scalar for empty text.

    Raises: SheetError.
    """
    nothing = yaml.Mark("", 0, at - 1, 0, None, 0)
    try:
        loader = _Loader(text)
        loader.line = at - 1
        node = loader.get_single_node()
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None) or nothing
        problem = getattr(error, "problem", None) or first_line(error)
        raise SheetError("not_yaml", line=mark.line + 1, problem=problem) from None
    return node or yaml.ScalarNode("", "", nothing, nothing)


def at_of(node: yaml.Node) -> int:
    """Return the line of the sheet where a node begins."""
    return int(node.start_mark.line) + 1


def record(node: yaml.Node, what: str, readers: Mapping[str, Reader], *required: str) -> dict[str, Any]:
    """Return the values of a mapping by key, each read by its key's reader.

    Raises: SheetError.
    """
    if not isinstance(node, yaml.MappingNode):
        raise SheetError("expected_keys", line=at_of(node), what=what, found=kind(node), keys=", ".join(readers))
    values: dict[str, Any] = {}
    for key_node, value in node.value:
        key = string(key_node, "a key")
        if key not in readers:
            raise SheetError(
                "unknown_key", line=at_of(key_node), what=what, key=key, closest=did_you_mean(key, readers)
            )
        if key in values:
            raise SheetError("repeated_key", line=at_of(key_node), what=what, key=key)
        values[key] = readers[key](value, key)
    for key in required:
        if key not in values:
            raise SheetError("missing_key", line=at_of(node), what=what, key=key)
    return values


def sequence(node: yaml.Node, what: str) -> list[yaml.Node]:
    """Return the items of a list.

    Raises: SheetError.
    """
    if not isinstance(node, yaml.SequenceNode):
        raise SheetError("expected_list", line=at_of(node), what=what, found=kind(node))
    return list(node.value)


def string(node: yaml.Node, what: str) -> str:
    """Return a text as one line.

    Raises: SheetError.
    """
    if not isinstance(node, yaml.ScalarNode):
        raise SheetError("expected_text", line=at_of(node), what=what, found=kind(node))
    text = re.sub(r"[\n\t]", " ", node.value)
    if found := CONTROL.search(text):  # from an escape such as \\x07
        raise SheetError("control_character", line=at_of(node), column=node.start_mark.column + 1, number=ord(found[0]))
    return text


def spans(node: yaml.Node, what: str) -> Line:
    """Return a text of inline Markdown as spans.

    Raises: SheetError.
    """
    return line(string(node, what), at=at_of(node))


def number(node: yaml.Node, what: str, *, least: float = -LARGEST, most: float = LARGEST) -> float:
    """Return a number from `least` to `most`.

    Raises: SheetError.
    """
    text = string(node, what)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SheetError("expected_number", line=at_of(node), what=what, got=text[:40])
    if not least <= value <= most:
        raise SheetError("out_of_range", line=at_of(node), what=what, least=least, most=most, got=text[:40])
    return value


def pair(node: yaml.Node, what: str) -> tuple[yaml.Node, yaml.Node]:
    """Return the two items of a list.

    Raises: SheetError.
    """
    members = sequence(node, what)
    if len(members) != 2:
        raise SheetError("expected_pair", line=at_of(node), what=what, number=len(members))
    return members[0], members[1]


def choice(node: yaml.Node, what: str, known: Collection[Word]) -> Word:
    """Return a text that is one of `known`.

    Raises: SheetError.
    """
    word = string(node, what)
    for one in known:
        if one == word:
            return one
    raise SheetError("unknown_word", line=at_of(node), what=what, word=word[:40], closest=did_you_mean(word, known))


def kind(node: yaml.Node) -> str:
    """Return a description of a node for error messages."""
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value[:40]) if node.value else "nothing"
    return "a list" if isinstance(node, yaml.SequenceNode) else "keys with values"
