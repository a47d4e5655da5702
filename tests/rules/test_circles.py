"""No module needs itself, in however many steps. Imports within functions and those for types alone count, too."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
PASS_ON = {"nudge", "nudge.look"}  # packages that hand out the names of other modules: an import counts as of its home


def sources() -> dict[str, ast.Module]:
    """Every module of the package by its full name."""
    found = {}
    for path in (SOURCE / "nudge").rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Everything that is imported anywhere in a module, as (module, name in it); the name is "" for a whole module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "the package imports by full names"
            assert node.level == 0, "the package imports by full names"
            yield from ((node.module, alias.name) for alias in node.names)


def import_graph(modules: dict[str, ast.Module]) -> dict[str, set[str]]:
    """What each module imports of the package."""
    homes = {package: {name: home for home, name in imported(modules[package])} for package in PASS_ON & set(modules)}

    def home(module: str, name: str) -> str:
        within = f"{module}.{name}"
        return within if within in modules else homes.get(module, {}).get(name, module)

    return {
        module: {home(*pair) for pair in imported(tree)} & set(modules) - {module}
        for module, tree in modules.items()
        if module not in PASS_ON
    }


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One of the circles, its first module again at the end; [] if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))  # from the importing module to the imported one
    return []


def test_no_module_needs_itself():
    graph = import_graph(sources())
    assert len(graph) > 100, "the package was not found"
    assert not (found := circle(graph)), " imports ".join(found)


def test_hidden_imports_are_seen():
    texts = {
        "nudge.look": "from nudge.look.weights import Weights as Weights",
        "nudge.look.weights": "def show():\n    from nudge.studio import page",
        "nudge.studio": "",
        "nudge.studio.page": "if TYPE_CHECKING:\n    from nudge.look import Weights\nfrom json import loads",
    }
    graph = import_graph({name: ast.parse(text) for name, text in texts.items()})
    assert graph["nudge.studio.page"] == {"nudge.look.weights"}
    assert graph["nudge.look.weights"] == {"nudge.studio.page"}
    assert circle(graph) in (
        ["nudge.look.weights", "nudge.studio.page", "nudge.look.weights"],
        ["nudge.studio.page", "nudge.look.weights", "nudge.studio.page"],
    )
