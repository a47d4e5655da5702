"""Weights: the tree of parameters. A branch is built when it is opened first, so 48 blocks cost nothing."""

from collections.abc import Awaitable, Callable

from nicegui.element import Element

from nudge.look import Node, Parameter
from nudge.studio import numbers
from nudge.studio.kit import bar, box, icon, text
from nudge.studio.words import Words

OPEN = ("model weights", "embedding", "blocks.0")  # at first


class Tree:
    """Rows with name, role, shape, count and share; branches fold, leaves are chosen."""

    def __init__(self, t: Words, root: Node, choose: Callable[[Parameter], Awaitable[None]]) -> None:
        self.t, self._choose = t, choose
        self._leaves: dict[str, Element] = {}
        self._marked = ""
        with box("trow thead"):
            for column in ("name", "role", "shape", "count", "share"):
                text(t(f"weights.column.{column}"), column)
        with box("tree", role="tree", aria_label=t("weights.parameters")):
            self._node(root, depth=0)

    def mark(self, name: str) -> None:
        """Show which parameter is looked at."""
        if self._marked in self._leaves:
            self._leaves[self._marked].classes(remove="on")
        self._marked = name
        if name in self._leaves:
            self._leaves[name].classes(add="on")

    def _node(self, node: Node, depth: int) -> None:
        row = box("trow", tag="button", type="button", role="treeitem", aria_level=depth + 1)
        with row:
            with box("name", style=f"padding-left:{20 * depth}px"):
                if node.children:
                    icon("chevron_right", "chev")
                branch = "grp" if node.children else "leaf"
                text(self._label(node), branch, title=node.name)
            role = f"weights.role.{node.kind}"
            text(self.t(role) if self.t.has(role) else node.role, "role")
            text(_shape(node.parameter), "shape")
            text(numbers.count(node.n, self.t.language), "count")
            with box("share"):
                with box("bar"):
                    bar(node.share, "leafbar" if node.parameter else "")
                text(numbers.percent(node.share) if node.share >= 0.001 else "< 0.1%", "pc")
        if node.parameter is not None:
            self._leaf(row, node.parameter)
        else:
            self._branch(row, node, depth)

    def _label(self, node: Node) -> str:
        key = f"weights.branch.{node.kind}"
        return self.t(key) if node.children and self.t.has(key) else node.label

    def _leaf(self, row: Element, parameter: Parameter) -> None:
        self._leaves[parameter.name] = row
        if parameter.name == self._marked:
            row.classes(add="on")
        row.on("click", lambda: self._choose(parameter))

    def _branch(self, row: Element, node: Node, depth: int) -> None:
        children = box(role="group")
        built = False

        def toggle() -> None:
            nonlocal built
            now_open = row.props.get("aria-expanded") != "true"
            row.props["aria-expanded"] = "true" if now_open else "false"
            children.set_visibility(now_open)
            if now_open and not built:
                built = True
                with children:
                    for child in node.children:
                        self._node(child, depth + 1)

        row.props["aria-expanded"] = "false"
        children.set_visibility(False)
        row.on("click", toggle)
        if node.name in OPEN or node.kind == "head":
            toggle()


def _shape(parameter: Parameter | None) -> str:
    return f"[{', '.join(map(str, parameter.shape))}]" if parameter else ""
