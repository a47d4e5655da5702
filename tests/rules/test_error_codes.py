"""Every error that nudge raises has a code, and its wording has a value for each placeholder."""

import ast
import runpy
import string
from collections.abc import Iterator
from pathlib import Path

from nudge import errors

ROOT = Path(__file__).parents[2]
KINDS = {
    kind.__name__: kind.family for base in errors.NudgeError.__subclasses__() for kind in (base, *base.__subclasses__())
}
OWN = {"where", "reports_error"}  # keyword arguments that are no value of the wording


def raised() -> Iterator[tuple[str, ast.Call]]:
    """Yield (place, call) for each error that the package makes."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
            if name in KINDS:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def placeholders(wording: dict[str, str]) -> set[str]:
    parsed = (part for text in wording.values() for part in string.Formatter().parse(text))
    return {field.partition(".")[0].partition("[")[0] for _, field, *_ in parsed if field is not None}


def code(call: ast.Call) -> tuple[str, str]:
    """Return the two parts of the code of an error that is made with one name."""
    return KINDS[getattr(call.func, "attr", getattr(call.func, "id", ""))], ast.literal_eval(call.args[0])


def problem(call: ast.Call) -> str:
    """What is wrong with the arguments of an error, or nothing."""
    if len(call.args) != 1 or not isinstance(call.args[0], ast.Constant):
        return "an error takes the last part of its code, and its values by name"
    family, name = code(call)
    wording = errors.catalog().get(family, {}).get(name)
    if wording is None:
        return f"no [{family}.{name}] in errors.toml"
    given = {keyword.arg for keyword in call.keywords} - OWN
    return "" if given == placeholders(wording) else f"values {given}, placeholders {placeholders(wording)}"


def test_each_error_has_a_wording_and_its_values():
    assert not [f"{place}: {found}" for place, call in raised() if (found := problem(call))]


def test_no_wording_is_left_over():
    used = {code(call) for _, call in raised()}
    assert {(family, name) for family, names in errors.catalog().items() for name in names} == used


def test_the_page_of_errors_is_their_wording():
    page = runpy.run_path(str(ROOT / "docs" / "errors.py"))["page"]()
    assert (ROOT / "docs" / "errors.md").read_text(encoding="utf-8") == page, "run: make docs"
