"""Weights: what is in a checkpoint, as the learning material draws it."""

from nicegui import ui

from nudge.look import Parameter, Weights, weights
from nudge.studio import numbers, shell
from nudge.studio.kit import box, card, legend, link, message, text
from nudge.studio.pages.weights_difference import DifferenceCard
from nudge.studio.pages.weights_neighbours import NeighboursCard
from nudge.studio.pages.weights_parameter import ParameterCard
from nudge.studio.pages.weights_tree import Tree
from nudge.studio.visit import Visit

COLORS = {
    "embedding": "var(--accent)",
    "attention": "var(--blue)",
    "mlp": "color-mix(in srgb,var(--blue) 50%,var(--surface))",
    "norm": "var(--ink3)",
    "head": "color-mix(in srgb,var(--accent) 50%,var(--surface))",
    "other": "var(--line2)",
}


def build(visit: Visit) -> None:
    """Build the page. It reads a file and opens no model."""

    async def read() -> Weights:
        return await visit.ask(weights, visit.house.models.checked(visit.run or "", visit.step))

    async def fill(opened: Weights) -> None:
        await WeightsPage(visit, visit.run or "", opened).build()

    with shell.page(visit):
        shell.loading(visit, read, fill)


class WeightsPage:
    """One person's view of one file."""

    def __init__(self, visit: Visit, run: str, opened: Weights) -> None:
        self.visit, self.run, self.opened, self.t = visit, run, opened, visit.t

    async def build(self) -> None:
        self._head()
        with box("grid weights"):
            with card(self.t("weights.parameters"), self._counted(), classes="tree-card"):
                self._shares()
                self.tree = Tree(self.t, self.opened.tree, self.visit.handle(self.select))
                self._also()
            with box("stack"):
                self.parameter = ParameterCard(self)
                self.neighbours = NeighboursCard(self)
                self.difference = DifferenceCard(self)
        await self.select(self.opened.parameters[0])
        await self.neighbours.begin()
        await self.difference.begin()

    async def select(self, parameter: Parameter) -> None:
        """Show one parameter, and mark it in the tree."""
        self.tree.mark(parameter.name)
        await self.parameter.show(parameter)

    def _head(self) -> None:
        t, opened = self.t, self.opened
        with box("hs wrap file"):
            text(f"{self.run} / {opened.path.name}", "mono m")
            text(numbers.size(opened.n_bytes), "ink2 num")
            text(", ".join(sorted({p.dtype for p in opened.parameters})), "ink2")
            key = opened.checksum.replace(" ", "_")
            text(t(f"weights.checksum.{key}"), "tag bl" if opened.verified else "tag")
            box("gr")
            self._steps()
            link(t("weights.open_inside"), self.visit.href("inside", step=opened.step), "q-btn ghost small")
        for note in opened.notes:
            message(note)

    def _steps(self) -> None:
        """The other checkpoints of the run."""
        steps = self.visit.house.models.steps(self.run)
        if self.opened.step not in steps:
            return
        named = {step: self.t("ui.step", step=numbers.whole(step)) for step in steps}
        chooser = ui.select(named, value=self.opened.step).props("outlined dense options-dense")
        chooser.props["aria-label"] = self.t("weights.checkpoint")
        chooser.on_value_change(lambda event: ui.navigate.to(self.visit.href(step=event.value)))

    def _counted(self) -> str:
        n, tensors = numbers.whole(self.opened.total), numbers.whole(len(self.opened.parameters))
        return self.t("weights.counted", n=n, tensors=tensors)

    def _shares(self) -> None:
        groups = self.opened.groups
        with box("shares"):
            for group, share in groups.items():
                box(style=f"flex:{max(share, 0.002):.4f} 0 0;background:{COLORS[group]}")
        labels = [
            (f"{self.t(f'weights.group.{group}')} {numbers.percent(share)}", group) for group, share in groups.items()
        ]
        legend(*((label, COLORS[group], "square") for label, group in labels))

    def _also(self) -> None:
        """What else the file keeps: the optimizer's state and the step, which resuming needs."""
        t, opened = self.t, self.opened
        box("hr", style="margin:16px 0")
        text(t("weights.also"), "b s13", tag="h3", style="margin-bottom:8px")
        with box("also"):
            for stored in opened.optimizer:
                with box():
                    name = t(f"weights.role.{stored.name}") if t.has(f"weights.role.{stored.name}") else stored.name
                    text(name, "s12 ink3")
                    text(f"{numbers.count(stored.n, t.language)} · {stored.dtype}", "s13 num m")
            for key, value in (("step", opened.step), ("tokens_seen", opened.tokens_seen)):
                if value is not None:
                    with box():
                        text(t(f"weights.{key}"), "s12 ink3")
                        text(numbers.whole(value), "s13 num m")
        if not opened.optimizer:
            text(t("weights.no_optimizer"), "s13 ink2")
