"""Inside: an open stage: its role, its shape, its values, and the arithmetic of one value."""

from nudge.look import Arithmetic, Stage, Strip, Trace, explain
from nudge.studio.components import box, choice, pairs, refill, text
from nudge.studio.pages.inside_arithmetic import show_arithmetic
from nudge.studio.pages.inside_cells import Cells
from nudge.studio.pages.inside_view import InsideView
from nudge.studio.pictures import Values, full_color, signs_png, sizes_png
from nudge.studio.tokens import show
from nudge.studio.words import Words
from nudge.util.formatting import percent, significant, whole

ROWS, COLUMNS = 32, 96
SIZES = ("attn.pattern", "probabilities")  # shares, never below 0


class StagePanel:
    """The panel under the row `called`. It shows one of the row's stages, at first the first one."""

    def __init__(self, view: InsideView, stages: tuple[str, ...], *, called: str) -> None:
        self.view, self.t = view, view.t
        self.name = stages[0]
        self.head = view.head
        self.strip: Strip | None = None
        self.trace: Trace | None = None  # of the strip
        t, handle = self.t, view.visit.handle
        with box("panel"):
            if len(stages) > 1:
                names = {name: name.rsplit(".", 1)[-1] for name in stages}
                choice(names, self.name, handle(self._choose), label=t("inside.value_of", name=called))
            self.role = text("", "s13 ink2")
            with box("hs", style="gap:8px") as self.heads:
                text(t("inside.head"), "s12 ink2 m")
                numbers = {str(head): str(head) for head in range(view.opened.network.config.n_head)}
                choice(numbers, str(self.head), handle(self._choose_head), label=t("inside.head"), classes="wrap tiny")
            self.facts = box()
            self.cells = Cells(self._cell, label=t("inside.cells"), handle=handle)
            self.which = text("", "s12 ink3")
            self.made = box()

    async def _choose(self, name: str) -> None:
        self.name = name
        await self.show()

    async def _choose_head(self, head: str) -> None:
        self.head = int(head)
        await self.show()

    @property
    def stage(self) -> Stage:
        return self.view.trace.stage(self.name)

    async def show(self) -> None:
        """Show the values of the stage, then the chosen value's arithmetic, then the range of all values."""
        t, stage, shown = self.t, self.stage, (self.name, self.head)
        has_heads = len(stage.shape) == 3
        self.role.text = t(f"inside.role.{stage.kind}")
        self.heads.set_visibility(has_heads)
        strip, source = await self.view.ask(look, self.name, self.head, key="stage")
        if shown != (self.name, self.head):  # another stage was chosen meanwhile
            return
        self.strip, self.trace = strip, self.view.trace
        n_rows, n_columns = strip.values.shape if stage.kind != "tokens" else strip.values.T.shape
        self.cells.element.style(f"height:{min(20, max(6, 200 // n_rows)) * n_rows}px")
        self.cells.show(source, n_rows, n_columns, alt=t("inside.strip_of", name=self.name))
        self.which.text = which_values(strip, stage, t)
        self._show_facts("…")
        await self.view.show_in_turn(self._show_cell, self._show_range)

    async def _show_cell(self) -> None:
        await self._cell(self.cells.row, self.cells.column)

    async def _show_range(self) -> None:
        t, stage, shown = self.t, self.stage, (self.name, self.head)
        low, high = await self.view.ask(_extremes, *shown, key="extremes")
        if shown != (self.name, self.head):
            return
        ends = [whole(end) if stage.kind == "tokens" else significant(end) for end in (low, high)]
        self._show_facts(t("inside.from_to", low=ends[0], high=ends[1]))

    def _show_facts(self, extremes: str) -> None:
        t, shape = self.t, f"[{', '.join(map(whole, self.stage.shape))}]"
        with refill(self.facts):
            rows = (t("inside.name"), self.name), (t("inside.shape"), shape), (t("inside.range"), extremes)
            pairs(*rows, classes="facts")

    async def _cell(self, row: int, column: int) -> None:
        if self.strip is None or self.trace is not self.view.trace:  # the strip is still of another text
            return
        index = self._index(self.strip, row, column)
        made = await self.view.ask(explain, self.name, index, key="cell")
        with refill(self.made):
            show_arithmetic(made, self.t, self.view.labels, place=self._place(made))

    def _index(self, strip: Strip, row: int, column: int) -> tuple[int, ...]:
        """Return the index in the stage of a cell of the picture."""
        n_axes = len(self.stage.shape)
        if n_axes == 1:
            return (column * strip.row_stride,)
        index = (row * strip.row_stride, column * strip.column_stride)
        return (self.head, *index) if n_axes == 3 else index

    def _place(self, made: Arithmetic) -> str:
        """Return the index in words: which token, which channel."""
        t, kind = self.t, self.stage.kind
        *head, token, last = made.index if len(made.index) > 1 else (made.index[0], 0)
        parts = [t("inside.head_n", n=head[0])] if head else []
        parts.append(t("inside.token_n", n=str(token), token=self.view.labels[token]))
        if kind in ("attn.scores", "attn.pattern"):
            parts.append(t("inside.looks_at", n=str(last), token=self.view.labels[last]))
        elif kind in ("logits", "probabilities"):
            parts.append(f"“{show(self.view.opened.tokenizer, last, t).label}”")
        elif kind != "tokens":
            parts.append(t(f"inside.term.{'unit' if kind in ('mlp.pre', 'mlp.post') else 'channel'}", n=str(last)))
        if kind in SIZES:
            parts.append(percent(made.value))
        return " · ".join(parts)


def look(trace: Trace, name: str, head: int) -> tuple[Strip, str]:
    """Return the values of a stage that the panel shows, and their picture."""
    stage = trace.stage(name)
    rows = COLUMNS if stage.kind == "tokens" else ROWS  # the ids lie side by side
    strip = trace.strip(name, rows=rows, columns=COLUMNS, head=_head_of(stage, head))
    return strip, picture(stage, strip, trace)


def _extremes(trace: Trace, name: str, head: int) -> tuple[float, float]:
    return trace.extremes(name, _head_of(trace.stage(name), head))


def _head_of(stage: Stage, head: int) -> int | None:
    return head if len(stage.shape) == 3 else None


def picture(stage: Stage, strip: Strip, trace: Trace) -> str:
    """Return the picture of a strip: shares in cividis, values of both signs by hue."""
    values: Values = strip.values.float().cpu().numpy()
    if stage.kind == "tokens":
        return sizes_png(values.T, trace.network.config.vocab_size - 1)
    if stage.kind in SIZES:
        return sizes_png(values, float(values.max()))
    return signs_png(values, full_color(values))


def which_values(strip: Strip, stage: Stage, t: Words) -> str:
    """Return a note on which values of the stage the picture shows."""
    if stage.kind == "tokens":
        return t("inside.every_id") if strip.row_stride == 1 else t("inside.nth_id", n=strip.row_stride)
    rows = t("inside.line_per_token") if strip.row_stride == 1 else t("inside.nth_token", n=strip.row_stride)
    if strip.column_stride > 1:
        columns = t("inside.nth_column", n=strip.column_stride)
    else:
        columns = t("inside.all_shown" if strip.row_stride == 1 else "inside.all_columns")
    if stage.kind in SIZES:
        return f"{columns} {rows}"
    full = full_color(strip.values.float().cpu().numpy())
    return f"{columns} {rows} {t('inside.full_color', n=significant(full, 2))}"
