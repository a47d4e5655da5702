"""Inside: the pipeline from tokens to probabilities, as a line with branches. A block unfolds, a stage opens."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from nicegui.element import Element

from nudge.look import Trace
from nudge.studio.components import box, card, icon, image, legend, mark, pressable, shape, shape_of, state, svg, text
from nudge.studio.pages.inside_stage import StagePanel, picture
from nudge.studio.pages.inside_view import InsideView

Node = Literal["first", "main", "last", "block", "open", "branch", "plus"]
ROWS, COLUMNS = 24, 96  # of a strip in a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of the pipeline: the key of its label, its drawing, and its stages. It shows the first stage."""

    key: str
    node: Node
    stages: tuple[str, ...]
    is_tensor: bool = False  # its label is the name of a tensor and not a word


def before_blocks(*, rotary: bool) -> tuple[Line, ...]:
    """Return the rows in which tokens become vectors; with rotary positions there is no table of positions."""
    tables = ("embedding", "wte") if rotary else ("embedding", "wte", "wpe")
    return (
        Line(key="tokens", node="first", stages=("tokens",)),
        Line(key="wte" if rotary else "wte_wpe", node="main", stages=tables, is_tensor=True),
    )


def of_block(i: int) -> tuple[Line, ...]:
    """Return the rows of an unfolded block."""

    def named(*parts: str) -> tuple[str, ...]:
        return tuple(f"blocks.{i}.{part}" for part in parts)

    attention = ("attn.out", "attn.q", "attn.k", "attn.v", "attn.scores", "attn.pattern", "attn.heads")
    return (
        Line(key="ln_1", node="open", stages=named("ln_1"), is_tensor=True),
        Line(key="attention", node="branch", stages=named(*attention)),
        Line(key="add_attention", node="plus", stages=named("mid")),
        Line(key="ln_2", node="open", stages=named("ln_2"), is_tensor=True),
        Line(key="mlp", node="branch", stages=named("mlp.out", "mlp.pre", "mlp.post")),
        Line(key="add_mlp", node="plus", stages=named("out")),
    )


AFTER_BLOCKS = (
    Line(key="ln_f", node="main", stages=("ln_f",), is_tensor=True),
    Line(key="logits", node="main", stages=("logits",)),
    Line(key="softmax", node="last", stages=("probabilities",)),
)


