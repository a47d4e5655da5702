"""Plan: the parts of a GPU's memory, and the possible layouts."""

import math
from functools import partial

from nudge.plan.layout import Layout
from nudge.plan.planner import Plan
from nudge.studio.components import bar, box, card, table, text
from nudge.studio.words import Words
from nudge.util import formatting

_ACCENT, _BLUE = "var(--accent)", "var(--blue)"


def _mixed(color: str, percent: int) -> str:
    return f"color-mix(in srgb,{color} {percent}%,var(--surface))"


COLORS = {  # of the parts of a GPU's memory: orange grows with the micro-batch, blue is the state
    "activations": _ACCENT,
    "logits": _mixed(_ACCENT, 55),
    "scratch": _mixed(_ACCENT, 25),
    "moments": _BLUE,
    "weights": _mixed(_BLUE, 70),
    "gradients": _mixed(_BLUE, 45),
    "copies": _mixed(_BLUE, 25),
    "communication": "var(--ctl)",
    "reserved": "var(--muted-bar)",
}


def memory(t: Words, plan: Plan) -> None:
    """Add the card of a GPU's memory at the peak, and of the layouts."""
    layout = plan.layout
    tokens = f"{formatting.whole(layout.micro_batch)} × {formatting.whole(plan.ask.model.block_size)}"
    together = f"{formatting.size(layout.needed_bytes)} / {formatting.capacity(layout.memory_bytes)}"
    right = partial(text, together, "s13 num m" + ("" if layout.fits else " bad"))
    whole = max(layout.memory_bytes, layout.needed_bytes)
    parts = [(name, layout.parts[name], color) for name, color in COLORS.items() if layout.parts[name]]
    with card(t("plan.memory"), t("plan.memory_note", tokens=tokens), "memory", right=right):
        with box("parts", role="img", aria_label=together):
            for _, size, color in parts:
                bar(size / whole, style=f"background:{color}")
            if layout.fits:
                text(t("plan.free", free=formatting.size(layout.free_bytes)), "free s12 ink3")
            else:
                box("end", style=f"left:{100 * layout.memory_bytes / whole:.2f}%")
        _axis(whole)
        with box("parts-legend", tag="dl"):
            for name, size, color in parts:
                with box("k"):
                    box("sw square", style=f"background:{color}")
                    text(t(f"plan.memory_of.{name}"), "s13 ink2", tag="dt")
                    text(formatting.size(size), "s13 num m", tag="dd")
        if len(plan.layouts) > 1:
            _layouts(t, plan)


def _axis(n_bytes: int) -> None:
    """Add about six marks below the bar, in gigabytes."""
    rough = n_bytes / 6e9
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= rough)
    with box("axis num", aria_hidden="true"):
        for n in range(math.floor(n_bytes / 1e9 / step) + 1):
            share = n * step * 1e9 / n_bytes
            if share <= 0.96:
                text(f"{n * step:g}", style=f"left:{100 * share:.2f}%", classes="" if n else "first")
        text(formatting.capacity(n_bytes), "last")


def _layouts(t: Words, plan: Plan) -> None:
    heads = (t(f"plan.{name}") for name in ("layout", "micro_batch", "memory", "on_a_gpu"))
    with table(*heads, classes="layouts"):
        for layout in plan.layouts:
            state, look = ("would_fit", "") if layout.fits else ("fits_not", "bad")
            if layout.fits and layout is plan.layout:
                state, look = "chosen", "tag a"
            with box("on" if layout is plan.layout else "", tag="tr"):
                text(layout_name(t, layout), tag="td")
                text(formatting.whole(layout.micro_batch), tag="td")
                text(formatting.size(layout.needed_bytes), tag="td")
                with box(tag="td"):
                    text(t(f"plan.{state}"), look, tag="span")


def layout_name(t: Words, layout: Layout) -> str:
    """Return a layout's name in the user's language."""
    return t(f"plan.kind.{layout.kind}") + (t("plan.kind.recompute") if layout.recompute else "")
