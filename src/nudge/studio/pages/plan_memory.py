"""Plan: what is in a GPU's memory, part by part, and which ways to place the run there are."""

import math

from nudge.plan.layout import Layout
from nudge.plan.planner import Plan
from nudge.studio.components import bar, box, card, text
from nudge.studio.words import Words
from nudge.util import formatting

_ACCENT, _BLUE = "var(--accent)", "var(--blue)"


def _mixed(color: str, percent: int) -> str:
    return f"color-mix(in srgb,{color} {percent}%,var(--surface))"


COLORS = {  # of the parts of a GPU's memory: what grows with the micro-batch is orange, the state is blue
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
    """What is in a GPU's memory at the peak, and which layouts there are."""
    layout = plan.layout
    tokens = f"{formatting.whole(layout.micro_batch)} × {formatting.whole(plan.ask.model.block_size)}"
    together = f"{formatting.size(layout.needed_bytes)} / {formatting.capacity(layout.memory_bytes)}"

    def right() -> None:
        text(together, "s13 num m" + ("" if layout.fits else " bad"))

    whole = max(layout.memory_bytes, layout.needed_bytes)
    parts = [(name, layout.parts[name], color) for name, color in COLORS.items()]
    with card(t("plan.memory"), t("plan.memory_note", tokens=tokens), "memory", right=right):
        with box("parts", role="img", aria_label=together):
            for _, size, color in parts:
                if size:
                    bar(size / whole, style=f"background:{color}")
            if layout.fits:
                text(t("plan.free", free=formatting.size(layout.free_bytes)), "free s12 ink3")
            else:
                box("end", style=f"left:{100 * layout.memory_bytes / whole:.2f}%")
        _axis(whole)
        with box("parts-legend", tag="dl"):
            for name, size, color in parts:
                if size:
                    with box("k"):
                        box("sw square", style=f"background:{color}")
                        text(t(f"plan.memory_of.{name}"), "s13 ink2", tag="dt")
                        text(formatting.size(size), "s13 num m", tag="dd")
        if len(plan.layouts) > 1:
            _layouts(t, plan)


def _axis(n_bytes: int) -> None:
    """Gigabytes below the bar, about six of them."""
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
    with box("layouts", tag="table"):
        with box(tag="thead"), box(tag="tr"):
            for name in ("layout", "micro_batch", "memory", "on_a_gpu"):
                text(t(f"plan.{name}"), tag="th", scope="col")
        with box(tag="tbody"):
            for layout in plan.layouts:
                with box("on" if layout is plan.layout else "", tag="tr"):
                    text(layout_name(t, layout), tag="td")
                    text(formatting.whole(layout.micro_batch), tag="td")
                    text(formatting.size(layout.needed_bytes), tag="td")
                    says = "fits_not" if not layout.fits else "chosen" if layout is plan.layout else "would_fit"
                    with box(tag="td"):
                        text(t(f"plan.{says}"), {"chosen": "tag a", "fits_not": "bad"}.get(says, ""), tag="span")


def layout_name(t: Words, layout: Layout) -> str:
    """A layout in the person's words."""
    return t(f"plan.kind.{layout.kind}") + (t("plan.kind.recompute") if layout.recompute else "")