class Pipeline:
    """The card. At most one block is unfolded and one stage open."""

    def __init__(self, view: InsideView) -> None:
        self.view, self.t = view, view.t
        self.config = view.opened.network.config
        self.rows: dict[str, Row] = {}  # by the name of the first stage
        self.blocks: list[tuple[Element, Row, Element]] = []
        self.unfolded: int | None = None
        self.open: tuple[Row, StagePanel] | None = None
        t = self.t
        n_layer = self.config.n_layer
        colors = (("−", "var(--blue)", "square"), ("0", "var(--sunken)", "square"), ("+", "var(--accent)", "square"))
        with card(t("inside.pipeline"), classes="pipeline", right=partial(legend, *colors)) as element:
            self.note = text("", "s12 ink3", style="margin:-12px 0 12px")
            self._add(*before_blocks(rotary=self.config.rotary))
            with box("many" if n_layer > 12 else ""):
                for i in range(n_layer):
                    self._add_block(i)
            self._add(*AFTER_BLOCKS)
            self.strips_note = text("", "s12 ink3", style="margin-top:12px")
        self.element = element
        self._unfold(n_layer // 2)  # only here: a block that the user folds stays folded for the next text

    def _add(self, *lines: Line) -> None:
        for line in lines:
            self.rows[line.stages[0]] = Row(self, line)

    def _add_block(self, i: int) -> None:
        with box("folds") as element:
            row = Row(self, Line(key="block", node="block", stages=(f"blocks.{i}.out",)), block=i)
            inner = box()
        self.blocks.append((element, row, inner))

    async def show(self) -> None:
        """Fill every row with the values of another trace."""
        T = len(self.view.trace.tokens)
        n_layer, C = self.config.n_layer, self.config.n_embd
        self.note.text = self.t("inside.pipeline_note", tokens=T, channels=C, blocks=n_layer)
        self.strips_note.text = self._which_values(T)
        rows = [*(row for _, row, _ in self.blocks), *self.rows.values()]
        await self.view.show_in_turn(partial(self._fill, rows, key="strips"), self._show_panel)

    async def _show_panel(self) -> None:
        if self.open is not None:
            await self.open[1].show()

    def _which_values(self, T: int) -> str:
        every = -(-self.config.n_embd // COLUMNS)
        rows = -(-T // ROWS)
        channels = self.t("inside.every_channel") if every == 1 else self.t("inside.nth_channel", n=every)
        tokens = self.t("inside.line_per_token") if rows == 1 else self.t("inside.nth_token", n=rows)
        return f"{channels} {tokens} {self.t('inside.open_a_stage')}"

    async def _fill(self, rows: "list[Row]", *, key: str) -> None:
        sources = await self.view.ask(pictures, [row.line.stages[0] for row in rows], key=key)
        for row, source in zip(rows, sources, strict=True):
            row.show(source, self.view.trace.stage(row.line.stages[0]).shape)

    async def toggle_block(self, i: int) -> None:
        """Unfold a block and fold the other one, or fold it."""
        await self.unfold(None if self.unfolded == i else i)

    async def unfold(self, i: int | None) -> None:
        if i == self.unfolded:
            return
        inside = [name for name, row in self.rows.items() if row.in_block]
        if self.open is not None and self.open[0].in_block:
            self._close()
        for name in inside:
            del self.rows[name]
        self._unfold(i)
        if i is not None:
            await self._fill([row for row in self.rows.values() if row.in_block], key="strips of the block")

    def _unfold(self, i: int | None) -> None:
        """Unfold a block, without values yet."""
        for j, (element, row, inner) in enumerate(self.blocks):
            if j in (self.unfolded, i):
                inner.clear()
            row.expanded(j == i)
            mark(element, j == i, "unfolded")
        self.unfolded = i
        if i is not None:
            with self.blocks[i][2]:
                for line in of_block(i):
                    self.rows[line.stages[0]] = Row(self, line, in_block=True)

    async def toggle_stage(self, row: "Row") -> None:
        """Open a stage under its row and close the other one, or close it."""
        if self._close() is not row:
            row.expanded(True)
            with row.place:
                self.open = row, StagePanel(self.view, row.line.stages, called=row.label)
            await self._show_panel()

    def _close(self) -> "Row | None":
        """Close the open stage and return its row."""
        if self.open is None:
            return None
        row, self.open = self.open[0], None
        row.place.clear()
        row.expanded(False)
        return row


class Row:
    """A row, and the place under it where its stage opens."""

    def __init__(self, pipeline: Pipeline, line: Line, *, block: int | None = None, in_block: bool = False) -> None:
        t, handle = pipeline.t, pipeline.view.visit.handle
        self.line, self.in_block = line, in_block
        config = pipeline.config
        sizes = {"heads": config.n_head, "C": config.n_embd, "F": 4 * config.n_embd, "n": block}
        self.label = t(f"inside.row.{line.key}", **sizes)
        details = t(f"inside.detail.{line.key}", **sizes)
        action = partial(pipeline.toggle_stage, self) if block is None else partial(pipeline.toggle_block, block)
        self.button = pressable(handle(action), "", f"pr at-{line.node}", aria_label=f"{self.label}: {details}")
        self.expanded(False)
        with self.button:
            _draw(line.node)
            with box("vs what"):
                text(self.label, "n mono s13" if line.is_tensor else "n")
                if line.node != "block":
                    text(details, "d")
            self.strip = image("", "strip", alt="")
            self.shape = text("", "sh")
            icon("expand_more", "chev")
        branch = line.node in ("open", "branch")
        self.place = box(f"under{' beside-line' if branch else ''}{' ends' if line.node == 'last' else ''}")
        self.alt = t("inside.strip_of", name=self.label)

    def expanded(self, yes: bool) -> None:
        state(self.button, "expanded", yes)

    def show(self, source: str, shape: tuple[int, ...]) -> None:
        self.strip.props.update({"src": source, "alt": self.alt})
        self.shape.text = shape_of(shape)


def pictures(trace: Trace, names: list[str]) -> list[str]:
    """Return a strip of each of these stages."""
    return [picture(trace.stage(name), trace.strip(name, rows=ROWS, columns=COLUMNS), trace) for name in names]


# The drawing: the residual stream is the line at STREAM, a branch is the line at BRANCH.
STREAM, BRANCH, HEIGHT = 14, 34, 50
_MIDDLE = HEIGHT // 2
Shape = tuple[str, dict[str, object]]  # tag, attributes


def _path(d: str, stroke: str = "var(--line2)") -> Shape:
    return "path", {"d": d, "fill": "none", "stroke": stroke, "stroke_width": 2, "stroke_linecap": "round"}


def _circle(x: int, radius: int, fill: str, stroke: str = "none", width: float = 0) -> Shape:
    return "circle", {"cx": x, "cy": _MIDDLE, "r": radius, "fill": fill, "stroke": stroke, "stroke_width": width}


_SQUARE = {"x": STREAM - 7, "y": _MIDDLE - 7, "width": 14, "height": 14, "rx": 4}
_LINE, _DOT = _path(f"M{STREAM} 0V{HEIGHT}"), _circle(STREAM, 5, "var(--ink2)")
_DRAWINGS: dict[Node, tuple[Shape, ...]] = {
    "first": (_path(f"M{STREAM} {_MIDDLE}V{HEIGHT}"), _DOT),
    "main": (_LINE, _DOT),
    "last": (_path(f"M{STREAM} 0V{_MIDDLE}"), _DOT),
    "block": (_LINE, ("rect", {**_SQUARE, "fill": "var(--surface)", "stroke": "var(--ink2)", "stroke_width": 1.5})),
    "open": (  # a copy of the stream leaves it
        _LINE,
        _path(f"M{STREAM} -6C{STREAM} 6 {BRANCH} 6 {BRANCH} 16V{HEIGHT}", "var(--blue)"),
        _circle(BRANCH, 4, "var(--surface)", "var(--blue)", 2),
    ),
    "branch": (_LINE, _path(f"M{BRANCH} 0V{HEIGHT}", "var(--blue)"), _circle(BRANCH, 4, "var(--blue)")),
    "plus": (  # the result is added to the stream
        _LINE,
        _path(f"M{BRANCH} 0C{BRANCH} 16 {STREAM + 12} {_MIDDLE} {STREAM + 9} {_MIDDLE}", "var(--blue)"),
        _circle(STREAM, 9, "var(--surface)", "var(--ink2)", 1.5),
        _path(f"M{STREAM - 4} {_MIDDLE}H{STREAM + 4}M{STREAM} {_MIDDLE - 4}V{_MIDDLE + 4}", "var(--ink)"),
    ),
}


def _draw(node: Node) -> None:
    with svg(44, HEIGHT, "node"):
        for tag, attributes in _DRAWINGS[node]:
            shape(tag, **attributes)
