"""Weights: the parameters as a tree, and the share of each part."""

from collections.abc import Callable
from functools import partial
from typing import Any

from nicegui import ui
from nicegui.element import Element

from nudge.look import Node, Weights
from nudge.studio.components import box, icon, mark, shape_of, state, text, track
from nudge.studio.visit import Visit
from nudge.util import formatting

COLORS = {  # of the groups, in this order
    "embedding": "var(--accent)",
    "attention": "var(--blue)",
    "mlp": "color-mix(in srgb,var(--blue) 50%,var(--surface))",
    "norm": "var(--ink3)",
    "head": "color-mix(in srgb,var(--accent) 50%,var(--surface))",
    "other": "var(--muted-bar)",
}
N_ROWS = 300  # below one branch: a file may hold any number of names


def share_bar(weights: Weights, visit: Visit) -> None:
    """Add one bar of all parameters, divided into groups."""
    t, groups = visit.t, weights.groups
    shares = [(t(f"weights.branch.{group}"), groups[group], COLORS[group]) for group in COLORS if group in groups]
    label = ", ".join(f"{name} {formatting.percent(share)}" for name, share, _ in shares)
    with box("shares", role="img", aria_label=f"{t('weights.share_of_groups')}: {label}"):
        for _, share, color in shares:
            box(style=f"flex:{share:.6f} 1 0;background:{color}")
    with box("hs wrap shares-legend"):
        for name, share, color in shares:
            with box("hs"):
                box("sw square", style=f"background:{color}")
                text(name, "s13 ink2")
                text(formatting.percent(share), "s13 num m")


class Tree:
    """The tree of a file's parameters. `choose` is called with a leaf's name.

    The rows below a branch are built when it is opened for the first time.
    """

    def __init__(self, weights: Weights, visit: Visit, choose: Callable[[str], Any]) -> None:
        self.visit, self.t, self.choose = visit, visit.t, choose
        self.rows: dict[str, Element] = {}  # by the node's name
        self.below: dict[str, Element] = {}  # the place for the rows below a branch
        self.chosen: str | None = None
        self.root = weights.tree
        with box("trow thead", aria_hidden="true"):
            heads = ("name", "role_head", "shape", "count", "share")
            for key, classes in zip(heads, ("nm", "ro", "sp", "pa", "br"), strict=True):
                text(self.t(f"weights.{key}"), classes)
            box("pc")
        with box("wtree", role="tree", aria_label=self.t("weights.tree")) as tree:
            self._row(self.root, level=1, position=1, n=1)
        tree.on("keydown", js_handler="(event) => nudgePage.tree(event)")
        self.rows[self.root.name].props["tabindex"] = 0
        self._toggle(self.root)
        for node in self.root.children:
            if node.kind == "embedding":
                self._toggle(node)

    def mark(self, name: str) -> None:
        """Mark the chosen parameter, and open the branches above it."""
        for branch in _path(self.root, name):
            if branch.name in self.below and not self.below[branch.name].visible:
                self._toggle(branch)
        for changed, chosen in ((self.chosen, False), (name, True)):
            if changed in self.rows:
                mark(self.rows[changed], chosen, "sel", aria="selected")
        self.chosen = name

    def scroll_to(self, name: str) -> None:
        """Scroll to a parameter's row, once the browser has it."""
        if name not in self.rows:  # it is only counted
            return
        place = f"getHtmlElement({self.rows[name].id})"
        ui.run_javascript(f"setTimeout(() => {place}?.scrollIntoView({{block: 'nearest'}}), 100)")

    def _toggle(self, node: Node) -> None:
        below, opening = self.below[node.name], not self.below[node.name].visible
        if not below.default_slot.children:
            self._fill(node)
        below.set_visibility(opening)
        state(self.rows[node.name], "expanded", opening)

    def _fill(self, node: Node) -> None:
        level = int(self.rows[node.name].props["aria-level"]) + 1
        with self.below[node.name]:
            for at, child in enumerate(node.children[:N_ROWS], start=1):
                self._row(child, level=level, position=at, n=len(node.children))
            if len(node.children) > N_ROWS:
                more = len(node.children) - N_ROWS
                text(self.t("weights.more_rows", n=more), "s12 ink3", style=f"padding:8px 8px 8px {20 * level}px")

    def _row(self, node: Node, *, level: int, position: int, n: int) -> None:
        t, is_leaf = self.t, node.parameter is not None
        name = f"weights.branch.{node.label}"
        label = t(name) if not is_leaf and t.has(name) else node.label
        row = box("trow", role="treeitem", tabindex=-1, aria_level=level, aria_posinset=position, aria_setsize=n)
        self.rows[node.name] = row
        if not is_leaf:
            state(row, "expanded", False)
            self.below[node.name] = box(role="group")
            self.below[node.name].set_visibility(False)
        clicked = partial(self.choose, node.name) if is_leaf else partial(self._toggle, node)
        row.on("click", self.visit.handle(clicked))
        with row:
            with box("hs nm", style=f"padding-left:{20 * (level - 1)}px"):
                if not is_leaf:
                    icon("arrow_right", "fold-mark")
                text(label, "leaf cut" if is_leaf else "grp cut", title=node.name)
            shape = shape_of(node.parameter.shape) if node.parameter else ""
            for shown, classes in ((t(f"weights.role.{node.kind}"), "ro"), (shape, "sp")):
                text(shown, classes, title=shown)
            text(formatting.count(node.n, t.language), "pa", title=formatting.whole(node.n))
            with box("br"):
                track(node.share, "leaf" if is_leaf else "", place="bar")
            text(formatting.percent(node.share), "pc")


def _path(node: Node, name: str) -> list[Node]:
    """Return the branches above a leaf, the root first; an empty list if there is no such leaf."""
    for child in node.children:
        if child.parameter is not None and child.name == name:
            return [node]
        if below := _path(child, name):
            return [node, *below]
    return []
